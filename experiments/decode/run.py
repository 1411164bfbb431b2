"""One action from image to numbers against the same model in PyTorch, on the CPU.

    python experiments/decode/run.py --peer-python=PATH    on idle cores, writes results.json
    python experiments/decode/run.py --quick               under a minute, prints only

PATH is the Python of an environment with torch and transformers (extra `oracle`) and safetensors.
Each side is a process of its own and waits while the other one works; they take turns. Rows: see
README.md.
"""

import argparse
import datetime
import os
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STEP = HERE.parent / "step"
sys.path[:0] = [str(ROOT), str(HERE), str(STEP)]

from cases import SLOTS, VOCABULARIES, case, files, touched_bytes  # noqa: E402
from measuring import Side  # noqa: E402
from sizes import SIZES  # noqa: E402

from experiments import results  # noqa: E402
from rt2.evaluate import provenance  # noqa: E402

ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(STEP)]),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # of both sides: large pages
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / "runs" / "decode" / "cache"),
}
COUNTS = {"debug": 20, "tiny": 40, "small": 15, "base": 6}  # calls a job and round
BATCHED = ("debug", "tiny")
PARTS = ("whole", "encode", "decode")


def compete(name: str, vocab: int, args: argparse.Namespace) -> dict[str, dict]:
    """Seconds of every call by job, and the tokens; the sides in turn."""
    environment = os.environ | ENVIRONMENT
    where = (name, str(vocab), str(args.folder))
    if not all(file.exists() for file in files(args.folder, name, vocab)):
        writer = Side([sys.executable, str(HERE / "ours.py"), "write", *where], environment)
        writer.close()
    ours = Side([sys.executable, str(HERE / "ours.py"), "serve", *where], environment)
    peer = Side([args.peer_python, str(HERE / "peer.py"), *where], environment)
    jobs = [(ours, "ours", job) for job in (*PARTS, "start", "free", "bandwidth")]
    if name in BATCHED:
        jobs.append((ours, "ours", "batch"))
    for mode in args.modes:
        jobs += [(peer, mode, f"{mode}_{part}") for part in PARTS]
    jobs.append((peer, "peer", "bandwidth"))
    found: dict[str, dict] = {}
    for side, _, job in jobs:  # what compiles, and what wakes up
        side.measure(job, 3)
    for _ in range(args.rounds):
        for side, mode, job in jobs:
            figures = side.measure(job, COUNTS[name])
            key = f"{mode}_{job.removeprefix(mode + '_')}"
            kept = found.setdefault(key, {"seconds": [], "tokens": figures["tokens"]})
            kept["seconds"] += figures["seconds"]
    ours.close()
    peer.close()
    return found


def rows(name: str, vocab: int, found: dict[str, dict], modes: list[str]) -> list[dict]:
    """A row a figure; `ratio` above 1 is in our favour."""
    ms = {key: [1e3 * s for s in kept["seconds"]] for key, kept in found.items()}
    for mode in modes:
        if found[f"{mode}_whole"]["tokens"] != found["ours_whole"]["tokens"]:
            sys.exit(f"{name} {vocab}: other tokens than {mode}'s: this is not the same work")
    prefix = f"{name}_{vocab}"
    result = [
        row(f"{prefix}_{part}_ms_vs_{mode}", ms[f"ours_{part}"], ms[f"{mode}_{part}"], "ms")
        for mode in modes
        for part in PARTS
    ]
    begun = statistics.median(ms["ours_start"])
    token = [(x - begun) / SLOTS for x in ms["ours_decode"]]
    free = [(x - begun) / SLOTS for x in ms["ours_free"]]
    gib = min(statistics.median(ms[f"{side}_bandwidth"]) for side in ("ours", "peer"))
    bound = gib * touched_bytes(case(name, vocab)) / 2**30
    result += [
        row(f"{prefix}_start_ms", ms["ours_start"], None, "ms"),
        row(f"{prefix}_token_ms_vs_reading_its_weights", token, [bound], "ms"),
        row(f"{prefix}_decode_ms_vs_reading_its_weights", ms["ours_decode"], [SLOTS * bound], "ms"),
        row(f"{prefix}_token_ms_vs_free", token, free, "ms"),
    ]
    if name in BATCHED:
        alone = [1e3 / x for x in ms["ours_whole"]]
        together = [8e3 / x for x in ms["ours_batch"]]
        result.append(row(f"{prefix}_actions_per_s_batch_8_vs_1", together, alone, "1/s", -1))
    read = {side: [2**30 / x / 1e6 for x in ms[f"{side}_bandwidth"]] for side in ("ours", "peer")}
    return [*result, row(f"{prefix}_bandwidth", read["ours"], read["peer"], "GB/s", -1)]


def row(name: str, ours: list[float], peer: list[float] | None, unit: str, better: int = 1) -> dict:
    """A result row of medians; `better` is -1 where more is better."""
    mine = statistics.median(ours)
    theirs = None if peer is None else statistics.median(peer)
    ratio = None if theirs is None else (theirs / mine) ** better
    values = {"ours": mine, "peer": theirs, "ratio": ratio}
    plain = {key: None if v is None else float(f"{v:.4g}") for key, v in values.items()}
    print(f"{name:55} {plain} {unit}", flush=True)
    spread = {"ours": [min(ours), max(ours)], "peer": peer and [min(peer), max(peer)]}
    return {"name": name, **plain, "unit": unit, "n": len(ours), "interval": spread}


def main() -> None:
    """Measures every case and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a toy size, one round, no file")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small", "base"])
    parser.add_argument("--vocabularies", nargs="+", type=int, default=VOCABULARIES)
    parser.add_argument("--modes", nargs="*", default=["eager", "compiled", "loop"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "decode")
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.vocabularies, args.modes, args.rounds = ["debug"], [4096], ["eager"], 1
    args.folder.mkdir(parents=True, exist_ok=True)
    stamp = {"commit": provenance.commit(), "machine": provenance.machine()}
    stamp["date"] = datetime.date.today().isoformat()
    for name in args.sizes:
        for vocab in args.vocabularies:
            found = rows(name, vocab, compete(name, vocab, args), args.modes)
            if not args.quick:
                results.keep(HERE, [one | stamp for one in found], tables)


def tables(rows: results.Rows) -> list[str]:
    """The README's: against the peers, and a token against reading its weights."""
    peers = ["eager", "compiled", "loop"]
    heads = ["size", "tokens", "whole, ms", *peers, "decoding alone, ms", *peers]
    parts = ["a constrained token, ms", "x reading its weights", "x cheaper than a free one"]
    against, tokens = [], []
    for name, vocab in [
        (name, vocab)
        for name in SIZES
        for vocab in VOCABULARIES
        if f"{name}_{vocab}_start_ms" in rows
    ]:
        prefix = f"{name}_{vocab}"
        line = [f"`{name}`", f"{vocab:,}"]
        token, free, whole = (
            rows[f"{prefix}_{key}"]
            for key in (
                "token_ms_vs_reading_its_weights",
                "token_ms_vs_free",
                "decode_ms_vs_reading_its_weights",
            )
        )
        tokens.append(
            [
                *line,
                f"{token['ours']:.3g}",
                f"{1 / token['ratio']:.2f}",
                f"{free['ratio']:.2g}",
                f"{1 / whole['ratio']:.2f}",
            ]
        )
        for part in ("whole", "decode"):
            found = [rows[f"{prefix}_{part}_ms_vs_{mode}"] for mode in peers]
            line += [f"{found[0]['ours']:.3g}", *(f"{one['ratio']:.3g}x" for one in found)]
        against.append(line)
    more = ["size", "tokens", *parts, "decoding with its start, x reading"]
    return [results.markdown(heads, against), results.markdown(more, tokens)]


if __name__ == "__main__":
    main()
