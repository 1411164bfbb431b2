"""The same action in PyTorch: the twin of experiments/step, decoded in three ways.

    python experiments/decode/peer.py SIZE VOCAB FOLDER

`eager` and `compiled` are `transformers`' `generate` with a logits processor for each position,
`loop` is a compiled step with a static cache, written by hand. Runs in any environment that has
torch, transformers (extra `oracle`) and safetensors.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from cases import SLOTS, case, files
from loop import Loop
from measuring import serve
from torch._inductor import config as inductor
from transformers import CompileConfig, LogitsProcessor
from transformers.modeling_outputs import BaseModelOutput

from experiments.step.peer import Twin, load_weights


class Grammar(LogitsProcessor):
    """Minus infinity for what the slot does not allow."""

    def __init__(self, table: np.ndarray, vocab: int):
        self.mask = torch.full((len(table), vocab), -torch.inf)
        for row, allowed in zip(self.mask, table, strict=True):
            row[torch.from_numpy(allowed[allowed >= 0]).long()] = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores + self.mask[input_ids.shape[1] - 1]


class Encode(torch.nn.Module):
    """Image and prefix to the encoder's output."""

    def __init__(self, twin: Twin):
        super().__init__()
        self.twin = twin

    def forward(self, image: torch.Tensor, prefix: torch.Tensor) -> tuple:
        pixels = image[:, 0].permute(0, 3, 1, 2).float() / 127.5 - 1
        visual = self.twin.projection(self.twin.vision(pixels).last_hidden_state[:, 1:])
        embedded = torch.cat([visual, self.twin.text.shared(prefix)], dim=1)
        seen = torch.cat([torch.ones(visual.shape[:2], dtype=torch.bool), prefix != 0], dim=1)
        encoder = self.twin.text.get_encoder()
        return encoder(inputs_embeds=embedded, attention_mask=seen).last_hidden_state, seen


class FrozenEncode(Encode):
    """The same under a name of its own: compiled programs are kept by the code of `forward`."""

    def forward(self, image: torch.Tensor, prefix: torch.Tensor) -> tuple:
        return super().forward(image, prefix)


def generate(twin: Twin, grammar: Grammar, options: dict, memory: tuple) -> list[int]:
    """The tokens of one action."""
    found = twin.text.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory[0]),
        attention_mask=memory[1],
        logits_processor=[grammar],
        max_new_tokens=SLOTS,
        min_new_tokens=SLOTS,
        do_sample=False,
        use_cache=True,
        **options,
    )
    return found[0, 1:].tolist()


def jobs(twin: Twin, inputs: dict[str, torch.Tensor]) -> dict[str, Callable[[], list[int]]]:
    """Whole action, encoding and decoding in each of the ways; bandwidth."""
    image, prefix = inputs["image"], inputs["prefix"]
    grammar = Grammar(inputs["table"].numpy(), twin.text.config.vocab_size)
    eager = Encode(twin)
    compiled = torch.compile(eager)
    config = CompileConfig(fullgraph=False, mode="default")
    config._compile_all_devices = True  # else `generate` compiles for accelerators alone
    static = {"cache_implementation": "static", "compile_config": config}
    ways = {
        "eager": (eager, functools.partial(generate, twin, grammar, {})),
        "compiled": (compiled, functools.partial(generate, twin, grammar, static)),
        "loop": (torch.compile(FrozenEncode(twin)), Loop(twin, grammar.mask)),
    }
    # torch's fastest: weights packed for the products; `generate` gives wrong indices with it
    with inductor.patch(freezing=True):
        encode, decode = ways["loop"]
        decode(encode(image, prefix))
    found = {"bandwidth": bandwidth()}
    for name, (encode, decode) in ways.items():
        memory = eager(image, prefix)
        found[f"{name}_whole"] = lambda e=encode, d=decode: d(e(image, prefix))
        found[f"{name}_encode"] = lambda e=encode: [int(e(image, prefix)[1].sum())]
        found[f"{name}_decode"] = lambda m=memory, d=decode: d(m)
    return found


def bandwidth() -> Callable[[], list[int]]:
    """Reads one GB of float32 by torch's product of a matrix and a vector."""
    made: list[torch.Tensor] = []

    def read() -> list[int]:
        if not made:
            made.extend((torch.ones(32_768, 8_192), torch.ones(8_192)))
        return [int(torch.mv(*made)[0])]

    return read


def main() -> None:
    """Measures what it is asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size")
    parser.add_argument("vocab", type=int)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    size = case(args.size, args.vocab)
    weights, inputs = files(args.folder, args.size, args.vocab)
    twin = Twin(size).eval()
    load_weights(twin, weights, size)
    arrays = np.load(inputs)
    with torch.inference_mode():
        serve(jobs(twin, {key: torch.from_numpy(arrays[key]) for key in arrays}))


if __name__ == "__main__":
    main()
