"""ViT-22B's block from its formulas in numpy, the class token, and other resolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from flax import nnx

from rt2.errors import ConfigError
from rt2.models.vit import ParallelBlock, ViT, ViTConfig, resample_positions

CONFIG = ViTConfig(24, 2, 48, 3, patch=4, image_size=12, parallel=True)


def shaken(module):
    """`module` with every parameter moved, as norms at one and biases at zero hide mistakes."""
    rng = np.random.default_rng(1)
    graph, state = nnx.split(module)
    state = jax.tree.map(lambda x: x + 0.3 * rng.standard_normal(x.shape).astype("f"), state)
    return nnx.merge(graph, state)


def parameters(module):
    state = nnx.to_flat_state(nnx.state(module))
    return {"/".join(map(str, k)): np.asarray(v.get_value(), np.float64) for k, v in state}


def normed(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def reference_block(p, x):
    """ViT-22B, section 2: y = LN(x); x + MLP(y) + attention(y), query and key normalised."""
    y = normed(x, p["norm/scale"])
    out = np.zeros_like(x)
    for n in range(p["attention/query/kernel"].shape[1]):
        query = normed(y @ p["attention/query/kernel"][:, n], p["attention/query_norm/scale"])
        key = normed(y @ p["attention/key/kernel"][:, n], p["attention/key_norm/scale"])
        score = np.exp(query @ key.T / np.sqrt(query.shape[-1]))
        mixed = score / score.sum(-1, keepdims=True) @ y @ p["attention/value/kernel"][:, n]
        out += mixed @ p["attention/out/kernel"][n]
    wide = y @ p["mlp/wide/kernel"] + p["mlp/wide/bias"]
    gelu = wide / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
    return x + out + gelu @ p["mlp/out/kernel"] + p["mlp/out/bias"]


def test_the_block_of_vit_22b_is_its_formula():
    block = shaken(ParallelBlock(CONFIG, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(0).standard_normal((2, 5, 24)).astype(np.float32)
    theirs = [reference_block(parameters(block), row.astype(np.float64)) for row in x]
    np.testing.assert_allclose(block(jnp.asarray(x)), theirs, atol=2e-5, rtol=2e-5)


def test_patches_see_the_class_token_and_it_is_dropped():
    config = ViTConfig(16, 1, 32, 2, patch=4, image_size=12, class_token=True)
    tower = shaken(ViT(config, rngs=nnx.Rngs(0)))
    image = jnp.asarray(np.random.default_rng(0).standard_normal((1, 12, 12, 3)), jnp.float32)
    graph, state = nnx.split(tower)

    def output(state):
        return nnx.merge(graph, state)(image, remat="none")

    assert output(state).shape == (1, 9, 16)
    gradient = jax.jit(jax.grad(lambda state: output(state).var()))(state)
    assert np.abs(gradient["class_token"].get_value()).max() > 1e-6


@pytest.mark.parametrize("old, new", [(4, 7), (7, 4), (16, 32), (1, 3), (5, 5)])
def test_positions_are_resampled_as_big_vision_does(old, new):
    table = np.random.default_rng(0).standard_normal((old * old, 3)).astype(np.float32)
    zoom = (new / old, new / old, 1)
    wanted = scipy.ndimage.zoom(table.reshape(old, old, 3), zoom, order=1).reshape(-1, 3)
    np.testing.assert_allclose(resample_positions(table, new * new), wanted, atol=1e-6)


@pytest.mark.parametrize("old, new", [(9, 8), (8, 9)])
def test_positions_of_no_square_image_are_refused(old, new):
    with pytest.raises(ConfigError, match="8 position embeddings"):
        resample_positions(np.zeros((old, 3)), new)
