import numpy as np
import pytest

from rt2.actions import LANGUAGE_TABLE, RT2
from rt2.tokenizer import EOS, PAD, ActionVocabulary, Tokenizer, TokenizerError

TEXT = ["where is the strawberry", "what is at 12 30", "5 20 hammer 12 30 strawberry"] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXT, 1200)


def test_every_integer_to_999_is_one_token(tokenizer):
    ids = [tokenizer.encode(str(i)) for i in range(1000)]
    assert all(len(i) == 1 for i in ids)
    assert len({i[0] for i in ids}) == 1000
    assert tokenizer.decode(tokenizer.encode("12 345 hammer")) == "12 345 hammer"


def test_frequent_words_are_one_token(tokenizer):
    assert len(tokenizer.encode("where is the strawberry")) == 4


def test_training_is_deterministic(tokenizer):
    assert Tokenizer.train(TEXT, 1200).digest == tokenizer.digest


def test_no_text_produces_a_sentinel(tokenizer):
    assert tokenizer.sentinels == ()
    with_some = Tokenizer.train(TEXT, 1200, sentinels=4)
    ids = with_some.sentinels
    assert len(set(ids)) == 4 and not {PAD, EOS, with_some.unknown} & set(ids)
    for text in ("<extra_id_0>", "where is <extra_id_3> the", "▁<extra_id_1>"):
        assert not set(ids) & set(with_some.encode(text))
    assert with_some.decode([ids[2], *with_some.encode("12 hammer")]) == "12 hammer"
    assert with_some.encode("12 345") == [i + 4 for i in tokenizer.encode("12 345")]
    common = [*map(str, range(1000)), *TEXT]  # leaves few ids that are rarer than the sentinels
    rarest = ActionVocabulary.overwrite(with_some, RT2, common)
    assert not set(rarest.ids) & set(ids)


def test_padded_ends_and_refuses_to_cut(tokenizer):
    row = tokenizer.padded("where is", 5, end=True)
    assert row[2:].tolist() == [EOS, PAD, PAD]
    with pytest.raises(TokenizerError, match="do not fit in 2"):
        tokenizer.padded("where is the", 2, end=False)


def test_decode_stops_at_the_end(tokenizer):
    ids = [*tokenizer.encode("hammer"), EOS, *tokenizer.encode("strawberry")]
    assert tokenizer.decode(ids) == "hammer"


def test_integer_vocabulary_is_the_token_of_the_number(tokenizer):
    vocabulary = ActionVocabulary.integer(tokenizer, RT2)
    tokens = vocabulary.tokens(np.array([1, 128, 91]))
    assert tokenizer.decode(tokens) == "1 128 91"
    assert vocabulary.bins(tokens).tolist() == [1, 128, 91]


def test_overwrite_takes_the_least_frequent(tokenizer):
    vocabulary = ActionVocabulary.overwrite(tokenizer, RT2, TEXT)
    used = {i for text in TEXT for i in tokenizer.encode(text)}
    assert len(vocabulary.ids) == 256
    assert not used & set(vocabulary.ids)
    assert not {PAD, EOS, tokenizer.unknown} & set(vocabulary.ids)


def test_a_token_that_is_no_action_is_refused(tokenizer):
    vocabulary = ActionVocabulary.integer(tokenizer, LANGUAGE_TABLE)
    with pytest.raises(TokenizerError, match="no action bin"):
        vocabulary.bins(np.array(tokenizer.encode("hammer")))


def test_two_bins_may_not_share_a_token():
    with pytest.raises(TokenizerError, match="share"):
        ActionVocabulary("integer", (5, 6, 5))


def test_allowed_is_the_grammar(tokenizer):
    vocabulary = ActionVocabulary.integer(tokenizer, RT2)
    table = vocabulary.allowed(RT2)
    assert table.shape == (8, 256)
    assert (table[0] >= 0).sum() == 2
    assert tokenizer.decode(table[0, :2]) == "0 1"
    assert (table[1:] >= 0).all()
