"""Draws against the exact distribution, and beam search against a slow obvious one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rt2.errors import ConfigError
from rt2.inference import constraint, decode
from rt2.inference.decoding import Decoding, Sampling
from rt2.inference.sampling import choose, truncate
from rt2.tokenizer import EOS, PAD
from tests.inference.recurrent import Recurrent


def sampling(rows, temperature=1.0, top_k=0, top_p=1.0, seed=0):
    return Sampling(
        seed + jnp.arange(rows, dtype=jnp.uint32),
        jnp.full(rows, temperature, jnp.float32),
        jnp.full(rows, top_k, jnp.int32),
        jnp.full(rows, top_p, jnp.float32),
    )


@pytest.fixture(scope="module")
def table(preprocess):
    return jnp.asarray(
        constraint.action_table(preprocess.vocabulary, preprocess.codecs["arm"].spec)
    )


@pytest.fixture(scope="module")
def rows(policy):
    rng = np.random.default_rng(3)
    vocab, length = policy.model.config.text.vocab, policy.preprocess.prefix_length
    image = rng.integers(0, 256, (4, 1, 64, 64, 3)).astype(np.uint8)
    return image, rng.integers(3, vocab, (4, length)).astype(np.int32)


@pytest.fixture(scope="module")
def act(policy, table):
    @functools.partial(jax.jit, static_argnames="more")
    def run(image, prefix, drawn=None, more=False):
        module = policy.model.module(policy.params)
        return decode.actions(module, module.encode(image, prefix), table, drawn, more, more)

    return run


@pytest.mark.parametrize(
    "temperature, top_k, top_p", [(1, 0, 1), (2, 0, 1), (1, 5, 1), (1, 0, 0.6)]
)
def test_draws_have_the_exact_frequencies(temperature, top_k, top_p):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=16).astype(np.float32)
    logits[3] = -np.inf
    n = 20_000
    found = jax.jit(choose)(
        jnp.tile(logits, (n, 1)), jnp.int32(2), sampling(n, temperature, top_k, top_p)
    )
    exact = np.exp(logits.astype(np.float64) / temperature)
    exact /= exact.sum()
    order = np.argsort(-exact)
    if top_k:
        exact[order[top_k:]] = 0
    exact[order[1:][np.cumsum(exact[order])[:-1] >= top_p]] = 0
    exact /= exact.sum()
    counts = np.bincount(found, minlength=16)
    assert not counts[exact == 0].any()
    some = exact > 0
    assert stats.chisquare(counts[some], n * exact[some]).pvalue > 1e-3


def test_the_likeliest_token_always_stays():
    logits = jnp.asarray([[0.0, 3.0, 1.0], [-1.0, -5.0, -jnp.inf]])
    for top_k, top_p in ((1, 1.0), (0, 0.0), (1, 0.0)):
        kept = truncate(logits, jnp.full(2, top_k), jnp.full(2, top_p, jnp.float32))
        np.testing.assert_array_equal(jnp.isfinite(kept).sum(1), 1)
        np.testing.assert_array_equal(kept.argmax(1), [1, 0])


def test_rows_that_do_not_draw_are_greedy_and_a_row_alone_draws_the_same(act, rows, table):
    image, prefix = rows
    greedy, cold = act(image, prefix), act(image, prefix, sampling(4, temperature=0))
    np.testing.assert_array_equal(cold.tokens, greedy.tokens)
    drawn = sampling(4, temperature=3.0, seed=7)
    together = act(image, prefix, drawn)
    assert (np.asarray(together.tokens) != np.asarray(greedy.tokens)).any(1).all()
    for position in range(len(table)):
        assert np.isin(together.tokens[:, position], table[position]).all()
    for i in range(4):
        alone = act(image[i : i + 1], prefix[i : i + 1], Sampling(*(x[i : i + 1] for x in drawn)))
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[i])


def test_mass_and_spread_are_the_allowed_part_of_the_whole_distribution(policy, act, rows, table):
    image, prefix = rows
    decoded = act(image, prefix, more=True)
    logits = policy.model.module(policy.params)(image, prefix, decoded.tokens)
    every = np.asarray(jax.nn.softmax(logits))
    for position, allowed in enumerate(np.asarray(table)):
        wanted = every[:, position, allowed[allowed >= 0]].sum(1)
        np.testing.assert_allclose(decoded.mass[:, position], wanted, rtol=1e-3)
        part = np.where(allowed >= 0, every[:, position, allowed], 0)
        part /= part.sum(1, keepdims=True)
        np.testing.assert_allclose(decoded.spread[:, position], part, rtol=2e-3, atol=1e-7)
    assert np.asarray(decoded.mass).max() < 0.9


def slow_beam(log_probs, length, width):
    """The answer (tokens, score) by sorting every continuation; log_probs(tokens) -> [V]."""
    beams = [((), 0.0)]
    for _ in range(length):
        grown = []
        for tokens, score in beams:
            if EOS in tokens:
                grown.append(((*tokens, PAD), score))
                continue
            gained = log_probs(tokens)
            grown += [((*tokens, token), score + x) for token, x in enumerate(gained)]
        beams = sorted(grown, key=lambda one: -one[1])[:width]

    def fair(one):
        count = sum(token != PAD for token in one[0])
        return one[1] / ((5 + count) / 6) ** decode.LENGTH_POWER

    return max(beams, key=fair)


@pytest.mark.parametrize("width", [1, 3])
def test_beams_are_those_of_a_slow_search(width):
    module, length = Recurrent(), 5
    prefix = np.random.default_rng(0).integers(0, 10, (40, 3))
    memory = module.encode(None, prefix)
    found = jax.jit(lambda: decode.answers(module, memory, length, width))()

    begun = np.asarray(memory.state)
    for i, state in enumerate(begun):
        tokens, score = slow_beam(functools.partial(module.log_probs, state=state), length, width)
        np.testing.assert_array_equal(found.tokens[i], tokens)
        np.testing.assert_allclose(found.log_prob[i], score, rtol=1e-4)
    assert len(set((np.asarray(found.tokens) != PAD).sum(1).tolist())) > 2  # of many lengths


def test_an_ended_answer_costs_nothing_more_and_stays():
    beams = decode.Beams(
        jnp.asarray([[[5, EOS, 0], [6, 7, 0]]]),
        jnp.asarray([[-1.0, -1.5]]),
        jnp.asarray([[True, False]]),
    )
    gained = jnp.log(jnp.full((1, 2, 8), 1 / 8))
    after, parents = decode.advance(beams, gained, jnp.int32(2))
    np.testing.assert_array_equal(after.tokens[0, 0], [5, EOS, PAD])
    np.testing.assert_allclose(after.score[0], [-1.0, -1.5 - np.log(8)], rtol=1e-6)
    np.testing.assert_array_equal(parents, [[0, 1]])
    np.testing.assert_array_equal(after.ended, [[True, False]])


@pytest.fixture(scope="module")
def observations():
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    words = {"instruction": "push the green block", "dataset": "arm"}
    asked = {"instruction": "where is the cup", "mode": "vqa"}
    return [
        {"image": image} | ask for image, ask in zip(images, (words, asked, words), strict=True)
    ]


def test_a_policy_draws_by_its_seed_and_each_row_by_its_own(policy, observations):
    hot = Decoding(temperature=2.0, seed=4)
    first, again = (policy.infer_batch(observations, hot) for _ in range(2))
    other = policy.infer_batch(observations, Decoding(temperature=2.0, seed=40))
    assert [r["text"] for r in first] == [r["text"] for r in again]
    assert all(a["text"] != b["text"] for a, b in zip(first, other, strict=True))
    alone = policy.infer(observations[2], Decoding(temperature=2.0, seed=6))
    np.testing.assert_array_equal(alone["tokens"], first[2]["tokens"])


def test_a_reply_holds_where_the_model_meant_something_else(policy, observations):
    wary = policy.infer_batch(observations, Decoding(hold_below=1.0))
    plain = policy.infer_batch(observations)
    assert wary[0]["hold"] and 0 < wary[0]["allowed_mass"] < 1 and "hold" not in plain[0]
    assert "hold" not in wary[1] and wary[1]["text"] == plain[1]["text"]
    np.testing.assert_array_equal(wary[2]["tokens"], plain[2]["tokens"])
    calm = policy.infer(observations[0], Decoding(hold_below=1e-9))
    assert not calm["hold"]


def test_probabilities_are_told_to_those_who_ask(policy, observations):
    asked = [row | {"probabilities": i < 2} for i, row in enumerate(observations)]
    told, plain = policy.infer_batch(asked), policy.infer_batch(observations)
    assert ["probabilities" in reply for reply in told] == [True, False, False]
    spreads, codec = told[0]["probabilities"], policy.preprocess.codecs["arm"]
    assert [len(spread) for spread in spreads] == list(codec.spec.bins)
    assert [int(spread.argmax()) for spread in spreads] == [int(x) for x in told[0]["text"].split()]
    chosen = [spread.max() for spread in spreads]
    np.testing.assert_allclose(np.log(chosen).sum(), told[0]["log_prob"], rtol=1e-4)
    assert [reply["text"] for reply in told] == [reply["text"] for reply in plain]


def test_beams_search_answers_and_leave_actions_as_they_are(policy, observations):
    plain, searched = (
        policy.infer_batch(observations, how) for how in (Decoding(), Decoding(beams=4))
    )
    for i in (0, 2):
        np.testing.assert_array_equal(searched[i]["tokens"], plain[i]["tokens"])
    assert searched[1].keys() == plain[1].keys()


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_p": 0}, {"beams": 17}, {"beams": 2, "temperature": 1}]
)
def test_decodings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Decoding(**wrong)
