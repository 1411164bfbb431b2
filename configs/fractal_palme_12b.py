"""RT-2-PaLM-E-12B: kitchen data (two thirds of a batch) and PaLM-E's web mixture.

    python -m rt2.plan --config=configs/fractal_palme_12b.py --topology=v4:4x4x4
    python -m rt2.train --config=configs/fractal_palme_12b.py --workdir=runs/palme_12b

Batch 512, rate 4e-4, a million steps and the share of robot rows are the paper's (appendix E,
section 3.3), as are the actions in place of the 256 least frequent tokens.
"""

from configs import fractal_palix_55b


def get_config():
    config = fractal_palix_55b.get_config()
    config.num_steps = 1_000_000
    config.batch_size = 512
    config.model.variant = "palme_12b"
    config.tokenizer.path = "data/tokenizers/palm.model"
    config.tokenizer.vocab_size = 256_000
    config.action_vocabulary = "overwrite"
    config.mixture = "rt2_palme"
    config.optimizer.learning_rate = 4e-4
    return config
