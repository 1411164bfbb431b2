"""RT-2-PaLI-3B on Language-Table: actions and the paper's four other tasks, of two frames each.

    python -m rt2.plan --config=configs/language_table_pali_3b.py --topology=v5e:4x4
    python -m rt2.train --config=configs/language_table_pali_3b.py --workdir=runs/language_table

Batch 128, rate 1e-3 and 300,000 steps are the paper's (appendix E); the weights of the five tasks
(appendix B) are not published: half of the rows are actions here.
"""

from configs import common

DATA = "data/language_table/0.0.1"
TASKS = {
    "action": 0.5,
    "instruction": 0.125,
    "position": 0.125,
    "timesteps": 0.125,
    "success": 0.125,
}


def get_config():
    config = common.get_config()
    config.num_steps = 300_000
    config.batch_size = 128
    config.history = 2
    config.model.variant = "pali3_5b"
    config.model.remat = "full"
    config.tokenizer.path = "data/tokenizers/t5.model"
    config.tokenizer.vocab_size = 32_100
    config.prefix_length = 64
    config.target_length = 64
    for task, share in TASKS.items():
        config.sources[task] = _source("train[:99%]", share, task)
    config.eval_sources.language_table = _source("train[99%:]", 1.0, "action")
    config.optimizer.warmup_steps = 1000
    config.mesh.data = 1
    config.mesh.fsdp = -1
    config.log_interval = 50
    config.eval_interval = 2000
    config.save_interval = 2000
    return config


def _source(split, share, task):
    return common.source("robot", DATA, split=split, spec="language_table", share=share, task=task)
