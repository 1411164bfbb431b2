"""A policy with random weights: the smallest model, a toy tokenizer, three robot data sets."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from rt2 import checkpoint
from rt2.actions import LANGUAGE_TABLE, RT2, ActionCodec, ActionSpec, Slot
from rt2.inference.policy import Policy, describe
from rt2.models import variants
from rt2.models.build import Model
from rt2.preprocess import Preprocess
from rt2.tokenizer import ActionVocabulary, Tokenizer
from rt2.train.checkpoint import CheckpointWriter
from rt2.train.step import TrainState
from tests.inference.serving import StubPolicy, always, serving

TEXT = [
    "Q: what action should the robot take to move to the red cup? A:",
    "Q: what action should the robot take to push the green block? State: 0 255. A:",
    "Answer in en : where is the cup",
] * 20


@pytest.fixture(scope="session")
def preprocess():
    """`arm` with RT-2's slots, `table` with the two of Language-Table, `limb`: an arm's state."""
    tokenizer = Tokenizer.train(TEXT, 1152)
    arm = ActionCodec(RT2, (-0.05,) * 3 + (-0.25,) * 3 + (0.0,), (0.05,) * 3 + (0.25,) * 3 + (1.0,))
    table = ActionCodec(LANGUAGE_TABLE, (-0.04, -0.04), (0.04, 0.04))
    joints = ActionSpec(tuple(Slot(f"state_{i}") for i in range(3)))
    return Preprocess(
        tokenizer=tokenizer,
        vocabulary=ActionVocabulary.integer(tokenizer, RT2),
        codecs={"arm": arm, "table": table, "limb": arm},
        image_size=64,
        history=1,
        prefix_length=40,
        target_length=12,
        state_codecs={"limb": ActionCodec(joints, (-1.0, 0.0, 10.0), (1.0, 0.5, 90.0))},
    )


@pytest.fixture(scope="session")
def policy(preprocess):
    """Random weights, drawn wide so that different observations get different actions.

    Untied and not mimetic: a random tied model repeats its last token.
    """
    config = variants.config(
        "debug", vocab=preprocess.tokenizer.size, dtype="float32", remat="none", image_size=64
    )
    text = dataclasses.replace(config.text, tied_head=False, mimetic=False)
    model = Model(dataclasses.replace(config, text=text))
    params = jax.jit(model.init)(jax.random.key(0))
    params = {path: 2 * value if value.ndim > 1 else value for path, value in params.items()}
    assets = {"step": 7, "eval": {"private": "not for clients"}, "config": {"sources": {}}}
    return Policy(model, params, preprocess, describe(preprocess, assets))


@pytest.fixture(scope="session")
def observations():
    """A hundred observations: images of many sizes, a few instructions, all data sets."""
    rng = np.random.default_rng(0)
    instructions = ("move to the red cup", "push the green block", "move to the block")

    def draw(i):
        height, width = rng.integers(48, 160, 2)
        coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
        image = coarse.repeat(40, axis=0).repeat(32, axis=1)[:height, :width]
        noise = rng.integers(0, 30, image.shape, np.uint8)
        observation = {
            "image": (image // 2 + noise).astype(np.uint8),
            "instruction": instructions[i // 3 % 3],
            "dataset": ("arm", "table", "limb")[i % 3],
        }
        if observation["dataset"] == "limb":
            observation["state"] = rng.uniform((-1, 0, 10), (1, 0.5, 90)).tolist()
        return observation

    return [draw(i) for i in range(100)]


@pytest.fixture(scope="session")
def checkpoint_dir(policy, tmp_path_factory):
    """A workdir as training leaves it, with the policy's weights and no optimizer state."""
    workdir = tmp_path_factory.mktemp("workdir")
    writer = CheckpointWriter(workdir, keep=1)
    state = TrainState(jax.numpy.int32(7), policy.params, {"count": jax.numpy.int32(0)})
    assets = {
        "format": checkpoint.FORMAT,
        "config": {"sources": {}},
        "model": policy.model.to_json(),
        "preprocess": policy.preprocess.to_json(),
        "data": {},
        "eval": {},
        "step": 7,
    }
    writer.save(state, json.loads(json.dumps(assets)))
    writer.close()
    return workdir


@pytest.fixture
def stub():
    return StubPolicy()


@pytest.fixture
def served(stub):
    with serving(always(stub)) as running:
        yield running
