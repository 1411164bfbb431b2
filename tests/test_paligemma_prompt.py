"""The question as PaliGemma was trained with it: <bos>, the text, a newline.

`make test` compares with recorded ids. `make parity` (marked oracle) computes them anew with
`transformers` and, with RECORD=1, replaces them.
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from rt2.actions import RT2
from rt2.preprocess import Preprocess, PreprocessError
from rt2.prompts import action_prompt
from rt2.tokenizer import EOS, PAD, ActionVocabulary, Tokenizer, TokenizerError

RECORDED = Path(__file__).parent / "recorded" / "paligemma_prompts.json"
LENGTH = 80
IMAGE_TOKENS = 4
QUESTIONS = (
    action_prompt("move to the strawberry"),
    "Answer in en : what is at 12 305",
    "Answer in fr : où est la clé ?  Два",
    " two  spaces, a tab\tand\na line",
    "ends with a line\n",
    "detect cube ; star",
)


@pytest.fixture(scope="module")
def preprocess(gemma_pieces):
    tokenizer = Tokenizer(gemma_pieces)
    vocabulary = ActionVocabulary.overwrite(tokenizer, RT2, QUESTIONS)
    plain = Preprocess(tokenizer, vocabulary, {}, 64, 1, LENGTH, 12)
    return dataclasses.replace(plain, bos=True, suffix="\n")


def test_the_special_ids_are_those_of_the_file(preprocess):
    tokenizer = preprocess.tokenizer
    assert (tokenizer.bos, tokenizer.unknown) == (2, 3)
    ours = Tokenizer.train(["where is the strawberry"] * 20, 1200)
    assert (ours.bos, ours.unknown) == (-1, 2)


def test_questions_are_those_recorded(preprocess):
    recorded = json.loads(RECORDED.read_text())
    assert set(recorded) == set(QUESTIONS)
    for question, ids in recorded.items():
        row = preprocess.text_prefix(question)
        assert row[row != PAD].tolist() == ids
        assert preprocess.tokenizer.decode(row) == question + "\n"


@pytest.mark.oracle
def test_questions_are_those_of_transformers(gemma_pieces, tmp_path):
    transformers = pytest.importorskip(
        "transformers", reason='needs .venv/bin/pip install -e ".[oracle]"'
    )
    (tmp_path / "tokenizer.model").write_bytes(gemma_pieces)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, tokenizer_type="gemma")
    images = transformers.SiglipImageProcessor(size={"height": 8, "width": 8})
    images.image_seq_length = IMAGE_TOKENS
    processor = transformers.PaliGemmaProcessor(images, tokenizer)
    theirs = {}
    for question in QUESTIONS:
        image = np.zeros((8, 8, 3), np.uint8)
        ids = processor(images=image, text=f"<image>{question}")["input_ids"][0]
        assert ids[:IMAGE_TOKENS] == [processor.image_token_id] * IMAGE_TOKENS
        theirs[question] = ids[IMAGE_TOKENS:]
    if os.environ.get("RECORD"):
        RECORDED.write_text(json.dumps(theirs, indent=1) + "\n")
    assert json.loads(RECORDED.read_text()) == theirs


def test_no_text_begins_anew_or_is_an_end(preprocess):
    for text in ("<bos>", "<eos> <pad>", "<unk>"):
        assert not {0, 1, 2} & set(preprocess.tokenizer.encode(text))


def test_the_prompt_travels_with_the_preprocessing(preprocess):
    again = Preprocess.from_json(json.loads(json.dumps(preprocess.to_json())))
    asked = again.action_prefix("push the cube")
    assert asked.tolist() == preprocess.action_prefix("push the cube").tolist()
    assert asked[0] == 2 and asked[asked != PAD][-1] == preprocess.tokenizer.encode("\n")[0]
    tokens = again.prefix([9, 8])
    assert tokens[:3].tolist() == [2, 9, 8] and tokens[3] == PAD
    with pytest.raises(PreprocessError, match="80"):
        again.prefix([9] * LENGTH)


def test_actions_overwrite_the_least_used_pieces_of_text(preprocess):
    tokenizer, ids = preprocess.tokenizer, preprocess.vocabulary.ids
    used = {i for question in QUESTIONS for i in tokenizer.encode(question)}
    assert len(ids) == 256 and not used & set(ids)
    kinds = (tokenizer._pieces.is_control, tokenizer._pieces.is_byte, tokenizer._pieces.is_unknown)
    assert not [i for i in ids if any(is_kind(i) for is_kind in kinds)]
    bins = np.arange(256)
    assert preprocess.vocabulary.bins(preprocess.vocabulary.tokens(bins)).tolist() == bins.tolist()


def test_digits_that_stand_alone_are_no_integers(preprocess):
    with pytest.raises(TokenizerError, match="action_vocabulary=overwrite"):
        ActionVocabulary.integer(preprocess.tokenizer, RT2)


def test_a_tokenizer_without_a_beginning_refuses_it(preprocess):
    plain = Tokenizer.train(["where is the strawberry"] * 20, 1200)
    with pytest.raises(TokenizerError, match="config.prompt.bos"):
        dataclasses.replace(preprocess, tokenizer=plain)


def test_another_end_is_refused_with_the_ids_to_take(gemma_pieces):
    from sentencepiece import sentencepiece_model_pb2 as protocol

    model = protocol.ModelProto.FromString(gemma_pieces)
    model.pieces[1].piece, model.pieces[4].piece = model.pieces[4].piece, model.pieces[1].piece
    model.pieces[1].type, model.pieces[4].type = model.pieces[4].type, model.pieces[1].type
    with pytest.raises(TokenizerError, match=r"\(0, 4\).*eos_id=1"):
        Tokenizer(model.SerializeToString())
    assert EOS == 1
