"""A checkpoint with narrow weights: its policy and its bundle are one, and say what they cost."""

import json

import jax
import numpy as np
import pytest

from rt2.checkpoint import CheckpointError
from rt2.errors import ConfigError
from rt2.inference import bundle_runtime, examples, export, narrowing, worker
from rt2.inference.access import ServeError
from rt2.inference.metadata import weights_sentence
from rt2.inference.policy import Policy

DATASET = "table"  # the one with the fewest slots


@pytest.fixture(scope="module")
def asked(observations):
    return [o for o in observations if o["dataset"] == DATASET]


@pytest.fixture(scope="module")
def rows(policy, asked):
    """Examples: 16 of one data set."""
    made = [policy._row(o, DATASET) for o in asked[:16]]
    image, prefix, _ = (np.stack(column) for column in zip(*made, strict=True))
    return {DATASET: examples.Rows(image, prefix)}


@pytest.fixture(scope="module")
def workdir(rows, checkpoint_dir):
    """The checkpoint with examples and an evaluation beside it."""
    error = {"mean": 0.1234, "n": 5, "interval": None}
    evaluation = {
        "provenance": {"model": {"step": 7}, "commit": "c0ffee", "date": "today"},
        "rollouts": [],
        "vqa": [],
        "actions": [{"source": "arm", "slots": [{"name": "dx", "unit": "m", "error": error}]}],
    }
    (checkpoint_dir / "evaluation.json").write_text(json.dumps(evaluation))
    examples.write(checkpoint_dir, rows)
    yield checkpoint_dir
    for name in (examples.NAME, "evaluation.json"):
        (checkpoint_dir / name).unlink()


@pytest.fixture(scope="module")
def int8(workdir):
    return Policy.load(workdir, "int8")


def tokens(policy, asked):
    return np.stack([reply["tokens"] for reply in policy.infer_batch(asked)])


def test_int8_decodes_much_the_same_in_little_memory(policy, int8, asked):
    said = int8.metadata["weights"]
    assert said["kind"] == "int8" and said["tokens"] == 8 * 2  # of every other example
    # random weights have many near ties; a choice by chance agrees in 1 of 256
    assert said["agreeing"] > 6 and 0 <= said["moved"] < 0.2
    assert (tokens(policy, asked) == tokens(int8, asked)).mean() > 0.4
    sizes = [sum(x.nbytes for x in jax.tree.leaves(p.held)) for p in (int8, policy)]
    assert sizes[0] < 0.3 * sizes[1]


def test_the_command_writes_a_bundle_of_it_with_a_card(workdir, int8, asked, tmp_path, capsys):
    out = tmp_path / "bundle"
    command = [f"--checkpoint={workdir}", f"--out={out}", "--weights=int8", "--shard-gb=0.00005"]
    export.main(command)
    said = weights_sentence(int8.metadata["weights"])
    assert said in capsys.readouterr().out
    shards = sorted(out.glob("model-*.safetensors"))
    assert len(shards) > 2 and all(shard.stat().st_mode & 0o044 for shard in shards)
    bundle = bundle_runtime.Policy.load(out)
    assert bundle.metadata["weights"] == int8.metadata["weights"]
    np.testing.assert_array_equal(tokens(bundle, asked), tokens(int8, asked))
    card = (out / "README.md").read_text()
    for words in (
        *(said, "step 7, commit", "| arm: dx | error, m | 0.1234 | 5", "at commit c0ffee"),
        *("What it is for, and what not", "Apache License", '"sources": {}'),
    ):
        assert words in card


def test_the_loss_is_counted_on_what_the_rounding_has_not_seen(policy, rows):
    make = (policy.model, policy.preprocess, policy.params)
    nothing = narrowing.loss(*make, policy.params, rows)
    assert nothing == {"tokens": 32, "agreeing": 32, "moved": 0.0}
    table = policy.params["text/embedding"]
    lost = narrowing.loss(*make, {**policy.params, "text/embedding": table[::-1]}, rows)
    assert lost["agreeing"] < 16 and lost["moved"] > 0.05
    seen_otherwise = {}
    for name, (image, prefix) in rows.items():
        image = image.copy()
        image[::2] = 255 - image[::2]
        seen_otherwise[name] = examples.Rows(image, prefix)
    _, said = narrowing.narrowed(*make, "bf16", rows)
    assert narrowing.narrowed(*make, "bf16", seen_otherwise)[1] == said


def test_the_worker_loads_the_weights_it_is_told(workdir, policy, monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(Policy, "load", lambda folder, weights: told.append(weights) or policy)
    monkeypatch.setattr(worker, "warm_up", lambda *_: [])
    names = {worker.load(str(workdir), 1, {}, weights=kind).digest for kind in ("f32", "int8")}
    assert told == ["f32", "int8"] and len(names) == 2
    (tmp_path / "manifest.json").touch()
    with pytest.raises(ServeError, match="has the weights that it was exported with"):
        worker.load(str(tmp_path), 1, {}, weights="int8")


def test_int8_without_examples_is_refused_and_bf16_is_not(policy):
    make = (policy.model, policy.preprocess, policy.params)
    with pytest.raises(CheckpointError, match="no examples.safetensors .* config.keep_examples"):
        narrowing.narrowed(*make, "int8", None)
    assert narrowing.narrowed(*make, "bf16", None)[1] == {"kind": "bf16"}
    with pytest.raises(ConfigError, match="'int4', expected one of f32, bf16, int8"):
        narrowing.narrowed(*make, "int4", None)


def test_damaged_examples_are_refused(tmp_path):
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    assert examples.beside(tmp_path / "checkpoints" / "7") is None
    (tmp_path / examples.NAME).write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="examples.safetensors: damaged"):
        examples.beside(tmp_path / "checkpoints" / "7")


def test_int8_is_no_format_of_plain_safetensors(int8, tmp_path):
    with pytest.raises(export.ExportError, match="takes --weights=f32 or bf16"):
        export.write_weights(int8, tmp_path / "out", 10**9)
