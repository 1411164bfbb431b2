"""PaliGemma-3B on the kitchen data and the web mixture: RT-2-PaLM-E's recipe from public weights.

    python -m rt2.plan --config=configs/fractal_paligemma_3b.py --topology=v5e:8x8
    python -m rt2.train --config=configs/fractal_paligemma_3b.py --workdir=runs/paligemma_3b

Wants paligemma-3b-pt-224 (the folder with its tokenizer.model) below data/weights. Batch, rate,
schedule and optimizer are those of PaliGemma's transfer to VQAv2 (big_vision's configs); the number
of steps is chosen here. Questions stand between <bos> and a newline, as the weights know them;
actions take the place of the 256 least used tokens.
"""

from configs import fractal_palme_12b


def get_config():
    config = fractal_palme_12b.get_config()
    config.num_steps = 100_000
    config.batch_size = 256
    config.init_from = "data/weights/paligemma-3b-pt-224"
    config.model.variant = "paligemma_3b"
    config.tokenizer.path = "data/weights/paligemma-3b-pt-224/tokenizer.model"
    config.tokenizer.vocab_size = 257_152
    config.prompt.bos = True
    config.prompt.suffix = "\n"
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-5
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 5_000
    config.optimizer.b2 = 0.999
    config.optimizer.weight_decay = 0.1  # relative to the rate; there 1e-6, which is not
    return config
