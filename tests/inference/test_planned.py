"""Plans in words before actions: against a slow loop, and through a policy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rt2 import prompts
from rt2.inference import planned, request, worker
from rt2.inference.decoding import Decoding
from rt2.inference.policy import Policy, describe
from rt2.tokenizer import EOS, PAD
from tests.inference.recurrent import Recurrent

BUDGET = 5
TABLE = np.array([[2, 3, -1], [4, 5, 6], [2, 9, -1]], np.int32)
# one begins as it ends, one with its first token twice
OPENINGS = ([6], [7, 7, 2], [4, 9, 4])


def slow(log_probs, opening):
    """One row by its words, token by token: (tokens, begin, log_prob, mass of the action)."""
    total = BUDGET + len(opening) + len(TABLE)
    tokens, log_prob, words = [], 0.0, True
    while tokens[-len(opening) :] != opening:
        every = log_probs(tokens)
        words = words and len(tokens) < BUDGET and every.argmax() != EOS
        if words:
            tokens.append(int(every.argmax()))
            log_prob += every.max()
        else:
            said = max(j for j in range(len(opening)) if tokens[len(tokens) - j :] == opening[:j])
            tokens.append(opening[said])
    begin, mass = len(tokens), []
    for allowed in TABLE:
        few = log_probs(tokens)[allowed[allowed >= 0]]
        mass.append(np.exp(few).sum())
        log_prob += few.max() - np.log(mass[-1])
        tokens.append(int(allowed[few.argmax()]))
    return tokens + [PAD] * (total - len(tokens)), begin, log_prob, mass


@pytest.mark.parametrize("opening", OPENINGS, ids=str)
def test_rows_are_those_of_a_slow_loop(opening):
    module, table = Recurrent(), jnp.asarray(TABLE)
    prefix = np.random.default_rng(0).integers(0, 10, (60, 3))

    @functools.partial(jax.jit, static_argnums=1)
    def run(prefix, mass):
        start = jnp.asarray(opening, jnp.int32)
        memory = module.encode(None, prefix)
        return planned.actions(module, memory, table, start, BUDGET, mass=mass)

    found = run(prefix, True)
    for i, state in enumerate(np.asarray(module.encode(None, prefix).state)):
        wanted = slow(functools.partial(module.log_probs, state=state), opening)
        np.testing.assert_array_equal(found.tokens[i], wanted[0])
        assert found.begin[i] == wanted[1]
        np.testing.assert_allclose(found.log_prob[i], wanted[2], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.mass[i], wanted[3], rtol=1e-4)
    assert len(set(np.asarray(found.begin).tolist())) > 2  # actions begin at many places
    quick = run(prefix, False)
    np.testing.assert_array_equal(quick.tokens, found.tokens)
    np.testing.assert_allclose(quick.log_prob, found.log_prob, rtol=1e-4, atol=1e-4)
    assert quick.mass is None


def test_a_model_that_never_stops_talking_acts_in_the_end():
    class Talker(Recurrent):
        def logits(self, hidden, ids=None):
            every = super().logits(hidden).at[:, 7].set(1e3)
            return every if ids is None else every[:, ids]

    opening = jnp.asarray([8, 3], jnp.int32)
    prefix = np.random.default_rng(0).integers(0, 10, (20, 3))
    table = jnp.asarray(TABLE)
    module = Talker()
    memory = module.encode(None, prefix)
    found = jax.jit(lambda: planned.actions(module, memory, table, opening, BUDGET, mass=True))()
    np.testing.assert_array_equal(found.tokens[:, : BUDGET + 2], [[7] * BUDGET + [8, 3]] * 20)
    for slot, allowed in enumerate(TABLE):
        assert np.isin(found.tokens[:, BUDGET + 2 + slot], allowed[allowed >= 0]).all()
    assert np.asarray(found.mass).max() < 1e-6  # which makes a policy say hold


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
    asked = request.read(OBSERVATION | {"mode": "plan"}, ["image"])
    assert asked.needs == "act" and asked.kind == ("plan", "table")
    assert request.read(OBSERVATION | {"mode": "vqa"}, ["image"]).needs == "ask"


@pytest.mark.parametrize("share, datasets", [(0.5, 3), (0.0, 0)])
def test_a_server_is_warm_for_plans_where_the_model_learnt_them(preprocess, share, datasets):
    sources = {"web": {"task": "action", "share": 0.5}, "arm": {"task": "plan", "share": share}}
    assets = {"step": 1, "eval": {}, "config": {"sources": sources}}
    batches = list(worker.warm_up(describe(preprocess, assets), 2))
    kinds = [(len(rows), rows[0]["mode"]) for rows in batches if "mode" in rows[0]]
    assert kinds.count((1, "plan")) == kinds.count((2, "plan")) == datasets
    assert (2, "vqa") in kinds
