"""Where a process finds its place: flags, variables, a cluster, or nowhere."""

import pathlib
import shutil

import numpy as np
import pytest

from rt2.errors import ConfigError
from rt2.train import hosts
from rt2.train.hosts import Place, find_place
from rt2.train.line import ALONE


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """No variable of a cluster."""
    for name in (*hosts.ENVIRONMENT, "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def slurm(bare, tasks):
    for name, value in {
        "SLURM_JOB_ID": "5",
        "SLURM_STEP_NODELIST": "node[007-009],other",
        "SLURM_NTASKS": str(tasks),
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
    }.items():
        bare.setenv(name, value)


def test_alone_where_nothing_says_otherwise(bare):
    assert find_place(None, None, None, 1) is None
    slurm(bare, 1)
    assert find_place(None, None, None, 1) is None
    assert hosts.join(None, 1) is ALONE


def test_flags_go_before_variables_and_variables_before_a_cluster(bare):
    slurm(bare, 4)
    assert find_place(None, None, None, 1) == Place("node007:61445", 4, 3, (1,))
    for name, value in zip(hosts.ENVIRONMENT, ("a:1234", "3", "2"), strict=True):
        bare.setenv(name, value)
    assert find_place(None, None, None, 1) == Place("a:1234", 3, 2)
    assert find_place("b:1235", 2, 0, 1) == Place("b:1235", 2, 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("a:1", 2, None), "JAX_PROCESS_ID is missing"),
        ((None, 2, 0), "JAX_COORDINATOR_ADDRESS is missing"),
        (("a", 2, 0), "expected HOST:PORT"),
        (("a:1", 2, 2), "are 0 .. 1"),
    ],
)
def test_a_place_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        find_place(*arguments, 1)


def test_the_digest_of_the_code_sees_every_file(monkeypatch, tmp_path):
    before = hosts.source_digest()
    package = pathlib.Path(hosts.rt2.__file__).parent
    copy = tmp_path / "rt2"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(hosts.rt2, "__file__", str(copy / "__init__.py"))
    assert hosts.source_digest() == before
    (copy / "train/step.py").write_text("")
    assert hosts.source_digest() != before


def test_rows_are_those_of_the_devices(monkeypatch):
    """As on a slice whose hosts are squares: a host's rows do not follow one another."""
    import jax

    from rt2.train import sharding

    mesh = sharding.make_mesh({"data": 1, "fsdp": 4, "tensor": 2}, jax.devices())
    assert list(sharding.rows_here(mesh, 8)) == list(range(8))
    where = sharding.batch_sharding(mesh)
    own = [mesh.devices[0, i, 0] for i in (0, 2)]

    class Part:
        def addressable_devices_indices_map(self, shape):
            return {d: i for d, i in where.devices_indices_map(shape).items() if d in own}

    monkeypatch.setattr(sharding, "batch_sharding", lambda mesh: Part())
    rows = sharding.rows_here(mesh, 8)
    assert list(rows) == [0, 1, 4, 5]
    given = {}
    monkeypatch.setattr(
        jax,
        "make_array_from_callback",
        lambda shape, _, shard: given.update(
            {str(i): shard(i) for i in Part().addressable_devices_indices_map(shape).values()}
        ),
    )
    sharding.place_rows(mesh, rows, np.array([10, 11, 14, 15]), 8)
    assert sorted(map(list, given.values())) == [[10, 11], [14, 15]]
