"""RT-2-PaLI-X-5B's stand-in (ViT-G/14 and UL2-3B): kitchen data and web mixture, half and half.

    python -m rt2.plan --config=configs/fractal_palix_5b.py --topology=v5e:8x8
    python -m rt2.train --config=configs/fractal_palix_5b.py --workdir=runs/palix_5b

Batch 2048, rate 1e-3 and 270,000 steps are the paper's (appendix E); its parts are unpublished.
"""

from configs import fractal_palix_55b


def get_config():
    config = fractal_palix_55b.get_config()
    config.num_steps = 270_000
    config.model.variant = "pali3_5b"
    config.tokenizer.path = "data/tokenizers/t5.model"
    config.tokenizer.vocab_size = 32_100
    return config
