"""Our side: the trainer's own step.

python experiments/step/ours.py write SIZE WEIGHTS            draws parameters
python experiments/step/ours.py train SIZE WEIGHTS --steps=N  prints one line of JSON
"""

import argparse
import functools
import json
import time
from pathlib import Path

import jax
import numpy as np
import products
from safetensors import safe_open
from safetensors.numpy import save_file
from sizes import SIZES, Size, batches, peak_mb

from configs import common
from rt2.models import flops
from rt2.models.build import Model
from rt2.models.encoder_decoder import TextConfig
from rt2.models.pali import PaliConfig
from rt2.models.vit import ViTConfig
from rt2.train import sharding
from rt2.train.optimizer import make_optimizer
from rt2.train.settings import make_step
from rt2.train.step import StepSettings, init_state

RATE = 1e-3


def make_model(size: Size, remat: str) -> Model:
    """The size as a model of the PaLI family, in float32 as CPUs want it."""
    vision = ViTConfig(patch=size.patch, image_size=size.image, class_token=True, **size.vision)
    text = dict(size.text)
    layers = text.pop("layers")
    config = TextConfig(encoder_layers=layers, decoder_layers=layers, **text)
    return Model(PaliConfig(vision, config, dtype="float32", remat=remat))


def make_settings(size: Size, remat: str) -> StepSettings:
    """The default optimizer at a constant rate."""
    config, model = common.get_config(), make_model(size, remat)
    config.optimizer.learning_rate, config.optimizer.warmup_steps = RATE, 1
    optimizer = make_optimizer(config.optimizer, 1000, model)
    return StepSettings(model, optimizer, sources=1, seed=0, brightness=0.0, contrast=0.0)


def main() -> None:
    """Trains a few steps and prints what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["write", "train", "products", "flops"])
    parser.add_argument("size", choices=sorted(SIZES))
    parser.add_argument("weights", type=Path)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--remat", default="dots")
    args = parser.parse_args()
    size = SIZES[args.size]
    settings = make_settings(size, args.remat)
    if args.mode == "flops":  # a forward and a backward pass of a batch
        once = flops.forward(settings.model, 1, size.prefix, size.target)
        print(json.dumps({"flops": 3 * size.rows * once}))
        return
    mesh = sharding.make_mesh({"data": 1, "fsdp": 1, "tensor": 1})
    make = functools.partial(init_state, settings)
    _, placed = sharding.lay_out(make, settings.model, "dp", mesh)
    state = jax.block_until_ready(jax.jit(make, out_shardings=placed)(jax.random.key(0)))
    step = make_step(settings, placed, mesh)
    stream = batches(size)
    if args.mode == "products":
        text = step.lower(state, next(stream)).compile().as_text()
        print(json.dumps({"plain": products.plain(size), "own": products.own(text)}))
        return
    if args.mode == "write":
        save_file({name: np.asarray(value) for name, value in state.params.items()}, args.weights)
        print("{}")
        return
    params = state.params
    for path in params:  # the peak shall be the step's: an open file's pages would count
        with safe_open(args.weights, "np") as file:
            loaded = jax.device_put(file.get_tensor(path), placed.params[path])
        params[path] = jax.block_until_ready(loaded)
    start_mb = peak_mb()
    losses, seconds = [], []
    began = time.perf_counter()
    state, metrics = step(state, next(stream))
    losses.append(float(metrics["loss"]))
    first = time.perf_counter() - began
    for i in range(1, args.warmup + args.steps):
        batch = next(stream)
        if args.profile and i == args.warmup:
            jax.profiler.start_trace(args.profile)
        began, cpu = time.perf_counter(), time.process_time()
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
        jax.block_until_ready(state)
        if i >= args.warmup:
            seconds.append(time.perf_counter() - began)
    if args.profile:
        jax.profiler.stop_trace()
    figures = {
        "losses": losses,
        "seconds": seconds,
        "cpu_seconds_last": time.process_time() - cpu,
        "first_step_seconds": first,
        "start_peak_rss_mb": start_mb,
        "peak_rss_mb": peak_mb(),
        "parameters": settings.model.size,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
