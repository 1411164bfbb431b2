"""Where every parameter and every optimizer moment of a shipped config lies, held to a golden file.

After a change that is meant, write them anew and read the difference:

    REWRITE_GOLDEN=1 make test ARGS=tests/train/test_golden.py
"""

import functools
import importlib
import os
import pathlib

import jax
import pytest
from jax.sharding import AbstractMesh

from rt2.train import sharding
from rt2.train.settings import make_model, make_settings
from rt2.train.step import init_state

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / "tests/train/golden"
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "common")
MESH = {"data": 1, "fsdp": 16, "tensor": 4}
WHOLE_BYTES = 8 * 2**20  # what may stay whole of a model that needs more than one chip


@functools.cache
def placed(name, strategy):
    """(path, shape, bytes, sharding) of everything in the training state of a config."""
    config = importlib.import_module(f"configs.{name}").get_config()
    model = make_model(config, config.tokenizer.vocab_size)
    settings = make_settings(config, model, 1)
    mesh = AbstractMesh(tuple(MESH.values()), tuple(MESH))
    make = functools.partial(init_state, settings)
    shapes, shardings = sharding.lay_out(make, model, strategy, mesh)
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    return [
        (jax.tree_util.keystr(keys), shape.shape, shape.size * shape.dtype.itemsize, where)
        for (keys, shape), where in zip(leaves, jax.tree.leaves(shardings), strict=True)
    ]


def table(name):
    """The golden file's text: a line for every array."""
    lines = [f"# mesh {MESH}; whole arrays have no axes"]
    for strategy in ("fsdp", "fsdp+tp"):
        lines += ["", f"[{strategy}]"]
        for path, shape, _, where in placed(name, strategy):
            spec = " x ".join(axis or "." for axis in where.spec if any(where.spec))
            lines.append(f"{path} {'x'.join(map(str, shape)) or 'scalar'}: {spec or 'whole'}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", CONFIGS)
def test_every_array_lies_where_the_golden_file_says(name):
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("REWRITE_GOLDEN"):
        file.write_text(table(name))
    assert file.is_file(), f"no golden file: REWRITE_GOLDEN=1 make test ARGS={__file__}"
    assert table(name) == file.read_text()


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp+tp"])
@pytest.mark.parametrize("name", CONFIGS)
def test_no_large_array_of_a_large_model_stays_whole(name, strategy):
    arrays = placed(name, strategy)
    if sum(size for path, _, size, _ in arrays if path.startswith(".params")) < 2**30:
        pytest.skip("fits on one chip")
    whole = {path: size for path, _, size, where in arrays if where.is_fully_replicated}
    assert not {path: size for path, size in whole.items() if size > WHOLE_BYTES}
    assert sum(whole.values()) < 2**28


def test_no_golden_file_outlives_its_config():
    assert {file.stem for file in GOLDEN.glob("*.txt")} == set(CONFIGS)
