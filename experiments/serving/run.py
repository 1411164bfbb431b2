"""Does the server stay up, answer in time and say no, whatever clients do and whatever dies?

python experiments/serving/run.py            about fifteen minutes; writes results.json
python experiments/serving/run.py --quick    about a minute, prints only
"""

import argparse
import asyncio
import datetime
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import clients  # noqa: E402
import fuzz  # noqa: E402
import openpi_loop  # noqa: E402
import reloads  # noqa: E402
import trials  # noqa: E402

from experiments import endpoints  # noqa: E402


def fuzzed(count: int) -> list[tuple]:
    """Rows on hostile messages, with openpi's own loop beside them."""
    with trials.Stub(0, 8) as stub, openpi_loop.Loop(stub.port) as loop:
        asyncio.run(fuzz.fuzz(stub.port, stub.rest, max(500, count // 20), seed=1000))
        before = stub.rss()
        found = asyncio.run(fuzz.fuzz(stub.port, stub.rest, count))
        beside = loop.end()
        grown, alive = stub.rss() - before, stub.process.poll() is None
        restarts = stub.get("/readyz") != 200
    print(dict(found.outcomes), found.wrong[:3])
    n = sum(found.outcomes.values())
    return [
        ("fuzz_server_deaths", int(not alive) + int(restarts), "deaths", n),
        ("fuzz_hangs_over_1s", found.hangs, "messages", n),
        ("fuzz_leaks", found.leaks, "messages", n),
        ("fuzz_wrong_codes", len(found.wrong), "messages", n),
        ("fuzz_rss_growth", round(grown, 1), "MB", n),
        *looped("fuzz", beside),
    ]


def looped(name: str, found: dict) -> list[tuple]:
    """Rows on openpi's own loop beside something else."""
    high, spread = p99(found["round_trip_ms"])
    print(found["failed"], found["wrong"])
    bad = sum(found["failed"].values()) + sum(found["wrong"].values())
    return [
        (f"{name}_openpi_failed", bad, "steps", found["steps"]),
        (f"{name}_openpi_p99", high, "ms", found["steps"], spread),
    ]


def loaded(seconds: float) -> list[tuple]:
    """Rows on 32 clients and a model of 100 ms, in batches of 8 and alone."""
    made = []
    for max_batch in (8, 1):
        with trials.Stub(100, max_batch) as stub:
            found = trials.under_load(stub, 32, seconds)
        for name in ("health", "served", "refused"):
            took = found[f"{name}_ms"]
            made.append((f"load_{name}_p99_batch{max_batch}", *p99(took), "ms", len(took)))
    return [(name, value, unit, n, spread) for name, value, spread, unit, n in made]


def p99(values: list[float]) -> tuple[float, list[float]]:
    """The 99th percentile, and the median and largest value."""
    middle, high, top = (round(float(x), 2) for x in np.percentile(values or [0], [50, 99, 100]))
    return high, [middle, top]


def disturbed(part: int) -> list[tuple]:
    """Rows on slow clients, crowds, oversized frames, kills and stops."""
    with trials.Stub(20, 8) as stub:
        slow = trials.slow_clients(stub, 50, 16)
        crowd = trials.crowd(stub, 500)
        big = trials.oversized(stub)
    with trials.Stub(20, 8) as stub:
        killed = trials.kills(stub, max(2, 20 // part))
    stopped = trials.stops(max(2, 20 // part))
    alone, beside = p99(slow["alone_ms"]), p99(slow["beside_ms"])
    recovered = killed["recovery_s"]
    return [
        ("slow_good_client_p99", beside[0], "ms", len(slow["beside_ms"]), beside[1]),
        ("slow_good_client_alone_p99", alone[0], "ms", len(slow["alone_ms"]), alone[1]),
        ("slow_gone_after", round(max(slow["slow_gone_s"]), 1), "s", len(slow["slow_gone_s"])),
        ("crowd_open_files", crowd["files"][1], "files", 500, crowd["files"]),
        ("crowd_served_after", crowd["served_after"], "requests", 1),
        ("oversized_rss_growth", round(big["grown_mb"], 1), "MB", 1),
        ("oversized_close_code", big["code"], "", 1),
        ("kill_recovery_max", round(max(recovered), 2), "s", len(recovered)),
        ("kill_replies_past_deadline", killed["past_deadline"], "requests", len(recovered)),
        ("stop_clients_told", stopped["told"], "stops", len(stopped["seconds"])),
        ("stop_seconds_max", round(max(stopped["seconds"]), 2), "s", len(stopped["seconds"])),
    ]


def orderly(part: int) -> list[tuple]:
    """Rows on many clients at once, races for an arm, replays and a long run."""
    with trials.Stub(0, 8) as stub:
        crossed = clients.crosstalk(stub, 16, 10_000 // part)
        raced = clients.races(stub, 4, max(5, 100 // part))
        replayed = clients.replays(stub, 1_000 // part)
    with trials.Stub(0, 8) as stub:
        soaked = clients.soak(stub, 4, 100_000 // part)
    took = soaked["ms"]
    tenth = len(took) // 10
    early, late = p99(took[tenth : 2 * tenth]), p99(took[-tenth:])
    return [
        ("crosstalk_wrong_replies", crossed["wrong"], "replies", crossed["served"]),
        ("lease_double_grants", raced["double"], "races", max(5, 100 // part)),
        ("lease_nobody", raced["none"], "races", max(5, 100 // part)),
        ("lease_fences_fall", int(not raced["grown"]), "runs", 1),
        ("replays_accepted", replayed["accepted"], "requests", 1_000 // part),
        ("soak_rss_growth", round(soaked["grown_mb"], 1), "MB", len(took)),
        ("soak_files_growth", soaked["files"], "files", len(took)),
        ("soak_p99_second_tenth", early[0], "ms", tenth, early[1]),
        ("soak_p99_last_tenth", late[0], "ms", tenth, late[1]),
    ]


def reloaded(count: int, damaged: set[int]) -> list[tuple]:
    """Rows on reloads of real checkpoints under traffic."""
    with tempfile.TemporaryDirectory() as folder:
        store = endpoints.random_checkpoint(Path(folder) / "store", steps=count + 1)
        steps = store / "checkpoints"
        found = reloads.reload_under_traffic(steps, Path(folder) / "served", count, damaged)
    return [
        ("reload_failed_requests", found["failed"], "requests", found["requests"]),
        ("reload_mixed_versions", found["mixed"], "requests", found["requests"]),
        ("reload_damaged_refused", found["refused"], "reloads", len(damaged)),
        ("reload_models_served", found["models"], "models", found["reloads"]),
        *looped("reload", found["openpi"]),
    ]


LIMITS = {
    **dict.fromkeys(
        ("fuzz_server_deaths", "fuzz_hangs_over_1s", "fuzz_leaks", "fuzz_wrong_codes"), 0
    ),
    **dict.fromkeys(("reload_failed_requests", "reload_mixed_versions"), 0),
    **dict.fromkeys(("fuzz_openpi_failed", "reload_openpi_failed"), 0),
    **dict.fromkeys(("crosstalk_wrong_replies", "lease_double_grants", "lease_nobody"), 0),
    **{
        "lease_fences_fall": 0,
        "replays_accepted": 0,
        "soak_rss_growth": 20,
        "soak_files_growth": 4,
    },
    **dict.fromkeys(("load_health_p99_batch8", "load_health_p99_batch1"), 50),
    **{"fuzz_rss_growth": 20, "slow_gone_after": 16, "oversized_rss_growth": 16},
    **{"kill_recovery_max": 10, "kill_replies_past_deadline": 0, "stop_seconds_max": 5},
}
ALL = ("reload_damaged_refused", "stop_clients_told", "crowd_served_after")  # as many as there are
DAMAGED = {4, 8, 12, 16, 20}  # steps of the reloads


def main() -> None:
    """Runs all, prints, writes the rows; fails beyond a limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small part of it, no file")
    parser.add_argument("--only", choices=("fuzz", "load", "trials", "clients", "reload"))
    args = parser.parse_args()
    part = 50 if args.quick else 1
    parts = {
        "fuzz": lambda: fuzzed(100_000 // part),
        "load": lambda: loaded(3 if args.quick else 20),
        "trials": lambda: disturbed(part),
        "clients": lambda: orderly(part),
        "reload": lambda: reloaded(4 if args.quick else 20, {3} if args.quick else DAMAGED),
    }
    made = []
    for name in [args.only] if args.only else parts:
        made += parts[name]()
    for name, value, unit, n, *spread in made:
        print(f"{name:28} {value} {unit} (n = {n})", *spread)
    if not args.quick:
        write(rows(made))
    beyond = [name for name, value, *_ in made if value > LIMITS.get(name, float("inf"))]
    beyond += [name for name, value, _, n, *_ in made if name in ALL and value < n]
    if beyond:
        sys.exit(f"beyond the limit: {', '.join(beyond)}")


def write(made: list[dict]) -> None:
    """Writes the rows beside those of parts that were not run."""
    file = HERE / "results.json"
    names = {row["name"] for row in made}
    kept = json.loads(file.read_text("utf-8")) if file.is_file() else []
    made = [row for row in kept if row["name"] not in names] + made
    file.write_text(json.dumps(made, indent=2) + "\n", "utf-8")


def rows(made: list[tuple]) -> list[dict]:
    """The findings as result rows."""
    from rt2.evaluate.provenance import commit, machine

    here = machine()
    stamp = {
        "commit": commit(),
        "machine": f"{here['cpu']}, {here['cores']} cores",
        "date": datetime.date.today().isoformat(),
    }
    return [
        {"name": name, "ours": value, "peer": None, "ratio": None, "unit": unit, "n": n}
        | {"interval": spread[0] if spread else None}
        | stamp
        for name, value, unit, n, *spread in made
    ]


if __name__ == "__main__":
    main()
