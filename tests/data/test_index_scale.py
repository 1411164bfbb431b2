"""An index of 100 million steps (sparse files) opens at once and samples without growing."""

import importlib.util
import time
import tracemalloc

import numpy as np
import pytest

from rt2.data.rlds import RldsSteps

STEPS = 100_000_000


@pytest.fixture(scope="module")
def simulate():
    pytest.importorskip("tensorflow_datasets")
    import pathlib

    path = pathlib.Path(__file__).parents[2] / "experiments" / "index_scale" / "simulate.py"
    spec = importlib.util.spec_from_file_location("simulate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_hundred_million_steps(simulate, tmp_path):
    directory = tmp_path / "scale" / "1.0.0"
    rows = np.unique(np.random.default_rng(0).integers(0, STEPS, 100))
    simulate.write_small(directory, shards=128)
    simulate.scale(directory, STEPS, rows)
    RldsSteps(directory, "train")  # modules are loaded, paths looked up
    tracemalloc.start()
    start = time.perf_counter()
    steps = RldsSteps(directory, "train", decode_images=False)
    opening = time.perf_counter() - start
    for row in rows.tolist():
        step = steps[row]
        assert (step["episode"], step["step"]) == divmod(row, simulate.EPISODE)
        assert step["observation"]["rgb"] == simulate.jpeg(row)
        assert step["instruction"].startswith(b"task ")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(steps) == STEPS and opening < 1.0
    assert peak < 2_000_000  # bytes: no array with a value for every step
    assert steps.index.sidecar.bytes / STEPS <= 40
