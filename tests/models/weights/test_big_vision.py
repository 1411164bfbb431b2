"""big_vision's npz files, written here from the Hugging Face tensors by the published layout."""

import re

import ml_dtypes
import numpy as np
import pytest

from rt2.models import variants
from rt2.models.build import Model
from rt2.models.weights.files import Tensors
from rt2.models.weights.match import find, sources

# names, shapes and axes of the published paligemma-3b-pt-224 (axes: layers first)
PALIGEMMA_3B = {
    "img/Transformer/encoder_norm/bias": (1152,),
    "img/Transformer/encoder_norm/scale": (1152,),
    "img/Transformer/encoderblock/LayerNorm_0/bias": (27, 1152),
    "img/Transformer/encoderblock/LayerNorm_0/scale": (27, 1152),
    "img/Transformer/encoderblock/LayerNorm_1/bias": (27, 1152),
    "img/Transformer/encoderblock/LayerNorm_1/scale": (27, 1152),
    "img/Transformer/encoderblock/MlpBlock_0/Dense_0/bias": (27, 4304),
    "img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel": (27, 1152, 4304),
    "img/Transformer/encoderblock/MlpBlock_0/Dense_1/bias": (27, 1152),
    "img/Transformer/encoderblock/MlpBlock_0/Dense_1/kernel": (27, 4304, 1152),
    "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/key/bias": (27, 16, 72),
    "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/key/kernel": (27, 1152, 16, 72),
    "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/out/bias": (27, 1152),
    "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/out/kernel": (27, 16, 72, 1152),
    "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/query/bias": (27, 16, 72),
    "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/query/kernel": (27, 1152, 16, 72),
    "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/value/bias": (27, 16, 72),
    "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/value/kernel": (27, 1152, 16, 72),
    "img/embedding/bias": (1152,),
    "img/embedding/kernel": (14, 14, 3, 1152),
    "img/head/bias": (2048,),
    "img/head/kernel": (1152, 2048),
    "img/pos_embedding": (1, 256, 1152),
    "llm/embedder/input_embedding": (257152, 2048),
    "llm/final_norm/scale": (2048,),
    "llm/layers/attn/attn_vec_einsum/w": (18, 8, 256, 2048),
    "llm/layers/attn/kv_einsum/w": (18, 2, 1, 2048, 256),
    "llm/layers/attn/q_einsum/w": (18, 8, 2048, 256),
    "llm/layers/mlp/gating_einsum": (18, 2, 2048, 16384),
    "llm/layers/mlp/linear": (18, 16384, 2048),
    "llm/layers/pre_attention_norm/scale": (18, 2048),
    "llm/layers/pre_ffw_norm/scale": (18, 2048),
}


def tower(hf: dict[str, np.ndarray], prefix: str, heads: int, head_dim: int) -> dict:
    """The SigLIP tower `hf` as big_vision stores it, one entry for each layer's tensor."""
    out = {
        "embedding/kernel": hf[prefix + "embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": hf[prefix + "embeddings.patch_embedding.bias"],
        "pos_embedding": hf[prefix + "embeddings.position_embedding.weight"][None],
        "Transformer/encoder_norm/scale": hf[prefix + "post_layernorm.weight"],
        "Transformer/encoder_norm/bias": hf[prefix + "post_layernorm.bias"],
    }
    for i in range(2):
        theirs, block = f"{prefix}encoder.layers.{i}.", f"Transformer/encoderblock_{i}"
        for j in (1, 2):
            norm = f"{block}/LayerNorm_{j - 1}"
            out[f"{norm}/scale"] = hf[f"{theirs}layer_norm{j}.weight"]
            out[f"{norm}/bias"] = hf[f"{theirs}layer_norm{j}.bias"]
            dense = f"{block}/MlpBlock_0/Dense_{j - 1}"
            out[f"{dense}/kernel"] = hf[f"{theirs}mlp.fc{j}.weight"].T
            out[f"{dense}/bias"] = hf[f"{theirs}mlp.fc{j}.bias"]
        attention = f"{block}/MultiHeadDotProductAttention_0"
        for name in ("query", "key", "value"):
            linear = f"{theirs}self_attn.{name[0]}_proj"
            kernel = hf[f"{linear}.weight"].T.reshape(-1, heads, head_dim)
            out[f"{attention}/{name}/kernel"] = kernel
            out[f"{attention}/{name}/bias"] = hf[f"{linear}.bias"].reshape(heads, head_dim)
        kernel = hf[f"{theirs}self_attn.out_proj.weight"].T.reshape(heads, head_dim, -1)
        out[f"{attention}/out/kernel"] = kernel
        out[f"{attention}/out/bias"] = hf[f"{theirs}self_attn.out_proj.bias"]
    return out


def scanned(tower: dict) -> dict:
    """The same with one entry for all layers."""
    return {
        name.replace("encoderblock_0", "encoderblock"): np.stack(
            [array, tower[name.replace("block_0", "block_1")]]
        )
        if "block_0" in name
        else array
        for name, array in tower.items()
        if "block_1" not in name
    }


def paligemma(hf: dict, heads: int = 4, head_dim: int = 8) -> dict:
    """`hf` as PaliGemma's npz holds it."""
    lm = "language_model.model."

    def each(name):
        return [hf[f"{lm}layers.{i}.{name}.weight"] for i in range(2)]

    def split(kernel):
        return kernel.reshape(-1, head_dim, kernel.shape[1]).transpose(0, 2, 1)

    keys_values = zip(each("self_attn.k_proj"), each("self_attn.v_proj"), strict=True)
    gates = zip(each("mlp.gate_proj"), each("mlp.up_proj"), strict=True)
    out = [o.T.reshape(heads, head_dim, -1) for o in each("self_attn.o_proj")]
    llm = {
        "embedder/input_embedding": hf[lm + "embed_tokens.weight"],
        "final_norm/scale": hf[lm + "norm.weight"],
        "layers/attn/attn_vec_einsum/w": np.stack(out),
        "layers/attn/kv_einsum/w": np.stack([[split(k), split(v)] for k, v in keys_values]),
        "layers/attn/q_einsum/w": np.stack([split(q) for q in each("self_attn.q_proj")]),
        "layers/mlp/gating_einsum": np.stack([[gate.T, up.T] for gate, up in gates]),
        "layers/mlp/linear": np.stack([down.T for down in each("mlp.down_proj")]),
        "layers/pre_attention_norm/scale": np.stack(each("input_layernorm")),
        "layers/pre_ffw_norm/scale": np.stack(each("post_attention_layernorm")),
    }
    img = scanned(tower(hf, "vision_tower.vision_model.", 2, 12)) | {
        "head/kernel": hf["multi_modal_projector.linear.weight"].T,
        "head/bias": hf["multi_modal_projector.linear.bias"],
    }
    return {f"img/{k}": v for k, v in img.items()} | {f"llm/{k}": v for k, v in llm.items()}


def same(ours: dict, theirs: dict) -> None:
    for path, array in theirs.items():
        np.testing.assert_array_equal(ours[path], array, err_msg=path)


def with_prefix(arrays: dict, prefix: str) -> dict:
    return {prefix + name: array for name, array in arrays.items()}


MAP_HEAD = {"MAPHead_0/probe": np.zeros((1, 1, 24)), "head/kernel": np.zeros((24, 24))}
TEXT_TOWER = {"params/txt/head/bias": np.zeros(3), "params/t": np.zeros(1), "params/b": np.ones(1)}


@pytest.mark.parametrize("in_one", [False, True], ids=["layers apart", "layers in one"])
@pytest.mark.parametrize(
    "prefix, more", [("params/img/", TEXT_TOWER), ("img/", {}), ("params/", {}), ("", {})]
)
def test_a_tower_is_the_one_of_hugging_face(cases, write, tmp_path, in_one, prefix, more):
    case = cases["siglip"]
    arrays = tower(case.tensors, "vision_model.", 2, 12) | MAP_HEAD
    if in_one:
        arrays = scanned(arrays)
    np.savez(tmp_path / "tower.npz", **with_prefix(arrays, prefix), **more)
    same(case.load(tmp_path / "tower.npz"), case.load(write(case.tensors)))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("prefix", ["params/", ""])
def test_paligemma_is_the_one_of_hugging_face(cases, write, tmp_path, save, prefix):
    case = cases["paligemma"]
    save(tmp_path / "pt.npz", **with_prefix(paligemma(case.tensors), prefix))
    same(case.load(tmp_path / "pt.npz"), case.load(write(case.tensors)))


def test_half_precision_is_read_as_it_was_written(cases, write, tmp_path):
    # the published f16 file keeps some tensors in float32; numpy stores bfloat16 as raw two bytes
    case = cases["paligemma"]
    rounded = {}
    for dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        arrays = {
            name: array if name.endswith("einsum/w") else array.astype(dtype)
            for name, array in paligemma(case.tensors).items()
        }
        np.savez(tmp_path / "pt.npz", **arrays)
        rounded[dtype.name] = case.load(tmp_path / "pt.npz")
    embedding = case.tensors["language_model.model.embed_tokens.weight"]
    for name, params in rounded.items():
        wanted = embedding.astype(name).astype(np.float32)
        np.testing.assert_array_equal(params["text/embedding"], wanted)


def test_names_and_shapes_are_the_published_ones(cases):
    small = paligemma(cases["paligemma"].tensors)
    assert small.keys() == PALIGEMMA_3B.keys()
    assert {name: array.ndim for name, array in small.items()} == {
        name: len(shape) for name, shape in PALIGEMMA_3B.items()
    }
    model = Model(
        variants.config("paligemma_3b", vocab=256000, dtype="float32", remat="none", image_size=0)
    )
    blank = {name: np.broadcast_to(np.float32(0), s) for name, s in PALIGEMMA_3B.items()}
    tensors = Tensors("pt_224.npz", {name: lambda a=a: a for name, a in blank.items()}, [])
    made = sources(find(tensors, model), model)
    assert made.keys() == model.shapes.keys()
    assert sum(np.prod(s) for s in PALIGEMMA_3B.values()) == model.size


def test_every_layer_counts(cases, tmp_path):
    case = cases["paligemma"]
    arrays = paligemma(case.tensors)
    arrays["llm/layers/mlp/linear"] = arrays["llm/layers/mlp/linear"][:1]
    np.savez(tmp_path / "pt.npz", **arrays)
    with pytest.raises(ValueError, match=re.escape("text/layers/mlp/out/kernel [2, 40, 16]")):
        case.load(tmp_path / "pt.npz")
