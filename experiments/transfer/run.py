"""Trains and measures the rows of config.py; what is done is not done again.

    python experiments/transfer/run.py                            every row, seeds 0 and 1
    python experiments/transfer/run.py --rows=scratch,fine-tune --seeds=0
    python experiments/transfer/run.py --quick                    a few steps, keeps nothing

A row trains in a folder of its own in runs/transfer, where a run that was stopped goes on, and is
measured under every condition; each figure goes to results.json and the README's tables as it is
found. A figure that stands there with the same configuration is not measured again, and a row that
has all is not trained. The reference policies and the starts are rows too: `references`, `starts`.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import asking  # noqa: E402
import config as rows  # noqa: E402
import jax  # noqa: E402
import measuring  # noqa: E402
import rt1  # noqa: E402
import table  # noqa: E402

from experiments import results  # noqa: E402
from rt2.evaluate.provenance import commit, machine  # noqa: E402
from rt2.evaluate.start import load_start  # noqa: E402
from rt2.inference.policy import Policy  # noqa: E402

COLLECT = ("--tasks=reach", "--objects=3,4,5", "--descriptions", "--web-objects=6")
SIZES = ("--episodes=6000", "--val-episodes=100", "--scenes=20000", "--val-scenes=500")
QUICK_SIZES = ("--episodes=20", "--val-episodes=2", "--scenes=40", "--val-scenes=4")
QUICK_ROWS = "references,co-fine-tune,no constraint"
QUICK = {
    "num_steps": 2,
    "batch_size": 16,
    "eval_rows": 2,
    "model.variant": "debug",
    "init_from": "",
    "tokenizer.vocab_size": 2000,
}


def main() -> None:
    """Collects, then goes through references, starts and rows in the order of config.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", help="comma-separated; by default all, in --quick a few")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    every = ["references", "starts", *rows.ROWS]
    chosen = (args.rows or (QUICK_ROWS if args.quick else ",".join(every))).split(",")
    if unknown := [name for name in chosen if name not in every]:
        parser.error(f"no row {unknown[0]!r}; rows: {', '.join(every)}")
    bench = Bench(args.quick)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    bench.collect()
    for name in chosen:
        if name == "references":
            bench.measure_references()
        elif name == "starts":
            bench.measure_starts()
        else:
            for seed in seeds:
                bench.run(name, seed)


class Bench:
    """Where rows are run, and what is kept of them."""

    def __init__(self, quick: bool):
        self.quick = quick
        self.commit = commit()  # before this run's own results change the work tree
        self.plan = measuring.QUICK if quick else measuring.FULL
        self.folder = ROOT / ("runs/transfer-quick" if quick else "runs/transfer")
        self.data = self.folder / "data"
        file = HERE / "results.json"
        self.known = json.loads(file.read_text()) if file.exists() and not quick else []

    def collect(self) -> None:
        """The episodes and shards of all rows; left alone where they are there."""
        sizes = QUICK_SIZES if self.quick else SIZES
        command = ["-m", "rt2.sim.collect", f"--out={self.data}", *COLLECT, *sizes]
        self._python(*command)

    def run(self, name: str, seed: int) -> None:
        """Trains and measures one row, as far as its figures are not there."""
        row = rows.ROWS[name]
        trained = rows.SAME_TRAINING.get(name, name)
        config = json.loads(json.dumps(rows.get_config(trained).to_dict()))
        start = "" if self.quick else config["init_from"]
        if _missing(start):
            return
        training = self._digest(config, seed, start)
        made = self._digest(training, row.asked, self.plan.record())
        asks = row.asked == "constrained" and not row.rt1
        wanted = [*self.plan.conditions, *(["vqa"] if asks else [])]
        wanted = [f"{name}/seed {seed}/{what}" for what in wanted]
        if not self._lacking(wanted, made):
            print(f"{name}, seed {seed}: all there")
            return
        workdir = self.folder / f"{trained.replace(' ', '_')}-{seed}-{training}"
        policy = self._train(trained, workdir, seed)
        asked = asking.WAYS[row.asked](policy)
        shared = {"configuration": made, "seed": seed}
        for condition, figure in zip(self.plan.conditions, wanted, strict=False):
            if self._lacking([figure], made):
                found = self.plan.play(self.plan.agent(asked), condition, policy)
                self._keep(measuring.success_rows(f"{name}/seed {seed}", found), shared)
        if asks and self._lacking(wanted[-1:], made):
            found = self.plan.ask(policy, self.data)
            self._keep(measuring.answer_rows(f"{name}/seed {seed}", found), shared)

    def _train(self, name: str, workdir: pathlib.Path, seed: int) -> Any:
        """The policy of a row; of what is trained already nothing is trained again."""
        changes = self._changes(seed)
        if rows.ROWS[name].rt1:
            config = rows.get_config(name)
            config.update_from_flattened_dict(changes)
            return rt1.train(config, workdir, seed)
        file = f"--config={HERE / 'config.py'}:{name}"
        flags = [f"--config.{key}={value}" for key, value in changes.items()]
        self._python("-m", "rt2.train", file, f"--workdir={workdir}", *flags)
        return Policy.load(workdir)

    def measure_references(self) -> None:
        """The random policies and the oracle, on the same scenes."""
        made = self._digest("references", self.plan.record())
        for agent in measuring.REFERENCES:
            for condition in self.plan.conditions:
                if self._lacking([f"{agent.name}/{condition}"], made):
                    found = self.plan.play(agent, condition, None)
                    self._keep(measuring.success_rows(agent.name, found), {"configuration": made})

    def measure_starts(self) -> None:
        """The answers of the pre-trained starts, which know no action, and the places they find."""
        for size in sorted({row.size for row in rows.ROWS.values() if row.start}):
            file = f"{rows.START}/{size}.safetensors"
            if _missing(file):
                continue
            made, name = self._digest("start", file, self.plan.record()), f"start, {size}"
            places = [f"{name}/{condition}/nearest" for condition in self.plan.conditions]
            if not self._lacking([f"{name}/vqa", *places], made):
                continue
            policy = load_start(ROOT / file)
            found = self.plan.ask(policy, self.data)
            self._keep(measuring.answer_rows(name, found), {"configuration": made})
            for condition in self.plan.conditions:
                found = self.plan.locate(policy, condition)
                row = measuring.place_row(name, condition, found)
                self._keep(iter([row]), {"configuration": made})

    def _changes(self, seed: int) -> dict[str, Any]:
        """What a run has that its row's config does not say: keys of the config."""
        paths = {
            "sources.tabletop.path": "tabletop/1.0.0",
            "eval_sources.tabletop.path": "tabletop/1.0.0",
            "sources.web.path": "web/web-train-*.tar",
            "eval_sources.vqa.path": "web_vqa/1.0.0",
        }
        places = {key: str(self.data / path) for key, path in paths.items()}
        return {"seed": seed, **(places | QUICK if self.quick else {})}

    def _digest(self, *parts: Any) -> str:
        """Changes with the parts, the weights that they name and the data."""
        weights = [
            hashlib.sha256((ROOT / part).read_bytes()).hexdigest()
            for part in parts
            if isinstance(part, str) and part.endswith(".safetensors")
        ]
        data = json.loads((self.data / "collect.json").read_text())
        text = json.dumps([parts, weights, data, self.quick], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _lacking(self, names: list[str], made: str) -> bool:
        there = {row["name"] for row in self.known if row["configuration"] == made}
        return any(name not in there for name in names)

    def _keep(self, found: Iterator[dict], shared: dict[str, Any]) -> None:
        origin = {
            "peer": None,
            "ratio": None,
            "commit": self.commit,
            "machine": machine(),
            "date": datetime.date.today().isoformat(),
        }
        made = [row | origin | shared for row in found]
        for row in made:
            print(f"{row['name']}: {row['ours']:.3f} {row['unit']} (n = {row['n']})", flush=True)
        if not self.quick:
            self.known += made
            results.keep(HERE, made, table.tables)

    def _python(self, *command: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *command], check=True, cwd=ROOT, env=environment)


def _missing(start: str) -> bool:
    """Whether a row waits for its pre-trained start."""
    if (ROOT / start).exists():
        return False
    print(f"{start} is not there: make it with experiments/pretrain/run.py; row left out")
    return True


if __name__ == "__main__":
    jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
    main()
