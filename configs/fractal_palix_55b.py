from configs import common


def get_config():
    config = common.get_config()
    config.num_steps = 80_000
    config.batch_size = 2048
    config.model.variant = "palix_55b"
    config.model.remat = True
    config.tokenizer.vocab_size = 250_100
    config.prefix_length = 64
    config.target_length = 64
    config.mesh.data = 1
    config.mesh.fsdp = -1
    return config
