"""Does a request stay what it is, whatever its text says?

python experiments/adversarial/run.py --checkpoint=runs/tabletop            writes results.json
python experiments/adversarial/run.py --checkpoint=runs/tabletop --quick    under a minute, prints
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import sys
import time
import unicodedata
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import jax  # noqa: E402
import numpy as np  # noqa: E402
import psutil  # noqa: E402

from experiments.adversarial import served  # noqa: E402
from rt2.errors import UserError  # noqa: E402
from rt2.evaluate.provenance import commit, machine  # noqa: E402
from rt2.inference.decoding import Decoding  # noqa: E402
from rt2.inference.policy import Policy  # noqa: E402
from rt2.sim.tabletop import TabletopEnv  # noqa: E402
from tests.inference import adversarial  # noqa: E402

PREFIX = 160  # tokens of a question, so that long ones reach the model and are not refused
HOLD = 0.5
WAYS = {
    "greedy": Decoding(),
    "hold": Decoding(hold_below=HOLD),
    "drawn": Decoding(temperature=1.5, top_p=0.95, seed=1, hold_below=HOLD),
}


def main() -> None:
    """Runs all, prints, writes the rows; fails on any fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="of the tabletop, trained")
    parser.add_argument("--quick", action="store_true", help="a twentieth of it, no file")
    parser.add_argument("--only", choices=("decodes", "random", "served", "twins", "hold", "soak"))
    args = parser.parse_args()
    part = 20 if args.quick else 1
    trained = roomy(Policy.load(args.checkpoint))
    random = Policy(trained.model, drawn(trained), trained.preprocess, trained.metadata)
    frames, words = scenes(max(500 // part, 64))
    parts = {
        "decodes": lambda: decodes("trained", trained, frames, 11_000 // part),
        "random": lambda: decodes("random", random, frames, 2_200 // part),
        "served": lambda: transports(trained, frames, 1_200 // part),
        "twins": lambda: twins(trained, frames, 40 if args.quick else 500),
        "hold": lambda: holds(trained, random, frames, words),
        "soak": lambda: soak(trained, frames, 6_000 // part),
    }
    made = []
    for name in [args.only] if args.only else parts:
        made += parts[name]()
    for name, value, unit, n in made:
        print(f"{name:32} {value} {unit} (n = {n})")
    if not args.quick:
        keep(made)
    zero = ("faults", "crashes", "ids", "compiled")
    wrong = [row[0] for row in made if row[1] and row[0].endswith(zero)]
    if wrong:
        sys.exit(f"not zero: {', '.join(wrong)}")


def roomy(policy: Policy) -> Policy:
    """The policy with room for long questions."""
    wide = dataclasses.replace(policy.preprocess, prefix_length=PREFIX)
    return Policy(policy.model, policy.held, wide, policy.metadata)


def drawn(policy: Policy) -> dict:
    """Random weights of the same model."""
    return policy.model.apart(jax.jit(policy.model.init)(jax.random.key(0)))


def scenes(count: int) -> tuple[np.ndarray, list[str]]:
    """First frames of episodes on the tabletop, and their instructions."""
    env = TabletopEnv(task="reach")
    frames, words = [], []
    for seed in range(count):
        frames.append(env.reset(seed=seed)[0]["rgb"])
        words.append(env.scene.instruction)
    return np.stack(frames), words


def decodes(name: str, policy: Policy, frames: np.ndarray, each: int) -> list[tuple]:
    """All ways of decoding by turns: cases, illegal tokens and values, modes, refusals, crashes."""
    began, every = time.monotonic(), adversarial.Count()
    some = adversarial.cases(each, 1, policy.preprocess.tokenizer)
    third = -(-len(some) // len(WAYS))
    third += -third % len(adversarial.MODES)
    for number, decoding in enumerate(WAYS.values()):
        chosen = some[number * third : (number + 1) * third]
        adversarial.run(policy, chosen, frames, decoding, every)
    for case, what in every.examples:
        print(name, what, case.mode, ascii(case.text[:80]), file=sys.stderr)
    n, crashes = every.decodes, sum(v for k, v in every.faults.items() if k.startswith("crash"))
    return [
        (f"{name}_decodes", n, "decodes", len(some)),
        (f"{name}_texts", len({case.text for case in some}), "different texts", len(some)),
        (f"{name}_token_faults", every.faults["token"], "decodes", n),
        (f"{name}_value_faults", every.faults["value"], "decodes", n),
        (f"{name}_mode_faults", every.faults["mode"], "decodes", n),
        (f"{name}_special_ids", every.special, "ids of questions", n),
        (f"{name}_crashes", crashes, "requests", len(some)),
        (f"{name}_refused", sum(every.refused.values()), "requests", len(some)),
        (f"{name}_seconds", round(time.monotonic() - began), "s", n),
    ]


def transports(policy: Policy, frames: np.ndarray, count: int) -> list[tuple]:
    """The same through the server, half over websockets and half over HTTP."""
    some = adversarial.cases(count, 2, policy.preprocess.tokenizer)
    found = served.ask_all(policy, some, frames)
    answered = found["answered"]
    return [
        ("served_decodes", answered, "replies", count),
        ("served_token_faults", found["token"] + found["value"], "replies", answered),
        ("served_mode_faults", found["mode"], "replies", answered),
        ("served_crashes", found["internal"], "requests", count),
        ("served_refused", found["refused"], "requests", count),
    ]


def twins(policy: Policy, frames: np.ndarray, count: int) -> list[tuple]:
    """Texts in NFD, or with zero-width characters inside, against the same texts in NFC."""
    some = [
        case.text
        for case in adversarial.cases(8 * count, 3, policy.preprocess.tokenizer)
        if case.kind in ("act", "talk", "hidden")
    ]
    plain, other = [], []
    for text in some:
        row = {"image": frames[0], "instruction": unicodedata.normalize("NFC", text)}
        changed = unicodedata.normalize("NFD", text[:1] + "\u200b" + text[1:] + "\ufeff")
        try:
            policy._row(row, policy.preprocess.dataset())
        except ValueError:
            continue
        plain.append(row)
        other.append(row | {"instruction": changed})
    plain, other = plain[: count // 64 * 64 or 64], other[: count // 64 * 64 or 64]
    first, second = policy.infer_batch(plain), policy.infer_batch(other)
    pairs = zip(first, second, strict=True)
    different = sum(one["text"] != two["text"] for one, two in pairs)
    return [("twin_faults", different, "pairs", len(plain))]


def holds(trained: Policy, random: Policy, frames: np.ndarray, words: list[str]) -> list[tuple]:
    """Which part of the replies says hold, below half of the probability."""
    usual = [{"image": f, "instruction": w} for f, w in zip(frames, words, strict=True)]
    talk = list(adversarial.PHRASES["talk"].values())
    asked = [row | {"instruction": talk[i % len(talk)]} for i, row in enumerate(usual)]
    rows = {
        "random_held": (random, asked),
        "random_held_on_usual": (random, usual),
        "trained_held_on_usual": (trained, usual),
        "trained_held_on_requests_to_talk": (trained, asked),
    }
    made = []
    for name, (policy, some) in rows.items():
        some = some[: len(some) // 64 * 64]
        replies = policy.infer_batch(some, WAYS["hold"])
        share = round(100 * sum(reply["hold"] for reply in replies) / len(some), 2)
        made.append((name, share, "%", len(some)))
    return made


def soak(policy: Policy, frames: np.ndarray, count: int) -> list[tuple]:
    """One request after the other; what was compiled, memory and times after the first sixth."""
    compiled, took, first, last = [], [], 0, 0
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if "backend_compile" in event else None
    )
    for i, case in enumerate(adversarial.cases(count, 4, policy.preprocess.tokenizer)):
        if i == count // 6:
            first, last = len(compiled), psutil.Process().memory_info().rss
        began = time.perf_counter()
        with contextlib.suppress(UserError):
            policy.infer(
                {"image": frames[i % len(frames)], "instruction": case.text, "mode": case.mode}
            )
            if case.mode == "action":
                took.append(1e3 * (time.perf_counter() - began))
    grown = psutil.Process().memory_info().rss - last
    sixth = len(took) // 6
    early, late = (float(np.percentile(x, 99)) for x in (took[sixth : 2 * sixth], took[-sixth:]))
    return [
        ("soak_programs_at_first", first, "programs", count // 6),
        ("soak_compiled", len(compiled) - first, "programs", count - count // 6),
        ("soak_rss_growth", round(grown / 1e6, 1), "MB", count - count // 6),
        ("soak_action_p99_second_sixth", round(early, 1), "ms", sixth),
        ("soak_action_p99_last_sixth", round(late, 1), "ms", sixth),
    ]


def keep(made: list[tuple]) -> None:
    """Writes the findings as result rows, beside those of parts that were not run."""
    here = machine()
    stamp = {
        "commit": commit(),
        "machine": f"{here['cpu']}, {here['cores']} cores",
        "date": datetime.date.today().isoformat(),
    }
    rows = [
        {"name": name, "ours": value, "peer": None, "ratio": None, "unit": unit, "n": n}
        | {"interval": None}
        | stamp
        for name, value, unit, n in made
    ]
    file = HERE / "results.json"
    before = json.loads(file.read_text("utf-8")) if file.is_file() else []
    every = {row["name"]: row for row in [*before, *rows]}
    file.write_text(json.dumps(list(every.values()), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
