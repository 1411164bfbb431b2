"""What --config.init_from takes: our own weights, public ones, several at once."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from jax.sharding import SingleDeviceSharding

from rt2 import checkpoint
from rt2.actions import LANGUAGE_TABLE, ActionCodec
from rt2.errors import ConfigError, UserError
from rt2.inference import export
from rt2.inference.policy import Policy, describe
from rt2.models import variants
from rt2.models.build import Model
from rt2.models.weights import own
from rt2.preprocess import Preprocess
from rt2.tokenizer import ActionVocabulary, Tokenizer
from rt2.train import init_from

ASSETS = {"step": 1, "eval": {}, "config": {"sources": {}}}
TEXT = ["Q: what action should the robot take to push the green block? A:"] * 20


def make_preprocess(text) -> Preprocess:
    tokenizer = Tokenizer.train(text, 1100)
    return Preprocess(
        tokenizer=tokenizer,
        vocabulary=ActionVocabulary.integer(tokenizer, LANGUAGE_TABLE),
        codecs={"table": ActionCodec(LANGUAGE_TABLE, (-0.04, -0.04), (0.04, 0.04))},
        image_size=64,
        history=1,
        prefix_length=30,
        target_length=4,
    )


@pytest.fixture(scope="module")
def policy():
    preprocess = make_preprocess(TEXT)
    model = Model(
        variants.config(
            "debug", vocab=preprocess.tokenizer.size, dtype="float32", remat="none", image_size=0
        )
    )
    params = jax.jit(model.init)(jax.random.key(3))
    return Policy(model, params, preprocess, describe(preprocess, ASSETS))


@pytest.fixture
def exported(policy, tmp_path):
    """The policy's weights in shards of 20 kB."""
    export.write_weights(policy, tmp_path / "exported", 20_000)
    return tmp_path / "exported"


def load(policy, path):
    one = SingleDeviceSharding(jax.devices()[0])
    shardings = dict.fromkeys(policy.model.shapes, one)
    return init_from.load_params(str(path), policy.model, shardings, policy.preprocess)


def test_exported_weights_come_back_bit_for_bit(policy, exported):
    shards = list(exported.glob("model-*.safetensors"))
    assert len(shards) > 3
    loaded = load(policy, exported)
    assert loaded.keys() == policy.params.keys()
    for path, array in policy.params.items():
        assert loaded[path].dtype == array.dtype
        np.testing.assert_array_equal(loaded[path], array, err_msg=path)
    assert init_from.tokenizer(str(exported)).digest == policy.preprocess.tokenizer.digest


def test_shards_hold_their_size_and_the_index_names_every_array(policy, exported):
    index = json.loads((exported / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == policy.params.keys()
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in policy.params.values())
    for shard in exported.glob("model-*.safetensors"):
        arrays = safetensors.numpy.load_file(shard)
        assert len(arrays) == 1 or sum(x.nbytes for x in arrays.values()) <= 20_000


def test_a_flipped_bit_is_found(policy, exported):
    files = [*exported.glob("model-*.safetensors"), exported / "assets.json"]
    for file in files:
        data = file.read_bytes()
        file.write_bytes(data[:-3] + bytes([data[-3] ^ 4]) + data[-2:])
        with pytest.raises(UserError, match="not what was written"):
            load(policy, exported)
        file.write_bytes(data)
    load(policy, exported)


def test_the_command_writes_safetensors(policy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Policy, "load", lambda path, weights: policy)
    out = tmp_path / "out"
    export.main(["--checkpoint=x", f"--out={out}", "--format=safetensors", "--shard-gb=0.0001"])
    assert f"{out}: " in capsys.readouterr().out
    assert len(list(out.glob("model-*-of-*.safetensors"))) > 1
    with pytest.raises(SystemExit, match="not an empty folder"):
        export.main(["--checkpoint=x", f"--out={out}", "--format=safetensors"])


def test_one_file_in_bfloat16_is_a_start_too(policy, tmp_path):
    assets = {
        "format": checkpoint.FORMAT,
        "model": policy.model.to_json(),
        "preprocess": policy.preprocess.to_json(),
    }
    path = tmp_path / "start.safetensors"
    own.write_file(path, policy.params, assets, jax.numpy.bfloat16)
    for name, array in load(policy, path).items():
        rounded = policy.params[name].astype("bfloat16").astype("float32")
        np.testing.assert_array_equal(array, rounded, err_msg=name)


def test_a_part_alone(policy, exported):
    vision = load(policy, f"vision:{exported}")
    assert vision.keys() == {path for path in policy.params if path.startswith("vision/")}
    both = load(policy, f"vision:{exported},text:{exported}")
    assert {path.split("/")[0] for path in both} == {"vision", "text"}
    assert init_from.tokenizer(f"vision:{exported}") is None
    init_from.check_frozen(("vision/",), policy.model, vision)
    with pytest.raises(ConfigError, match="keeps text/.* as init_from has it"):
        init_from.check_frozen(("vision/", "text/"), policy.model, vision)


def test_two_sources_may_not_fill_the_same(policy, exported):
    with pytest.raises(ConfigError, match="another source both have vision/.*vision:"):
        load(policy, f"{exported},vision:{exported}")


def test_another_tokenizer_is_refused(policy, exported):
    other = make_preprocess([*TEXT, "an entirely different sentence about yellow stars"] * 2)
    one = SingleDeviceSharding(jax.devices()[0])
    shardings = dict.fromkeys(policy.model.shapes, one)
    with pytest.raises(checkpoint.CheckpointError, match="another tokenizer"):
        init_from.load_params(str(exported), policy.model, shardings, other)
    init_from.load_params(f"vision:{exported}", policy.model, shardings, other)


def test_public_text_weights_want_their_tokenizer_named(tmp_path):
    names = ("shared.weight", "lm_head.weight", "encoder.final_layer_norm.weight")
    kinds = ("SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "SelfAttention.o")
    stacks = [
        f"{side}.block.0.layer.{i}.{kind}.weight"
        for side in ("encoder", "decoder")
        for i, some in enumerate((kinds, ("DenseReluDense.wi_0", "DenseReluDense.wo")))
        for kind in ("layer_norm", *some)
    ]
    cross = [f"decoder.block.0.layer.1.EncDecAttention.{x}.weight" for x in "qkvo"]
    path = tmp_path / "t5.safetensors"
    tensors = {name: np.zeros(2, np.float32) for name in (*names, *stacks, *cross)}
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ConfigError, match="--config.tokenizer.path"):
        init_from.tokenizer(str(path))
    assert init_from.tokenizer(f"vision:{path}") is None


@pytest.mark.parametrize(
    "text, message", [("nowhere", "no such file"), ("text:nowhere", "no such file.*vision:")]
)
def test_a_path_that_is_none_is_said_before_anything_else(text, message):
    with pytest.raises(ConfigError, match=message):
        init_from.read(text)
    assert init_from.read("") == ()
