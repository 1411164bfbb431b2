"""Span corruption: what is hidden can be put back, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt2.data.errors import DataError
from rt2.data.web.corruption import SpanCorruption
from rt2.tokenizer import Tokenizer

SENTINELS = tuple(range(900, 1000))
T5 = SpanCorruption(SENTINELS, 0.15, 3.0)


def restored(inputs, targets, sentinels=SENTINELS):
    """The text, by putting the spans of the target in the place of their sentinels."""
    spans, current = {}, None
    for token in targets:
        if token in sentinels:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    out = []
    for token in inputs:
        out += spans.pop(token) if token in sentinels else [token]
    assert not spans
    return out


@given(
    st.lists(st.integers(3, 899), min_size=2, max_size=300),
    st.integers(0, 2**32),
    st.floats(0.01, 0.9),
    st.floats(1, 10),
)
def test_the_text_can_be_restored(ids, seed, density, mean_span):
    corruption = SpanCorruption(tuple(range(900, 1300)), density, mean_span)
    inputs, targets = corruption.corrupt(ids, np.random.default_rng(seed))
    assert restored(inputs, targets, corruption.sentinels) == ids
    used = [t for t in inputs if t in corruption.sentinels]
    assert used == [t for t in targets if t in corruption.sentinels]
    assert used == list(corruption.sentinels[: len(used)])  # in order, from the first
    hidden = min(max(round(len(ids) * density), 1), len(ids) - 1)
    assert len(targets) == hidden + len(used)
    for tokens in (inputs, targets):
        pairs = zip(tokens, tokens[1:], strict=False)
        assert not any(a in corruption.sentinels and b in corruption.sentinels for a, b in pairs)


@given(st.integers(2, 400), st.integers(8, 64), st.integers(8, 64), *[st.integers(0, 2**32)] * 3)
def test_a_row_fits_and_is_the_same_again(length, prefix, target, seed, epoch, example):
    ids = list(range(3, 3 + length))
    at = dict(seed=seed, epoch=epoch, example=example)
    inputs, targets = T5.row(ids, prefix, target, **at)
    assert (inputs, targets) == T5.row(ids, prefix, target, **at)
    assert len(inputs) <= prefix and len(targets) < target
    text = restored(inputs, targets)
    assert text == list(range(text[0], text[0] + len(text)))
    whole = T5._counts(length)
    if length - whole[0] + whole[1] <= prefix and sum(whole) < target:
        assert text == ids


def test_every_token_is_hidden_at_times_and_epochs_differ():
    ids, epochs = list(range(3, 43)), 3000
    hidden = np.zeros(40)
    for epoch in range(epochs):
        inputs, _ = T5.row(ids, 64, 64, seed=0, epoch=epoch, example=5)
        hidden += ~np.isin(ids, inputs)
    assert hidden.sum() == epochs * 6  # 15 % of 40
    share = hidden / epochs
    assert share.min() > 0.03 and share.max() < 0.2
    rows = {tuple(T5.row(ids, 64, 64, seed=0, epoch=e, example=5)[0]) for e in range(20)}
    assert len(rows) == 20


def test_with_the_tokenizer_of_the_project():
    text = "thank you for inviting me to your party last week"
    tokenizer = Tokenizer.train([text] * 20, 1200, sentinels=8)
    corruption = SpanCorruption(tokenizer.sentinels, 0.15, 3.0)
    ids = tokenizer.encode(text)
    inputs, targets = corruption.row(ids, 32, 16, seed=1, epoch=0, example=0)
    assert tokenizer.decode(restored(inputs, targets, corruption.sentinels)) == text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SpanCorruption(SENTINELS, 0.0, 3.0), "density=0.0"),
        (lambda: SpanCorruption(SENTINELS, 0.15, 0.5), "mean_span=0.5"),
        (lambda: SpanCorruption((), 0.15, 3.0), "needs sentinels"),
        (lambda: T5.row([5], 8, 8, seed=0, epoch=0, example=4), "text 4: .*fewer than two"),
        (lambda: T5.row([5, 950], 8, 8, seed=0, epoch=0, example=4), "text 4: holds a sentinel"),
        (lambda: T5.row([5, 6], 1, 8, seed=0, epoch=0, example=4), "prefix of 1"),
    ],
)
def test_what_cannot_be_corrupted_is_named(make, words):
    with pytest.raises(DataError, match=words):
        make()
