"""The whole of training in under a minute on a laptop CPU, on the tabletop's data; learns nothing.

make train CONFIG=configs/debug.py
"""

from configs import tabletop


def get_config():
    config = tabletop.get_config()
    config.init_from = ""
    config.num_steps = 20
    config.batch_size = 16
    config.model.variant = "debug"
    config.tokenizer.vocab_size = 2000
    config.prefix_length = 40
    config.target_length = 64
    config.log_interval = 5
    config.eval_interval = 10
    config.eval_rows = 32
    config.save_interval = 10
    return config
