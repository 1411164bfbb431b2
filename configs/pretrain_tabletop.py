"""Stage 1 of the small pre-trained start: the tiny model on the web shards alone.

    python experiments/pretrain/run.py        collects, runs stage 0, then this config

See experiments/pretrain/README.md for the figures to expect.
"""

from configs import tabletop


def get_config():
    config = tabletop.get_config()
    config.num_steps = 2400
    config.sources.tabletop.share = 0.0
    config.sources.web.share = 1.0
    del config.eval_sources.tabletop
    config.log_interval = 20
    config.eval_interval = 300
    config.eval_rows = 256
    config.save_interval = 200
    return config
