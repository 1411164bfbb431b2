"""Only valid actions, and text as if no constraint existed: random weights, mixed batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt2.inference import constraint, decode
from rt2.models import variants
from rt2.models.build import Model
from rt2.tokenizer import EOS


@pytest.fixture(scope="module")
def rows(policy):
    """1,000 observations as arrays; every second one is a robot row."""
    rng = np.random.default_rng(1)
    n = 1000
    vocab, length = policy.model.config.text.vocab, policy.preprocess.prefix_length
    return {
        "image": rng.integers(0, 256, (n, 1, 64, 64, 3)).astype(np.uint8),
        "prefix": rng.integers(3, vocab, (n, length)).astype(np.int32),
        "is_action": np.arange(n) % 2 == 0,
    }


def mixed(policy, rows, allowed):
    @jax.jit
    def run(params, image, prefix, is_action, allowed):
        module = policy.model.module(params)
        return decode.mixed(module, module.encode(image, prefix), is_action, allowed)

    tokens = []
    for start in range(0, len(rows["image"]), 250):
        part = {name: array[start : start + 250] for name, array in rows.items()}
        tokens.append(run(policy.params, **part, allowed=allowed).tokens)
    return np.concatenate(tokens)


def test_robot_rows_are_valid_and_text_rows_untouched(policy, preprocess, rows):
    vocab, length = policy.model.config.text.rows, preprocess.target_length
    spec = preprocess.codecs["arm"].spec
    table = constraint.action_table(preprocess.vocabulary, spec)
    mask = constraint.position_mask(table, vocab, length)
    constrained = mixed(policy, rows, mask)
    free = mixed(policy, rows, np.ones_like(mask))
    is_action = rows["is_action"]
    for row in constrained[is_action]:
        bins = preprocess.vocabulary.bins(row[: len(spec.slots)])
        assert (bins >= 0).all() and (bins < spec.bins).all()
        assert row[len(spec.slots)] == EOS
        assert not row[len(spec.slots) + 1 :].any()
    np.testing.assert_array_equal(constrained[~is_action], free[~is_action])
    # the constraint does something: without it hardly any robot row is an action
    valid = [set(row[:8]) <= set(preprocess.vocabulary.ids) for row in free[is_action]]
    assert np.mean(valid) < 0.5


@pytest.fixture(scope="module", params=["debug", "palme_debug"])
def family(request):
    """A model of each family, drawn wide so that rows differ."""
    config = variants.config(request.param, vocab=512, dtype="float32", remat="none", image_size=64)
    if request.param == "debug":  # a random tied one repeats its last token
        text = dataclasses.replace(config.text, tied_head=False, mimetic=False)
        config = dataclasses.replace(config, text=text)
    model = Model(config)
    params = jax.jit(model.init)(jax.random.key(0))
    return model, {path: 2 * value if value.ndim > 1 else value for path, value in params.items()}


def test_restricted_head_is_full_head_and_mask(family):
    """10,000 rows of 8 slots, the grammar another one in each of 5 calls; a row alone is as in it.

    What a slot allows is drawn: 2 to 64 tokens anywhere in the vocabulary.
    """
    model, params = family
    rng = np.random.default_rng(4)
    module = model.module(params)
    restricted = jax.jit(lambda i, t, table: decode.actions(module, module.encode(i, t), table))
    full = jax.jit(
        lambda i, t, mask: decode.mixed(module, module.encode(i, t), jnp.ones(len(t), bool), mask)
    )
    found = []
    for _ in range(5):
        table = np.full((8, 64), -1, np.int32)
        for slot in table:
            count = rng.integers(2, 65)
            slot[:count] = rng.permutation(np.arange(2, 512))[:count]
        image = rng.integers(0, 256, (2000, 1, 64, 64, 3)).astype(np.uint8)
        prefix = rng.integers(3, 512, (2000, 6)).astype(np.int32)
        one = restricted(image, prefix, table)
        other = full(image, prefix, constraint.position_mask(table, model.config.text.rows, 8))
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_allclose(one.log_prob, other.log_prob, atol=1e-4)
        found.append(one.tokens)
    assert len(np.unique(np.concatenate(found), axis=0)) > 2000
    alone = restricted(image[:1], prefix[:1], table)
    np.testing.assert_array_equal(alone.tokens[0], one.tokens[0])
    np.testing.assert_allclose(alone.log_prob[0], one.log_prob[0], atol=1e-5)


def test_log_prob_is_that_of_the_restricted_distribution(policy, preprocess, rows):
    table = constraint.action_table(preprocess.vocabulary, preprocess.codecs["arm"].spec)
    image, prefix = rows["image"][:4], rows["prefix"][:4]
    module = policy.model.module(policy.params)
    decoded = decode.actions(module, module.encode(image, prefix), jnp.asarray(table))
    logits = np.asarray(module(image, prefix, decoded.tokens), np.float64)
    for row in range(4):
        total = 0.0
        for position, allowed in enumerate(table):
            some = logits[row, position, allowed[allowed >= 0]]
            chosen = logits[row, position, decoded.tokens[row, position]]
            total += chosen - np.log(np.exp(some).sum())
        np.testing.assert_allclose(decoded.log_prob[row], total, atol=1e-4)
