"""Plans in words before actions: against a slow loop, and through a policy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt2 import prompts
from rt2.inference import constraint, planned, request
from rt2.inference.policy import Policy
from rt2.inference.sampling import Decoding
from rt2.tokenizer import EOS, PAD

BUDGET = 5


@pytest.fixture(scope="module")
def table(preprocess):
    return constraint.action_table(preprocess.vocabulary, preprocess.codecs["table"].spec)


@pytest.fixture(scope="module")
def rows(policy):
    rng = np.random.default_rng(3)
    vocab, length = policy.model.config.text.vocab, policy.preprocess.prefix_length
    image = rng.integers(0, 256, (24, 1, 64, 64, 3)).astype(np.uint8)
    return image, rng.integers(3, vocab, (24, length)).astype(np.int32)


@pytest.fixture(scope="module")
def logits(policy):
    run = jax.jit(lambda *inputs: policy.model.module(policy.params)(*inputs))
    return lambda *inputs: np.asarray(run(*inputs))


def slow(logits, image, prefix, table, opening):
    """One row by its words, token by token: (tokens, begin, log_prob, mass) of the action."""
    total = BUDGET + len(opening) + len(table)
    tokens, log_prob, words = [], 0.0, True

    def scores():
        target = np.zeros((1, total), np.int32)
        target[0, : len(tokens)] = tokens
        every = logits(image[None], prefix[None], target)[0, len(tokens)].astype(np.float64)
        return every - np.log(np.exp(every).sum())

    while tokens[-len(opening) :] != opening:
        every = scores()
        words = words and len(tokens) < BUDGET and every.argmax() != EOS
        if words:
            tokens.append(int(every.argmax()))
            log_prob += every.max()
        else:
            said = max(j for j in range(len(opening)) if tokens[len(tokens) - j :] == opening[:j])
            tokens.append(opening[said])
    begin, mass = len(tokens), []
    for allowed in table:
        few = scores()[allowed[allowed >= 0]]
        mass.append(np.exp(few).sum())
        log_prob += few.max() - np.log(mass[-1])
        tokens.append(int(allowed[few.argmax()]))
    return tokens + [PAD] * (total - len(tokens)), begin, log_prob, mass


def openings(logits, rows):
    """Openings that rows say by themselves, begin to say, or never say, and one that repeats."""
    image, prefix = rows
    first = logits(image, prefix, np.zeros((len(prefix), 1), np.int32))[:, 0].argmax(-1)
    target = np.stack([first, np.zeros_like(first)], 1).astype(np.int32)
    second = logits(image, prefix, target)[:, 1].argmax(-1)
    a, b = int(first[0]), int(second[0])
    other = next(i for i in range(5, 50) if i not in (*first, *second))
    return {"said": [a, b], "begun": [b, other], "never": [other, other + 1], "twice": [a, a, b]}


def test_rows_are_those_of_a_slow_loop(policy, table, rows, logits):
    image, prefix = rows

    def run(params, opening):
        module = policy.model.module(params)
        allowed = jnp.asarray(table)
        return planned.actions(module, image, prefix, allowed, opening, BUDGET, mass=True)

    begins = set()
    for opening in openings(logits, rows).values():
        found = jax.jit(run)(policy.params, jnp.asarray(opening, jnp.int32))
        for i in range(6):
            tokens, begin, log_prob, mass = slow(logits, image[i], prefix[i], table, opening)
            np.testing.assert_array_equal(found.tokens[i], tokens)
            assert found.begin[i] == begin
            np.testing.assert_allclose(found.log_prob[i], log_prob, rtol=1e-3)
            np.testing.assert_allclose(found.mass[i], mass, rtol=1e-3)
        ids = np.asarray(found.begin)[:, None] + np.arange(len(table))
        actions = np.take_along_axis(np.asarray(found.tokens), ids, axis=1)
        assert all(np.isin(actions[:, slot], table[slot]).all() for slot in range(len(table)))
        begins |= set(np.asarray(found.begin).tolist())
    assert len(begins) > 3


OBSERVATION = {
    "image": np.random.default_rng(3).integers(0, 256, (80, 96, 3)).astype(np.uint8),
    "instruction": "move to the red cup",
    "dataset": "table",
}


@pytest.fixture(scope="module")
def planner(policy, preprocess):
    """The policy with room for a plan in its targets."""
    longer = dataclasses.replace(preprocess, target_length=24)
    return Policy(policy.model, policy.params, longer, policy.metadata)


def test_a_policy_says_its_plan_and_acts(planner):
    plan, plain = OBSERVATION | {"mode": "plan"}, OBSERVATION
    asked = plain | {"mode": "vqa"}
    replies = planner.infer_batch([plan, asked, plain, plan], Decoding(hold_below=1.0))
    assert isinstance(replies[0]["plan"], str) and "plan" not in replies[2]
    assert "actions" not in replies[1]
    assert replies[0]["actions"].shape == (1, 2) and replies[0]["hold"]
    bins = planner.preprocess.vocabulary.bins(replies[0]["tokens"])
    assert (bins < 21).all() and replies[0]["text"] == " ".join(map(str, bins))
    np.testing.assert_array_equal(replies[0]["tokens"], replies[3]["tokens"])
    greedy = planner.infer_batch([plan, asked, plain])
    assert greedy[0]["plan"] == replies[0]["plan"] and greedy[2]["text"] == replies[2]["text"]


def test_a_model_without_room_for_a_plan_says_so(policy, preprocess):
    short = dataclasses.replace(preprocess, target_length=4)
    with pytest.raises(ValueError, match="no room for a plan"):
        Policy(policy.model, policy.params, short, policy.metadata).infer(
            OBSERVATION | {"mode": "plan"}
        )


def test_the_plan_in_words_is_what_training_wrote(preprocess):
    words = prompts.plan_target("pick rxbar chocolate")
    assert prompts.plan_in(words.removesuffix(prompts.PLAN_END)) == "pick rxbar chocolate"
    ids, end = (preprocess.tokenizer.encode(text) for text in (words, prompts.PLAN_END))
    assert ids[-len(end) :] == end


def test_a_plan_moves_the_robot_and_needs_the_right_to():
    asked = request.read(OBSERVATION | {"mode": "plan"})
    assert asked.needs == "act" and asked.kind == ("plan", "table")
    assert request.read(OBSERVATION | {"mode": "vqa"}).needs == "ask"
