"""Fits the 25 real training episodes of the BridgeData V2 sample; minutes on a laptop CPU.

    make train CONFIG=configs/bridge_debug.py             the 25 episodes of the train split
    make train CONFIG=configs/bridge_debug.py:held_out    20 of them, the other 5 held out

Expect at least 95 % action-token accuracy on the episodes that are trained on. In this sample the
val split holds the same 25 episodes as train, so that its error is no held-out error; that of
`held_out` is, and is that of a policy that has seen 20 episodes.
"""

from configs import common

DATA = "../shared/data/bridge_dataset/1.0.0"


def get_config(arg=""):
    if arg not in ("", "held_out"):
        raise ValueError(f"configs/bridge_debug.py:{arg}: the argument is held_out or nothing")
    train, held_out = ("train[:20]", "train[20:]") if arg else ("train", "val")
    config = common.get_config()
    config.num_steps = 500
    config.batch_size = 64
    config.model.variant = "tiny"
    config.model.dtype = "float32"
    config.tokenizer.vocab_size = 1400
    config.prefix_length = 48
    config.target_length = 16
    config.sources.bridge = _source(train)
    config.eval_sources.bridge_train = _source(train)
    config.eval_sources.bridge_held_out = _source(held_out)
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.eval_rows = 1000
    return config


def _source(split):
    return common.source("robot", DATA, split=split, spec="bridge_dataset", share=1.0)
