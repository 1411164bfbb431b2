"""The robot's state in the question: training, its checkpoint, the server and a bundle agree."""

import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from websockets.sync.client import connect

from configs import debug
from rt2.data.errors import DataError
from rt2.data.mixture import Draw
from rt2.inference import bundle_runtime, export, wire
from rt2.inference.policy import Policy, _decode_actions, _encode
from rt2.train import inputs
from rt2.train.sources import open_sources
from tests.train.conftest import metric_rows

FRAMES = (0, 7, 30)


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    """A checkpoint of the debug config whose tabletop rows hold the state."""
    workdir = tmp_path_factory.mktemp("trained")
    knobs = {"sources.tabletop.proprio": True, "num_steps": 2, "eval_rows": 8}
    done = run(workdir, log_interval=1, **knobs)
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="module")
def source(data_dir):
    """The training source of that run, opened as the trainer opens it."""
    config = debug.get_config()
    del config.sources.web
    config.sources.tabletop.path = str(data_dir / "tabletop/1.0.0")
    config.sources.tabletop.proprio = True
    return config, open_sources(config, "sources")["tabletop"]


@pytest.fixture(scope="module")
def trainer_tokens(trained, source):
    """What the model decodes from the trainer's own rows of FRAMES, and those rows."""
    policy, (config, opened) = Policy.load(trained), source
    make = inputs.row_maker(config, opened, policy.preprocess)
    rows = [make(opened.rows[i], Draw("tabletop", i, 0)) for i in FRAMES]
    image, prefix = (np.stack([row[key] for row in rows]) for key in ("image", "prefix"))
    table = policy._tables["tabletop"]
    memory = _encode(policy.model, policy.params, image, prefix)
    decoded = _decode_actions(policy.model, policy.params, memory, table, None, mass=False)
    return policy, rows, np.asarray(jax.device_get(decoded.tokens))


def observation(opened, i, **changes):
    example = opened.examples[i]
    sent = {"image": list(example.images), "instruction": example.instruction}
    return {**sent, "observation/state": example.state, **changes}


def test_the_trainers_rows_hold_the_state(trained, trainer_tokens, source):
    policy, rows, _ = trainer_tokens
    states = source[1].examples.states
    for i, row in zip(FRAMES, rows, strict=True):
        cells = (states[i] - states.min(0)) / (states.max(0) - states.min(0)) * 256
        wanted = " ".join(str(int(cell)) for cell in np.clip(cells, 0, 255))
        asked = policy.preprocess.tokenizer.decode(row["prefix"])
        assert asked.endswith(f"? State: {wanted}. A:")
    evaluated = [row for row in metric_rows(trained) if "tabletop/l1_dx_m" in row]
    assert evaluated and evaluated[-1]["tabletop/invalid_actions"] == 0


def test_the_policy_reads_the_trainers_rows(trainer_tokens, source):
    policy, rows, tokens = trainer_tokens
    for i, row, wanted in zip(FRAMES, rows, tokens, strict=True):
        asked = observation(source[1], i)
        asked["state"] = asked.pop("observation/state")
        image, prefix, _ = policy._row(asked, "tabletop")
        np.testing.assert_array_equal(image, row["image"])
        np.testing.assert_array_equal(prefix, row["prefix"])
        np.testing.assert_array_equal(policy.infer(asked)["tokens"], wanted[:2])


def test_the_server_gives_the_trainers_tokens(trained, trainer_tokens, source):
    command = [sys.executable, "-m", "rt2.inference.serve", "--port=0", f"--checkpoint={trained}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = next(line for line in process.stdout if line.startswith("listening on"))
        address = re.search(r"ws://\S+", line).group()
        with connect(address, compression=None, max_size=None) as connection:
            greeting = wire.decode(connection.recv())
            assert len(greeting["datasets"]["tabletop"]["state_low"]) == 2
            for i, wanted in zip(FRAMES, trainer_tokens[2], strict=True):
                connection.send(wire.encode(observation(source[1], i)))
                assert wire.decode(connection.recv(timeout=20))["tokens"] == wanted[:2].tolist()
            lacking = observation(source[1], 0)
            del lacking["observation/state"]
            connection.send(wire.encode(lacking))
            refused = json.loads(connection.recv(timeout=20))["message"]
            assert refused.startswith("state: missing; this model reads the 2")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_bundle_gives_the_trainers_tokens(trainer_tokens, source, tmp_path):
    policy, _, tokens = trainer_tokens
    export.write(policy, tmp_path / "bundle")
    bundle = bundle_runtime.Policy.load(tmp_path / "bundle")
    for i, wanted in zip(FRAMES, tokens, strict=True):
        asked = observation(source[1], i)
        asked["state"] = asked.pop("observation/state")
        np.testing.assert_array_equal(bundle.infer(asked)["tokens"], wanted[:2])


def test_one_data_set_is_asked_in_one_way(source, data_dir):
    config, _ = source
    config = config.copy_and_resolve_references()
    config.sources.plan = config.sources.tabletop.copy_and_resolve_references()
    config.sources.plan.task, config.sources.plan.plan = "plan", "go and {instruction}"
    both = open_sources(config, "sources")
    assert both["plan"].task.state_codec is both["tabletop"].task.state_codec
    assert list(inputs.state_codecs(both)) == ["tabletop"]
    config.sources.plan.proprio = False
    with pytest.raises(DataError, match="the same spec 'tabletop' has .*: set both alike"):
        inputs.state_codecs(open_sources(config, "sources"))
    config.sources.plan.proprio, config.sources.plan.task = True, "timesteps"
    with pytest.raises(DataError, match="plan.proprio: belongs to the tasks action and plan"):
        open_sources(config, "sources")


def test_words_keep_the_integers_of_a_state(source):
    config, opened = source
    text = list(inputs.corpus({"tabletop": opened}, 10))
    assert any(line.startswith("0 1 2 3 ") and line.endswith(" 254 255") for line in text)
