"""RT-2-PaLI-X-55B: co-fine-tuning on the RT-1 kitchen data and PaLI-X's web mixture, half and half.

    python -m rt2.plan --config=configs/fractal_palix_55b.py --topology=v4:4x4x4
    python -m rt2.train --config=configs/fractal_palix_55b.py --workdir=runs/palix_55b

Batch 2048, rate 1e-3 and 80,000 steps are the paper's (appendix E). Lengths, schedule and optimizer
are not published: Adafactor at a constant rate is T5X's fine-tuning. PaLI-X's weights are not
public, so that without `init_from` this trains from scratch. What it needs on v4, v5p and H100
stands in experiments/plan/README.md; for 512 chips take --config.mesh.data=2.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.num_steps = 80_000
    config.batch_size = 2048
    config.model.variant = "palix_55b"
    config.model.remat = "full"
    config.tokenizer.path = "data/tokenizers/mt5.model"
    config.tokenizer.vocab_size = 250_100
    config.prefix_length = 64
    config.target_length = 64
    config.mixture = "rt2_palix"
    config.data_dir = "data"
    config.share_period = 16
    config.eval_sources.fractal = common.source(
        "robot",
        "data/fractal20220817_data/0.1.0",
        split="train[99%:]",
        spec="fractal20220817_data",
        share=1.0,
    )
    config.mixture_robot.split = "train[:99%]"
    config.optimizer.warmup_steps = 1000
    config.mesh.data = 1
    config.mesh.fsdp = -1
    config.reader_threads = 8
    config.log_interval = 50
    config.eval_interval = 2000
    config.save_interval = 2000
    return config
