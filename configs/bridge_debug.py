"""Fits the 25 real training episodes of the BridgeData V2 sample; minutes on a laptop CPU.

    make train CONFIG=configs/bridge_debug.py ARGS="--config.data_dir=DIR"

Expect at least 95 % action-token accuracy on the training episodes. The held-out error is that of
a policy that has seen 25 episodes.
"""

from configs import common

DATA = "../shared/data/bridge_dataset/1.0.0"


def get_config():
    config = common.get_config()
    config.num_steps = 600
    config.batch_size = 64
    config.model.variant = "tiny"
    config.model.dtype = "float32"
    config.tokenizer.vocab_size = 1400
    config.prefix_length = 48
    config.target_length = 16
    config.sources.bridge = common.source(
        "robot", DATA, split="train", spec="bridge_dataset", share=1.0
    )
    config.eval_sources.bridge_train = common.source(
        "robot", DATA, split="train", spec="bridge_dataset", share=1.0
    )
    config.eval_sources.bridge_val = common.source(
        "robot", DATA, split="val", spec="bridge_dataset", share=1.0
    )
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.eval_rows = 1000
    return config
