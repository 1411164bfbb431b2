import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rt2.models import variants
from rt2.models.build import Model
from rt2.models.encoder_decoder import RelativePosition
from rt2.models.layers import Attention

VOCAB, T = 256, 6


def make(variant, dtype="float32", remat="none", vocab=VOCAB):
    return Model(variants.config(variant, vocab=vocab, dtype=dtype, remat=remat, image_size=0))


@pytest.fixture(scope="module", params=["debug", "palme_debug"])
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def model(variant):
    return make(variant)


@pytest.fixture(scope="module")
def params(model):
    return jax.jit(model.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    prefix = rng.integers(3, VOCAB, (3, 7)).astype(np.int32)
    prefix[1, 4:] = 0
    return {
        "image": rng.integers(0, 256, (3, 1, 64, 64, 3)).astype(np.uint8),
        "prefix": prefix,
        "target": rng.integers(3, VOCAB, (3, T)).astype(np.int32),
    }


@functools.partial(jax.jit, static_argnums=0)
def logits(model, params, batch):
    return model.module(params)(
        batch["image"], batch["prefix"], batch["target"], batch.get("has_image")
    )


def test_cached_decoding_equals_teacher_forcing(model, params, batch):
    @jax.jit
    def cached(params):
        module = model.module(params)
        cache = module.start(module.encode(batch["image"], batch["prefix"]), T)
        token, rows = jnp.zeros(3, jnp.int32), []
        for position in range(T):
            hidden, cache = module.step(token, jnp.array(position), cache)
            rows.append(module.logits(hidden))
            token = batch["target"][:, position]
        return jnp.stack(rows, axis=1)

    whole = logits(model, params, batch)
    assert float(jnp.std(whole)) > 0.1
    np.testing.assert_allclose(cached(params), whole, atol=1e-5)
    np.testing.assert_allclose(cached(model.apart(dict(params))), whole, atol=1e-5)


def test_layers_apart_are_the_same_parameters(model, params):
    apart = model.apart(left := dict(params))
    assert not left and sum(isinstance(x, list) for x in apart.values()) > 10
    for path, value in model.together(apart).items():
        np.testing.assert_array_equal(value, params[path], err_msg=path)


def test_a_position_depends_on_earlier_targets_alone(model, params, batch):
    whole = logits(model, params, batch)
    for position in range(T):
        changed = batch["target"].copy()
        changed[:, position] = (changed[:, position] + 1) % VOCAB
        moved = (
            np.abs(logits(model, params, batch | {"target": changed}) - whole).max((0, 2)) > 1e-6
        )
        assert moved.tolist() == [i > position for i in range(T)]


def test_padding_of_the_prefix_changes_nothing(model, params, batch):
    wider = np.pad(batch["prefix"], ((0, 0), (0, 5)))
    np.testing.assert_allclose(
        logits(model, params, batch | {"prefix": wider}), logits(model, params, batch), atol=1e-5
    )


def test_what_is_no_image_changes_nothing(model, params, batch):
    some = batch | {"has_image": np.array([True, False, True])}
    before = logits(model, params, some)
    after = logits(model, params, some | {"image": 255 - batch["image"]})
    np.testing.assert_allclose(after[1], before[1], atol=1e-6)
    assert np.abs(after[0] - before[0]).max() > 1e-3


def test_image_and_prefix_matter(model, params, batch):
    whole = logits(model, params, batch)
    other = batch | {"image": 255 - batch["image"]}
    assert np.abs(logits(model, params, other) - whole).max() > 1e-3
    other = batch | {"prefix": batch["prefix"][::-1]}
    assert np.abs(logits(model, params, other) - whole).max() > 1e-3


def test_two_images_give_twice_the_visual_tokens(model, params, batch):
    module = model.module(params)
    two = np.concatenate([batch["image"], 255 - batch["image"]], axis=1)
    one = module.visual_tokens(batch["image"])
    both = module.visual_tokens(two)
    assert both.shape[1] == 2 * one.shape[1] == 2 * model.config.vision.tokens
    np.testing.assert_allclose(both[:, : one.shape[1]], one, atol=1e-5)


@functools.partial(jax.jit, static_argnums=0)
def gradient(model, params, batch):
    return jax.grad(lambda params: logits(model, params, batch).var())(params)


def test_remat_and_bfloat16_change_no_shape_and_little_value(variant, model, params, batch):
    plain = gradient(model, params, batch)
    for remat in ("dots", "full"):
        again = gradient(make(variant, remat=remat), params, batch)
        for path in plain:
            np.testing.assert_allclose(plain[path], again[path], atol=1e-6, err_msg=path)
    coarse = logits(make(variant, "bfloat16"), params, batch)
    assert coarse.dtype == jnp.float32
    assert 1e-6 < np.abs(coarse - logits(model, params, batch)).max() < 0.2


def test_every_parameter_gets_a_gradient_and_names_its_axes(model, params, batch):
    for path, grad in gradient(model, params, batch).items():
        assert len(model.axes[path]) == grad.ndim, path
        # softmax is invariant to a bias on the keys
        if not path.endswith("key/bias"):
            assert float(jnp.abs(grad).max()) > 0, path


def test_some_rows_of_the_head_are_the_whole_head(model, params):
    module = model.module(params)
    hidden = jax.random.normal(jax.random.key(1), (4, 32))
    ids = jnp.array([5, 200, 17])
    np.testing.assert_allclose(module.logits(hidden, ids), module.logits(hidden)[:, ids], atol=1e-6)


def test_relative_buckets_are_those_of_t5():
    # literal values of the published mapping: 32 buckets, half by sign, logarithmic from 8 (16)
    def bucket(distance, bidirectional):
        table = RelativePosition(1, bidirectional, rngs=nnx.Rngs(0))
        table.table[...] = jnp.arange(32.0)[:, None]
        return int(table(jnp.array([0]), jnp.array([distance]))[0, 0, 0, 0])

    two_sided = {0: 0, -1: 1, -7: 7, -8: 8, -20: 10, -127: 15, -999: 15, 1: 17, 8: 24, 999: 31}
    assert {d: bucket(d, True) for d in two_sided} == two_sided
    one_sided = {0: 0, 5: 0, -1: 1, -15: 15, -16: 16, -64: 26, -127: 31, -500: 31}
    assert {d: bucket(d, False) for d in one_sided} == one_sided


def test_a_mimetic_start_passes_on_what_is_alike():
    # token 7 is like token 2 but not the same: it shall find it, and not itself
    width, heads = 192, 4
    rngs = nnx.Rngs(0)
    attention = Attention(
        width, heads, width // heads, bias=False, scale=1.0, mimetic=True, rngs=rngs
    )
    table = RelativePosition(heads, True, look_away=True, rngs=rngs)
    x = jax.random.normal(jax.random.key(1), (1, 10, width))
    x = x.at[0, 7].set(0.6 * x[0, 2] + 0.8 * x[0, 7])
    found = attention(x, table(jnp.arange(10), jnp.arange(10)))[0, 7]
    likeness = x[0] @ found / jnp.linalg.norm(x[0], axis=1) / jnp.linalg.norm(found)
    assert likeness[2] > 0.9 and likeness.argmax() == 2


@pytest.mark.parametrize(
    "name, millions",
    [("debug", 0.5), ("palme_debug", 0.5), ("mini", 2), ("tiny", 5), ("small", 33)],
)
def test_sizes(name, millions):
    model = make(name, vocab=6000)
    assert model.size / 1e6 <= millions
    assert Model.from_json(model.to_json()) == model
