"""The whole of training through the real entry point, and what it refuses before step 0."""

import json

import pytest

from rt2 import checkpoint
from rt2.inference import examples
from rt2.inference.policy import Policy
from rt2.train.checkpoint import CheckpointWriter


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    done = run(workdir, num_steps=6, log_interval=1, eval_interval=3, save_interval=3)
    assert done.returncode == 0, done.stderr
    return workdir


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_metrics_and_checkpoints_are_written(trained):
    logged = [row for row in rows(trained) if "loss" in row]
    assert [row["step"] for row in logged] == [1, 2, 3, 4, 5, 6]
    assert {"tabletop/loss", "web/loss", "web/token_accuracy", "input_wait_share"} <= set(
        logged[-1]
    )
    evaluated = [row for row in rows(trained) if "tabletop/l1_dx_m" in row]
    assert [row["step"] for row in evaluated] == [3, 6]
    assert evaluated[-1]["tabletop/invalid_actions"] == 0
    assert "vqa/exact" in evaluated[-1]
    assert list((trained / "tensorboard").iterdir())
    writer = CheckpointWriter(trained, keep=2)
    assert writer.latest() == 6
    writer.close()


def test_the_checkpoint_is_a_policy(trained, policy_observation):
    reply = Policy.load(trained).infer(policy_observation)
    assert reply["actions"].shape == (1, 2)


def test_held_out_inputs_are_kept_for_narrow_weights(trained):
    kept = examples.beside(checkpoint.find(trained))
    image, prefix = kept["tabletop"]
    assert kept.keys() == {"tabletop"} and len(image) == len(prefix) > 10
    assert image.shape[1:] == (1, 64, 64, 3) and image.std() > 10
    policy = Policy.load(trained, "bf16")
    assert policy.metadata["weights"]["tokens"] == len(image) // 2 * 2
    asked = policy.preprocess.tokenizer.decode(prefix[0].tolist())
    assert asked.startswith("Q: what action should the robot take to")


@pytest.fixture
def policy_observation():
    import numpy as np

    return {"image": np.full((64, 64, 3), 200, np.uint8), "instruction": "move to the strawberry"}


def test_a_finished_run_resumes_to_more_steps(trained, run):
    done = run(trained, num_steps=8, log_interval=1, save_interval=3)
    assert done.returncode == 0, done.stderr
    assert "resumed at step 6" in done.stderr
    assert [row["step"] for row in rows(trained) if "loss" in row] == list(range(1, 9))


def test_averages_parts_and_a_trace_survive_a_resume(run, tmp_path):
    knobs = {"accumulate": 2, "ema": 0.9, "optimizer.skip_above": 9.0, "save_interval": 2}
    knobs |= {"log_interval": 1, "eval_rows": 8, "profile": "(2, 1)"}
    for steps in (2, 4):
        done = run(tmp_path / "parts", num_steps=steps, **knobs)
        assert done.returncode == 0, done.stderr
    assert "resumed at step 2" in done.stderr
    assert list((tmp_path / "parts/profile").rglob("*.xplane.pb"))
    done = run(tmp_path / "whole", num_steps=4, **knobs)
    assert done.returncode == 0, done.stderr
    ends = [checkpoint.find(tmp_path / name) for name in ("parts", "whole")]
    assert checkpoint.read_json(ends[0], "manifest") == checkpoint.read_json(ends[1], "manifest")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seed": 5}, "data.seed: checkpoint 0, config 5"),
        ({"sources.web.share": 9.0}, "data.sources.web.rows_of_a_period: checkpoint"),
        ({"share_period": 2}, "data.share_period: checkpoint 1, config 2"),
    ],
)
def test_another_stream_does_not_continue_the_run(trained, run, changes, message):
    done = run(trained, num_steps=12, **changes)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batchsize": 3}, 'Did you mean "batch_size"'),
        ({"batch_size": 0}, "batch_size"),
        ({"accumulate": 3}, "accumulate = 3"),
        ({"model.remat": "some"}, "known: none, dots, full"),
        ({"mesh.data": 3}, "does not fit 1 devices"),
        ({"model.variant": "debgu"}, "Did you mean 'debug'"),
        ({"optimizer.name": "sgd"}, "optimizer 'sgd' is unknown"),
        ({"sources.tabletop.spec": "tabletopp"}, "tabletop"),
        ({"sources.tabletop.split": "trian"}, "train"),
        ({"sources.tabletop.path": "nowhere"}, "nowhere"),
        ({"prefix_length": 4}, "do not fit in 4"),
        ({"action_vocabulary": "words"}, "overwrite"),
        ({"init_from": "nothing.safetensors"}, "no such file"),
    ],
)
def test_a_mistake_is_one_clear_error_before_the_first_step(run, tmp_path, changes, message):
    done = run(tmp_path, **changes)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "metrics.jsonl").exists()


def test_overwrite_vocabulary_trains(run, tmp_path):
    done = run(tmp_path, num_steps=2, action_vocabulary="overwrite", eval_rows=8)
    assert done.returncode == 0, done.stderr
    assert Policy.load(tmp_path).preprocess.vocabulary.kind == "overwrite"
