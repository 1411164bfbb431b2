"""The decoder alone: who sees whom by gradient, and a block from the formulas in numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rt2.models.decoder_only import DecoderConfig, DecoderOnly, rotate, rotation

PALM = DecoderConfig(24, 48, 4, 1, 8, 2, vocab=128, activation="silu", parallel=True)
GEMMA = dataclasses.replace(PALM, kv_heads=2, activation="gelu", parallel=False)
S, T = 5, 4


@pytest.fixture(scope="module", params=[PALM, GEMMA], ids=["palm", "gemma"])
def decoder(request):
    decoder = DecoderOnly(request.param, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)
    graph, state = nnx.split(decoder)  # norms at one would hide what they scale
    state = jax.tree.map(lambda x: x + 0.3 * rng.standard_normal(x.shape).astype("f"), state)
    return nnx.merge(graph, state)


def prefix(decoder, real):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, S, decoder.config.width)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray([real])


def test_targets_see_the_real_prefix_and_what_stands_before(decoder):
    x, real = prefix(decoder, [True, True, False, True, False])
    tokens = jnp.array([[10, 11, 12]])  # the inputs of positions 1, 2, 3
    graph, state = nnx.split(decoder)

    def output(x, state, position):
        return nnx.merge(graph, state).hidden(x, real, tokens, remat="none")[0, position].sum()

    gradient = jax.jit(jax.grad(output, argnums=(0, 1)), static_argnums=2)
    for position in range(T):
        of_prefix, of_state = gradient(x, state, position)
        assert (np.abs(of_prefix[0]).max(1) > 1e-6).tolist() == real[0].tolist()
        seen = np.abs(of_state["embedding"].get_value()[tokens[0]]).max(1) > 1e-6
        assert seen.tolist() == [i < position for i in range(T - 1)]


def test_the_prefix_sees_itself_both_ways(decoder):
    x, real = prefix(decoder, [True, True, True, True, False])

    def last_layer_key(x, position):
        return decoder.encode(x, real).key[-1, 0, position].sum()

    for position in (0, 3):
        seen = np.abs(jax.grad(last_layer_key)(x, position)[0]).max(1) > 1e-6
        assert seen.tolist() == real[0].tolist()


def test_padding_may_stand_anywhere(decoder):
    tokens = jnp.array([[10, 11, 12]])
    x, real = prefix(decoder, [True, True, True, False, False])
    whole = decoder.hidden(x, real, tokens, remat="none")
    short = decoder.hidden(x[:, :3], real[:, :3], tokens, remat="none")
    np.testing.assert_allclose(short, whole, atol=1e-5)
    apart = decoder.hidden(x[:, [0, 3, 1, 4, 2]], real[:, [0, 3, 1, 4, 2]], tokens, remat="none")
    np.testing.assert_allclose(apart, whole, atol=1e-5)


def test_rotation_keeps_lengths_and_knows_distances_alone():
    rng = np.random.default_rng(0)
    query, key = rng.standard_normal((2, 1, 1, 1, 8)).astype(np.float32)

    def score(i, j):
        turned = [rotate(x, rotation(jnp.array([[at]]), 8)) for x, at in ((query, i), (key, j))]
        return float((turned[0] * turned[1]).sum())

    assert score(7, 7) == pytest.approx(float((query * key).sum()), abs=1e-5)
    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert abs(score(9, 4) - score(4, 9)) > 1e-3


# An independent reference in float64, one position and one head at a time, from the papers.


def reference_norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def reference_rope(x, position):
    half = len(x) // 2
    out = np.empty_like(x)
    for i in range(half):
        angle = position / 10_000 ** (2 * i / len(x))
        out[i] = x[i] * np.cos(angle) - x[i + half] * np.sin(angle)
        out[i + half] = x[i + half] * np.cos(angle) + x[i] * np.sin(angle)
    return out


def reference_attention(p, x, sees):
    """x [L, D]; sees(i, j) says whether position i sees j."""
    heads, groups = p["query/kernel"].shape[1], p["key/kernel"].shape[1]
    out = np.zeros_like(x)
    for i in range(len(x)):
        for n in range(heads):
            g = n // (heads // groups)
            query = reference_rope(x[i] @ p["query/kernel"][:, n], i)
            those = [j for j in range(len(x)) if sees(i, j)]
            keys = [reference_rope(x[j] @ p["key/kernel"][:, g], j) for j in those]
            score = np.exp(np.array(keys) @ query / np.sqrt(len(query)))
            values = np.array([x[j] @ p["value/kernel"][:, g] for j in those])
            out[i] += (score / score.sum()) @ values @ p["out/kernel"][n]
    return out


def reference_mlp(p, x, activation):
    return (activation(x @ p["gate/kernel"]) * (x @ p["wide/kernel"])) @ p["out/kernel"]


def silu(x):
    return x / (1 + np.exp(-x))


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def below(parameters, start):
    return {k[len(start) :]: v for k, v in parameters.items() if k.startswith(start)}


def reference(decoder, x):
    """States behind the last norm, for a prefix of S positions and causal ones after it."""
    state = nnx.to_flat_state(nnx.state(decoder))
    whole = {"/".join(map(str, k)): np.asarray(v.get_value(), np.float64) for k, v in state}
    offset = 0 if decoder.config.parallel else 1
    for layer in range(decoder.config.layers):
        p = {k: v[layer] for k, v in below(whole, "layers/").items()}
        attention, mlp = below(p, "attention/"), below(p, "mlp/")

        def sees(i, j):
            return j < S or j <= i

        if decoder.config.parallel:
            normed = reference_norm(x, p["norm/scale"])
            mixed = reference_attention(attention, normed, sees)
            x = x + mixed + reference_mlp(mlp, normed, silu)
        else:
            normed = reference_norm(x, offset + p["norm_attention/scale"])
            x = x + reference_attention(attention, normed, sees)
            normed = reference_norm(x, offset + p["norm_mlp/scale"])
            x = x + reference_mlp(mlp, normed, gelu_tanh)
    return reference_norm(x, offset + whole["norm/scale"])


def test_the_blocks_are_their_formulas(decoder):
    x, real = prefix(decoder, [True] * S)
    tokens = jnp.array([[10, 11, 12]])
    ours = decoder.hidden(x, real, tokens, remat="none")[0]
    embedded = np.asarray(decoder.embedding[...], np.float64)[tokens[0]] * np.sqrt(24)
    theirs = reference(decoder, np.concatenate([np.asarray(x[0], np.float64), embedded]))[S - 1 :]
    np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=2e-5)
    logits = decoder.logits(ours)
    np.testing.assert_allclose(
        logits, theirs @ np.asarray(decoder.embedding[...], np.float64).T, atol=1e-4, rtol=1e-4
    )
