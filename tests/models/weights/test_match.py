"""Nothing is left over, nothing is missing, nothing is of another shape without being named."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from rt2.models.build import Model
from rt2.models.vit import resample_positions
from rt2.models.weights.files import WeightsError, open_tensors
from rt2.models.weights.layout import rearrange
from rt2.models.weights.load import load
from rt2.models.weights.match import OTHER_ROWS, fit_rows


@given(st.permutations("hkdf"), st.integers(0, 2))
def test_a_pattern_moves_every_number_to_its_axes(order, where):
    sizes = dict(h=2, k=3, d=4, f=5)
    pattern = f"(h k) d f -> {' '.join(order)}"
    x = np.random.default_rng(0).normal(size=(6, 4, 5))
    y = rearrange(pattern, tuple(sizes[a] for a in order), x)
    place = {"h": where % 2, "k": where, "d": 3, "f": where}
    value = x[place["h"] * 3 + place["k"], place["d"], place["f"]]
    assert y[tuple(place[axis] for axis in order)] == value


def test_a_pattern_takes_an_index_and_joins_axes():
    x = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(rearrange("1 a b -> b a", (4, 3), x), x[1].T)
    joined = rearrange("a b c -> (b a) c", (6, 4), x)
    np.testing.assert_array_equal(joined, x.transpose(1, 0, 2).reshape(6, 4))


@pytest.mark.parametrize(
    "pattern, shape",
    [("a b -> b a", (3, 2)), ("5 b c -> b c", (3, 4)), ("(a z) b c -> a z b c", (2, 2, 3, 4))],
)
def test_a_pattern_that_does_not_fit_is_refused(pattern, shape):
    with pytest.raises(ValueError):
        rearrange(pattern, shape, np.zeros((2, 3, 4)))


def test_every_missing_tensor_is_named(case, write):
    whole = case.tensors
    # one of every kind of name, the layers of a stack being one kind
    for name in {re.sub(r"\.\d+\.", ".0.", name): name for name in whole}.values():
        path = write({k: v for k, v in whole.items() if k != name})
        end = ".".join(name.replace("vision_model.", "").split(".")[-4:])
        with pytest.raises(WeightsError, match=f"has no .*{re.escape(end)}"):
            load(path, case.model, {})


def test_every_transposed_tensor_is_named_with_both_shapes(case, write):
    whole = case.tensors
    for name in {re.sub(r"\.\d+\.", ".0.", name): name for name in whole}.values():
        if len(set(whole[name].shape)) == 1 or name.endswith("cls_token"):
            continue
        path = write(whole | {name: whole[name].T})
        shape = re.escape(str(list(whole[name].T.shape)))
        with pytest.raises(WeightsError, match=rf"\w+/\w+.* \[.*\] from .*{shape}"):
            load(path, case.model, {})


LEFT_OVER = {
    "another tensor": ("decoder.dense.weight", "left over"),
    "a layer more": ("encoder.block.2.layer.0.layer_norm.weight", "only 2 layers"),
    "a bias": ("lm_head.bias", "left over"),
}


@pytest.mark.parametrize("name, message", LEFT_OVER.values(), ids=LEFT_OVER)
def test_a_leftover_is_an_error(cases, write, name, message):
    case = cases["t5"]
    with pytest.raises(WeightsError, match=f"{re.escape(name)}.*{message}"):
        load(write(case.tensors | {name: np.zeros(16, np.float32)}), case.model, {})


def test_copies_of_the_embedding_must_be_copies(cases, write):
    case = cases["t5"]
    copy = {"encoder.embed_tokens.weight": case.tensors["shared.weight"]}
    case.load(write(case.tensors | copy))
    with pytest.raises(WeightsError, match="embed_tokens.weight is not the same as shared.weight"):
        case.load(write(case.tensors | {name: x + 1 for name, x in copy.items()}))


def test_what_is_known_to_be_of_no_use_is_dropped_and_said(cases, write, caplog):
    case = cases["siglip"]
    more = {"vision_model.head.probe": np.ones((1, 1, 24), np.float32)}
    with caplog.at_level("INFO"):
        case.load(write(case.tensors | more))
    assert "SigLIP (Hugging Face), into vision" in caplog.text
    assert "left out vision_model.head.probe: a vision-language model takes" in caplog.text


def test_a_tower_with_a_class_token_needs_a_model_with_one(cases, write):
    path = write(cases["vit"].tensors)
    with pytest.raises(WeightsError, match="cls_token: the model has no vision/class_token"):
        load(path, cases["siglip"].model, {})


def test_the_names_of_other_writers_are_known(cases, write):
    def renamed(case, *pairs):
        tensors = case.tensors
        for old, new in pairs:
            tensors = {re.sub(f"^{re.escape(old)}", new, k): v for k, v in tensors.items()}
        return write(tensors)

    vit, siglip, paligemma = (cases[name] for name in ("vit", "siglip", "paligemma"))
    variants = [
        (vit, [("", "vit.")]),
        (siglip, [("vision_model.", "")]),
        (paligemma, [("vision_tower.vision_model.", "vision_tower.")]),
        (
            paligemma,
            [
                ("vision_tower", "model.vision_tower"),
                ("multi_modal", "model.multi_modal"),
                ("language_model.model.", "model.language_model."),
            ],
        ),
    ]
    for case, pairs in variants:
        plain = case.load(write(case.tensors))
        for path, array in case.load(renamed(case, *pairs)).items():
            np.testing.assert_array_equal(array, plain[path], err_msg=path)


def test_one_part_of_a_file_is_taken_alone(cases, write):
    case = cases["paligemma"]
    path = write(case.tensors)
    vision = load(path, case.model, shardings(case.model), part="vision")
    assert {name.split("/")[0] for name in vision} == {"vision"}
    with pytest.raises(WeightsError, match="T5 v1.1.* has no part 'vision'"):
        load(write(cases["t5"].tensors), cases["t5"].model, {}, part="vision")


def test_another_number_of_rows():
    table = np.arange(12, dtype=np.float32).reshape(6, 2)
    longer = np.concatenate(fit_rows(table, 8, 8))
    np.testing.assert_array_equal(longer[:6], table)
    np.testing.assert_array_equal(longer[6:], [[5, 6], [5, 6]])
    np.testing.assert_array_equal(np.concatenate(fit_rows(table, 5, 5)), table[:5])
    many = np.broadcast_to(table[:1], (OTHER_ROWS + 7, 2))
    for tensor, vocab in ((table, OTHER_ROWS + 7), (many, 6)):
        with pytest.raises(ValueError, match="tokenizer with"):
            fit_rows(tensor, len(many), vocab)


def test_extended_rows_reach_the_model(cases, write):
    case = cases["mt5"]
    head = case.tensors["lm_head.weight"]
    loaded = np.asarray(case.load(write(case.tensors))["text/head"])
    np.testing.assert_array_equal(loaded[:250], head)
    np.testing.assert_allclose(loaded[250:], np.tile(head.mean(0), (6, 1)), atol=1e-6)


def test_positions_of_another_resolution_are_resampled(cases, write):
    case = cases["siglip"]
    vision = case.model.config.vision
    larger = dataclasses.replace(vision, image_size=20)
    model = Model(dataclasses.replace(case.model.config, vision=larger))
    loaded = load(write(case.tensors), model, shardings(model))
    table = case.tensors["vision_model.embeddings.position_embedding.weight"]
    wanted = resample_positions(table, 25)
    np.testing.assert_allclose(loaded["vision/position"], wanted, atol=1e-6)


def shardings(model, spec=lambda shape: PartitionSpec()):
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"))
    return {path: NamedSharding(mesh, spec(s.shape)) for path, s in model.shapes.items()}


def test_every_shard_gets_its_own_slice(case, write):
    def spread(shape):
        """Every axis that divides over a free mesh axis, the last one first."""
        free, spec = {"tensor": 4, "fsdp": 2}, [None] * len(shape)
        for axis in reversed(range(len(shape))):
            for name, size in list(free.items()):
                if spec[axis] is None and shape[axis] % size == 0:
                    spec[axis] = name
                    del free[name]
        return PartitionSpec(*spec)

    path = write(case.tensors)
    whole, placed = case.load(path), load(path, case.model, shardings(case.model, spread))
    assert any(array.sharding.spec != PartitionSpec() for array in placed.values())
    for name, array in placed.items():
        assert array.sharding.shard_shape(array.shape) == array.addressable_shards[0].data.shape
        np.testing.assert_array_equal(array, whole[name], err_msg=name)


def test_shards_are_one_checkpoint(cases, write, tmp_path):
    case = cases["t5"]
    tensors = case.tensors
    names = sorted(tensors)
    files = {"a-1.safetensors": names[::2], "a-2.safetensors": names[1::2]}
    for file, chosen in files.items():
        safetensors.numpy.save_file({n: tensors[n] for n in chosen}, tmp_path / file)
    places = {name: file for file, chosen in files.items() for name in chosen}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    sharded = case.load(tmp_path)
    index.unlink()
    whole = case.load(write(tensors))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, sharded[name], err_msg=name)


BAD_INDEX = {
    "outside": ({"x": "../a-1.safetensors"}, "names the shard"),
    "no shard": ({"x": "b.safetensors"}, "names the shard"),
    "differs": ({"x": "a-1.safetensors", "z": "a-1.safetensors"}, "differ in .*z"),
    "no map": (None, "not an index"),
}


@pytest.mark.parametrize("places, message", BAD_INDEX.values(), ids=BAD_INDEX)
def test_a_bad_index_is_refused(tmp_path, places, message):
    safetensors.numpy.save_file({"x": np.ones(3)}, tmp_path / "a-1.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places} if places else []))
    with pytest.raises(WeightsError, match=message):
        open_tensors(tmp_path)


def test_files_that_are_none_are_refused_by_name(tmp_path):
    bad = {"a.safetensors": b"{}" * 9, "b.npz": b"PK\x03\x04 no zip", "c.bin": b"pickled"}
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match=name):
            open_tensors(tmp_path / name)
    with pytest.raises(WeightsError, match="no weights here"):
        open_tensors(tmp_path / "nothing")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_object_is_unpickled(tmp_path, save):
    save(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(WeightsError, match="x.npy is no array"):
        open_tensors(tmp_path / "a.npz")["x"]


def test_unknown_names_list_the_known_layouts(cases, write):
    path = write({"transformer.wte": np.ones(3, np.float32)})
    with pytest.raises(WeightsError, match="no known layout .*transformer.wte.*known: PaliGemma"):
        load(path, cases["t5"].model, {})


def test_whole_numbers_are_no_weights(cases, write):
    case = cases["t5"]
    norm = "encoder.final_layer_norm.weight"
    path = write(case.tensors | {norm: np.ones(16, np.int64)})
    with pytest.raises(WeightsError, match="text/encoder_norm/scale.*dtype is int64"):
        load(path, case.model, {})
