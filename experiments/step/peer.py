"""The twin in PyTorch: `transformers` ViT -> linear -> T5 v1.1 through `inputs_embeds`.

    python experiments/step/peer.py eager|compiled SIZE WEIGHTS --steps=N

Prints one line of JSON. Runs in any environment that has torch and transformers (extra `oracle`).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from sizes import SIZES, Size, batches, peak_mb
from torch.utils.flop_counter import FlopCounterMode
from transformers import Adafactor, T5Config, T5ForConditionalGeneration, ViTConfig, ViTModel

RATE, CLIP = 1e-3, 1.0
FACTORED_FROM = 128  # T5X keeps whole second moments of what has a smaller side


class Twin(torch.nn.Module):
    """Loss of a batch."""

    def __init__(self, size: Size):
        super().__init__()
        vision, text = size.vision, size.text
        self.vision = ViTModel(
            ViTConfig(
                hidden_size=vision["width"],
                num_hidden_layers=vision["depth"],
                num_attention_heads=vision["heads"],
                intermediate_size=vision["mlp"],
                image_size=size.image,
                patch_size=size.patch,
                hidden_act="gelu_pytorch_tanh",
                layer_norm_eps=1e-6,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )
        self.projection = torch.nn.Linear(vision["width"], text["width"])
        config = T5Config(
            d_model=text["width"],
            d_kv=text["head_dim"],
            d_ff=text["mlp"],
            num_heads=text["heads"],
            num_layers=text["layers"],
            num_decoder_layers=text["layers"],
            vocab_size=text["vocab"],
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            dropout_rate=0.0,
            use_cache=False,
            decoder_start_token_id=0,
        )
        # transformers 5 ties all or nothing: T5 v1.1 has a head of its own and one embedding
        config.tie_word_embeddings = False
        self.text = T5ForConditionalGeneration(config)
        self.text.set_input_embeddings(self.text.shared)

    def forward(self, image, prefix, target):
        pixels = image[:, 0].permute(0, 3, 1, 2).float() / 127.5 - 1
        visual = self.projection(self.vision(pixels).last_hidden_state[:, 1:])
        embedded = torch.cat([visual, self.text.shared(prefix)], dim=1)
        seen = torch.cat([torch.ones(visual.shape[:2], dtype=torch.bool), prefix != 0], dim=1)
        return self.text(inputs_embeds=embedded, attention_mask=seen, labels=target).loss


class T5xAdafactor(Adafactor):
    """transformers' Adafactor with T5X's rule of what is factored."""

    @staticmethod
    def _get_options(param_group, param_shape):
        large = len(param_shape) > 1 and min(param_shape[-2:]) >= FACTORED_FROM
        return large, param_group["beta1"] is not None


def load_weights(twin: Twin, path: Path, size: Size) -> None:
    """The parameters that our side wrote, under transformers' names; each must have a place."""
    ours = load_file(path)
    state = {"vision.embeddings.cls_token": ours["vision/class_token"][None, None]}
    first = np.zeros((1, size.vision["width"]), np.float32)  # ours adds no position to the class
    position = np.concatenate([first, ours["vision/position"]])
    state["vision.embeddings.position_embeddings"] = position[None]
    patch = ours["vision/embed/kernel"].reshape(size.patch, size.patch, 3, -1)
    state["vision.embeddings.patch_embeddings.projection.weight"] = patch.transpose(3, 2, 0, 1)
    state["vision.embeddings.patch_embeddings.projection.bias"] = ours["vision/embed/bias"]
    state |= norm("vision.layernorm", ours, "vision/norm")
    state |= linear("projection", ours, "projection", 1)
    block = "vision/blocks"
    for i in range(size.vision["depth"]):
        there = f"vision.layers.{i}"
        state |= norm(f"{there}.layernorm_before", ours, f"{block}/norm_attention", i)
        state |= norm(f"{there}.layernorm_after", ours, f"{block}/norm_mlp", i)
        for name in ("query", "key", "value", "out"):
            letter = name[0]
            state |= linear(
                f"{there}.attention.{letter}_proj", ours, f"{block}/attention/{name}",
                2 if name == "out" else 1, i,
            )  # fmt: skip
        state |= linear(f"{there}.mlp.fc1", ours, f"{block}/mlp/wide", 1, i)
        state |= linear(f"{there}.mlp.fc2", ours, f"{block}/mlp/out", 1, i)
    for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens"):
        state[f"text.{name}.weight"] = ours["text/embedding"]
    state["text.lm_head.weight"] = ours["text/head"]
    for tower in ("encoder", "decoder"):
        state |= stack(tower, ours, size.text["layers"])
    twin.load_state_dict(
        {name: torch.as_tensor(value) for name, value in state.items()}, strict=True
    )


def stack(tower: str, ours: dict, layers: int) -> dict:
    """One stack of T5."""
    state = norm(f"text.{tower}.final_layer_norm", ours, f"text/{tower}_norm")
    first = f"text.{tower}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    state[first] = ours[f"text/{tower}_bias/table"]
    parts = [
        ("SelfAttention", "attention"),
        ("EncDecAttention", "cross"),
        ("DenseReluDense", "mlp"),
    ]
    if tower == "encoder":
        parts.pop(1)
    for i in range(layers):
        for j, (theirs, mine) in enumerate(parts):
            there, here = f"text.{tower}.block.{i}.layer.{j}", f"text/{tower}"
            state |= norm(f"{there}.layer_norm", ours, f"{here}/norm_{mine}", i)
            names = {"q": "query", "k": "key", "v": "value", "o": "out"}
            if mine == "mlp":
                names = {"wi_0": "gate", "wi_1": "wide", "wo": "out"}
            for short, name in names.items():
                inputs = 2 if short == "o" else 1
                state |= linear(
                    f"{there}.{theirs}.{short}", ours, f"{here}/{mine}/{name}", inputs, i
                )
    return state


def linear(there: str, ours: dict, here: str, inputs: int, layer: int | None = None) -> dict:
    """Weight and bias of a Linear; `inputs` axes of our kernel are contracted."""
    kernel = ours[f"{here}/kernel"]
    kernel = kernel if layer is None else kernel[layer]
    rows = int(np.prod(kernel.shape[:inputs]))
    state = {f"{there}.weight": kernel.reshape(rows, -1).T}
    if f"{here}/bias" in ours:
        bias = ours[f"{here}/bias"]
        state[f"{there}.bias"] = (bias if layer is None else bias[layer]).reshape(-1)
    return state


def norm(there: str, ours: dict, here: str, layer: int | None = None) -> dict:
    """Scale, and bias where there is one."""
    state = {}
    for theirs, mine in {"weight": "scale", "bias": "bias"}.items():
        if f"{here}/{mine}" in ours:
            value = ours[f"{here}/{mine}"]
            state[f"{there}.{theirs}"] = value if layer is None else value[layer]
    return state


def main() -> None:
    """Trains a few steps and prints what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["eager", "compiled", "flops"])
    parser.add_argument("size", choices=sorted(SIZES))
    parser.add_argument("weights", type=Path)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    size = SIZES[args.size]
    twin = Twin(size)
    load_weights(twin, args.weights, size)
    start_mb = peak_mb()
    optimizer = T5xAdafactor(
        twin.parameters(), lr=RATE, scale_parameter=True, relative_step=False, warmup_init=False
    )
    run = torch.compile(twin) if args.mode == "compiled" else twin

    def step(batch):
        loss = run(*(torch.from_numpy(batch[key]) for key in ("image", "prefix", "target")))
        optimizer.zero_grad()
        loss.backward()
        forward_backward = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), CLIP)
        optimizer.step()
        return loss.item(), forward_backward

    def convert(batch):
        return batch | {"target": batch["target"].astype(np.int64)}

    stream = map(convert, batches(size))
    if args.mode == "flops":
        with FlopCounterMode(display=False) as counter:
            step(next(stream))
        print(json.dumps({"flops": counter.get_total_flops()}))
        return
    began = time.perf_counter()
    losses, seconds, update = [step(next(stream))[0]], [], []
    first = time.perf_counter() - began
    for i in range(1, args.warmup + args.steps):
        batch = next(stream)
        began, cpu = time.perf_counter(), time.process_time()
        loss, middle = step(batch)
        losses.append(loss)
        if i >= args.warmup:
            seconds.append(time.perf_counter() - began)
            update.append(time.perf_counter() - middle)
    figures = {
        "losses": losses,
        "seconds": seconds,
        "update_seconds": update,
        "cpu_seconds_last": time.process_time() - cpu,
        "first_step_seconds": first,
        "start_peak_rss_mb": start_mb,
        "peak_rss_mb": peak_mb(),
        "parameters": sum(p.numel() for p in twin.parameters()),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
