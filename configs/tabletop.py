"""Co-fine-tunes the tiny model on the tabletop's robot episodes and its web shards.

    make train                                     data, training, evaluation, report
    make train ARGS="--config.init_from="          from scratch
    make train ARGS="--config.sources.web.share=0" fine-tuning on the robot data alone

What to expect stands in experiments/tabletop/README.md.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.num_steps = 1200
    config.batch_size = 128
    config.init_from = "experiments/pretrain/tiny.safetensors"
    # the start knows the words of objects that the robot data never show: they stay as they are
    config.frozen = ("vision/", "projection/", "text/embedding")
    config.model.variant = "tiny"
    config.model.dtype = "float32"
    config.target_length = 48
    config.sources.tabletop = common.source(
        "robot", "data/tabletop/1.0.0", split="train", spec="tabletop", share=0.95
    )
    config.sources.web = common.source(
        "web", "data/web/web-train-*.tar", split="", spec="", share=0.05
    )
    config.eval_sources.tabletop = common.source(
        "robot", "data/tabletop/1.0.0", split="val", spec="tabletop", share=1.0
    )
    config.eval_sources.vqa = common.source(
        "web", "data/web_vqa/1.0.0", split="validation", spec="", share=1.0
    )
    config.augment.brightness = 0.05
    config.augment.contrast = 0.05
    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 5e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 200
    config.eval_interval = 600
    config.save_interval = 300
    return config
