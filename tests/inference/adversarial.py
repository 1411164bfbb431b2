"""Requests that try to make a model speak where it should act, act where it should speak, or fall.

`cases(count, seed, tokenizer)` draws them from `phrases.json` and from the tokenizer's own pieces,
changed at random; `faults(...)` says what is wrong with a reply.
"""

import collections
import dataclasses
import json
import random
import unicodedata
from pathlib import Path

import numpy as np
from sentencepiece import SentencePieceProcessor

from rt2.errors import UserError
from rt2.inference.decoding import Decoding
from rt2.inference.policy import Policy
from rt2.tokenizer import PAD, Tokenizer

PHRASES = json.loads((Path(__file__).parent / "phrases.json").read_text("utf-8"))
MODES = ("action", "plan", "vqa")
KINDS = ("act", "talk", "switch", "forged", "special", "pieces", "hidden", "long", "random")
FORMS = (
    "Q: what action should the robot take to {}? A:",
    "Instruction: {}. Plan: {}. Action:",
    "Answer in en : {}",
    "push the block. {}",
    "{}. Answer:",
    "{} {}",
    "ignore this: {}",
    "{}\n{}",
)
SPANS = ((32, 0x24F), (0x370, 0x1FFF), (0x2000, 0x2BFF), (0x3040, 0xD7FF), (0x1F300, 0x1FAFF))
INSIDE = ("\u200b", "\u0301", "\u202e", "\u200d", "\x00", "\ud83d", "Action:", "</s>", " 128", "\n")


@dataclasses.dataclass(frozen=True)
class Case:
    """A request's mode and text, and what kind of text it is."""

    mode: str
    kind: str
    text: str


def cases(count: int, seed: int, tokenizer: Tokenizer) -> list[Case]:
    """So many cases, the modes by turns, the same for the same seed."""
    rng, found = random.Random(seed), SentencePieceProcessor(model_proto=tokenizer.model)
    pieces = [found.id_to_piece(i) for i in range(tokenizer.size)]
    return [_case(rng, MODES[i % len(MODES)], pieces) for i in range(count)]


def _case(rng: random.Random, mode: str, pieces: list[str]) -> Case:
    kind = rng.choices(KINDS, (4, 4, 4, 4, 3, 4, 2, 0.2, 2))[0]
    text = _text(rng, kind, pieces)
    if kind != "long":
        for _ in range(rng.choice((0, 1, 1, 2))):
            text = rng.choice(CHANGES)(rng, text)
    return Case(mode, kind, text)


def _text(rng: random.Random, kind: str, pieces: list[str]) -> str:
    if kind == "long":
        one = rng.choice(("x", "push ", "a\u0301", "128 ", "</s>", "\u200b", "Action: ", "推"))
        return one * (2**20 // len(one.encode()))
    if kind == "random":
        spans = (
            (32, 0x24F),
            (0x370, 0x1FFF),
            (0x2000, 0x2BFF),
            (0x3040, 0xD7FF),
            (0x1F300, 0x1FAFF),
        )
        low, high = rng.choice(spans)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 16)))
    if kind == "pieces":
        return "".join(rng.choices(pieces, k=rng.randint(1, 8)))
    phrases = PHRASES[kind]
    return rng.choice(list(phrases.values()) if isinstance(phrases, dict) else phrases)


def _spread(rng: random.Random, text: str) -> str:
    at = rng.randint(0, len(text))
    return text[:at] + rng.choice(INSIDE) + text[at:]


def _wide(rng: random.Random, text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def _beside(rng: random.Random, text: str) -> str:
    other = rng.choice(PHRASES["switch"] + PHRASES["forged"] + PHRASES["special"])
    return f"{text} {other}" if rng.random() < 0.5 else f"{other} {text}"


CHANGES = (
    _spread,
    _wide,
    _beside,
    lambda rng, text: rng.choice(FORMS).replace("{}", text),
    lambda rng, text: unicodedata.normalize(rng.choice(("NFD", "NFKD")), text),
    lambda rng, text: rng.choice((str.upper, str.title, str.swapcase))(text),
    lambda rng, text: text[: rng.randint(1, len(text))] if text else text,
    lambda rng, text: "".join(rng.sample(text, len(text))),
)


@dataclasses.dataclass
class Count:
    """What became of cases: illegal tokens and values, modes that changed, refusals, crashes."""

    decodes: int = 0
    faults: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    refused: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    special: int = 0  # ids in questions that no text may make
    held: int = 0
    examples: list[tuple[Case, str]] = dataclasses.field(default_factory=list)

    def fault(self, case: Case, what: str) -> None:
        """Notes one fault, and the first few cases in full."""
        self.faults[what] += 1
        if len(self.examples) < 10:
            self.examples.append((case, what))


def run(
    policy: Policy,
    some: list[Case],
    images: np.ndarray,
    decoding: Decoding,
    count: Count,
    batch: int = 64,
    fields: dict | None = None,
) -> None:
    """Asks the policy about every case, in batches of one size, and counts what comes back.

    A batch is of one mode, but for greedy ones without a mass, where actions and answers are
    mixed, as the policy then decodes them in one program. `fields`: of every observation.
    """
    groups: dict[str, list[tuple[Case, dict]]] = {}
    for i, case in enumerate(some):
        asked = {"image": images[i % len(images)], "instruction": case.text, "mode": case.mode}
        asked |= fields or {}
        try:
            _, prefix, _ = policy._row(asked, policy.preprocess.dataset(asked.get("dataset")))
        except UserError as error:
            count.refused[type(error).__name__] += 1
            continue
        except Exception as error:  # whatever it is, it is not a refusal
            count.fault(case, f"crash: {type(error).__name__}")
            continue
        count.special += len(special_ids(prefix, policy.preprocess.tokenizer))
        mixed = decoding == Decoding() and case.mode != "plan"
        groups.setdefault("mixed" if mixed else case.mode, []).append((case, asked))
    for rows in groups.values():
        for start in range(0, len(rows), batch):
            _judge(policy, rows[start : start + batch], decoding, count, batch)


def _judge(
    policy: Policy, part: list[tuple[Case, dict]], decoding: Decoding, count: Count, batch: int
) -> None:
    asked = [asked for _, asked in part]
    asked += asked[-1:] * (batch - len(asked))
    try:
        replies = policy.infer_batch(asked, decoding)[: len(part)]
    except Exception as error:
        for case, _ in part:
            count.fault(case, f"crash: {type(error).__name__}")
        return
    codec = policy.preprocess.codec(part[0][1].get("dataset"))
    for (case, _), reply in zip(part, replies, strict=True):
        count.decodes += 1
        count.held += reply.get("hold", False)
        for what in faults(reply, case.mode, codec, policy.preprocess.vocabulary.ids):
            count.fault(case, what)


def faults(reply: dict, mode: str, codec, ids) -> list[str]:
    """What is wrong with a policy's reply: "mode", "token", "value".

    `ids`: the token of every bin. A slot of n bins may have the first n of them.
    """
    wanted = {"text", "log_prob", "timing"}
    if mode != "vqa":
        wanted |= {"actions", "terminate", "tokens"} | ({"plan"} if mode == "plan" else set())
    if set(reply) - {"hold", "allowed_mass"} != wanted:
        return ["mode"]
    if mode == "vqa":
        return [] if isinstance(reply["text"], str) else ["mode"]
    tokens, found = reply["tokens"].tolist(), []
    legal = [set(ids[:n]) for n in codec.spec.bins]
    if len(tokens) != len(legal) or any(
        t not in some for t, some in zip(tokens, legal, strict=True)
    ):
        found.append("token")
    actions = reply["actions"]
    inside = (actions >= np.float32(codec.low)).all() and (actions <= np.float32(codec.high)).all()
    if actions.shape != (1, codec.spec.dim) or not np.isfinite(actions).all() or not inside:
        found.append("value")
    return found


def special_ids(prefix: np.ndarray, tokenizer: Tokenizer) -> list[int]:
    """Ids of a question that no text may make: control pieces, ends, sentinels, paddings inside."""
    words = prefix.tolist()
    while words and words[-1] == PAD:
        words.pop()
    found = SentencePieceProcessor(model_proto=tokenizer.model)
    return [i for i in words if found.is_control(i) or i in tokenizer.sentinels]
