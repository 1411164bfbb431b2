"""What clients write never changes what a request is; experiments/adversarial does it at length."""

import dataclasses
import unicodedata

import numpy as np
import pytest

from rt2.actions import RT2
from rt2.inference.decoding import Decoding
from rt2.inference.policy import Policy
from rt2.tokenizer import ActionVocabulary, Tokenizer
from tests.inference import adversarial
from tests.inference.conftest import TEXT

FIELDS = {"dataset": "arm"}


@pytest.fixture(scope="module")
def roomy(policy, preprocess):
    """The policy with room for long questions and plans, and a tokenizer that has sentinels."""
    tokenizer = Tokenizer.train(TEXT, 1152, sentinels=4)
    wide = dataclasses.replace(
        preprocess,
        tokenizer=tokenizer,
        vocabulary=ActionVocabulary.integer(tokenizer, RT2),
        prefix_length=160,
        target_length=24,
    )
    return Policy(policy.model, policy.held, wide, policy.metadata)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "decoding", [Decoding(), Decoding(temperature=2.0, hold_below=0.5)], ids=["greedy", "drawn"]
)
def test_modes_stay_and_actions_are_legal(roomy, images, decoding):
    some = adversarial.cases(240, 1, roomy.preprocess.tokenizer)
    count = adversarial.Count()
    adversarial.run(roomy, some, images, decoding, count, batch=16, fields=FIELDS)
    assert not count.faults, count.examples
    refused = sum(count.refused.values())
    assert count.special == 0 and count.decodes + refused == 240 and 10 < refused < 120


def test_every_piece_of_the_tokenizer_is_text_in_a_question(roomy, images):
    tokenizer = roomy.preprocess.tokenizer
    for name in ("<pad>", "</s>", "<extra_id_0>", "<extra_id_3>"):
        prefix = roomy.preprocess.action_prefix(f"push {name} it")
        assert not adversarial.special_ids(prefix, tokenizer)
    odd = np.array([600, tokenizer.sentinels[0], 1, 7, 0, 0], np.int32)
    assert adversarial.special_ids(odd, tokenizer) == [tokenizer.sentinels[0], 1]


def test_texts_that_read_alike_get_one_reply(roomy, images):
    texts = list(adversarial.PHRASES["act"].values())[:8]
    twins = [unicodedata.normalize("NFD", text) for text in texts]
    twins += [text[:3] + "\u200b" + text[3:] + "\ufeff" for text in texts]
    rows = [{"image": images[0], "instruction": text} | FIELDS for text in texts + twins]
    replies = [reply["text"] for reply in roomy.infer_batch(rows)]
    assert replies[8:16] == replies[:8] == replies[16:]


def test_a_fault_is_seen(roomy, images):
    codec, ids = roomy.preprocess.codecs["arm"], roomy.preprocess.vocabulary.ids
    row = {"image": images[0], "instruction": "push"} | FIELDS
    good = roomy.infer(row)
    assert adversarial.faults(good, "action", codec, ids) == []
    assert adversarial.faults(good, "vqa", codec, ids) == ["mode"]
    assert adversarial.faults(good, "plan", codec, ids) == ["mode"]
    assert adversarial.faults(roomy.infer(row | {"mode": "vqa"}), "action", codec, ids) == ["mode"]
    tokens = good["tokens"].copy()
    tokens[0] = ids[2]  # terminate has two
    assert adversarial.faults(good | {"tokens": tokens}, "action", codec, ids) == ["token"]
    beyond = good | {"actions": 9 + good["actions"]}
    assert adversarial.faults(beyond, "action", codec, ids) == ["value"]
