"""The forms that a record about one image may have, and the questions and answers it gives.

    {"qa": [{kind, language, question, answer | answers}, ...]}   this project's own
    {"kind", "language", "question", "answer" | "answers"}        one row of it
    {"conversations": [{"from", "value"}, ...]}                   LLaVA; a row for each turn
    {"prefix", "suffix"}                                          big_vision; the prompt as it is
    {"question", "answer" | "answers"}
    {"caption" | "captions"}                                      all are accepted answers
    {"text"}                                                      no image: for span corruption

The first of these that fits is read; further members are metadata. A bare question or caption gets
the prompt of PaLI's style (`rt2.prompts`), in the record's "language" or the source's.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rt2 import prompts
from rt2.data.errors import DataError, nearest
from rt2.data.records import WEB_KINDS
from rt2.data.web.options import Options

PLACEHOLDER = "<image>"
_ASKS, _REPLIES = ("human", "user"), ("gpt", "assistant")
FORMS = frozenset("qa conversations prefix suffix kind question caption captions text".split())
_FORMS = "qa, conversations, prefix and suffix, question and answer, caption, text"


class Row(NamedTuple):
    """One question in full, and every accepted answer."""

    kind: str
    language: str
    question: str
    answers: tuple[str, ...]


def from_record(record: Any, options: Options, where: str, has_image: bool) -> list[Row]:
    """The rows of a record; at least one. Raises DataError, beginning with `where`."""
    if not isinstance(record, Mapping):
        raise DataError(f"{where}: a {type(record).__name__}, expected an object ({_FORMS})")
    if "qa" in record:
        return _own(record["qa"], where)
    if "conversations" in record:
        return _turns(record["conversations"], _language(record, options, where), where, has_image)
    if "prefix" in record or "suffix" in record:
        answers = _answers(record, "suffix", "suffix", where)
        language = _language(record, options, where)
        return [Row("vqa", language, _text(record, "prefix", where), answers)]
    if "kind" in record:
        return _own([record], where)
    language = _language(record, options, where)
    if "question" in record:
        prompt = prompts.vqa_prompt(_text(record, "question", where), language)
        return [Row("vqa", language, prompt, _answers(record, "answer", "answers", where))]
    if "caption" in record or "captions" in record:
        return [caption(_answers(record, "caption", "captions", where), language)]
    if "text" in record and not has_image:
        return [Row("text", language, "", _answers(record, "text", "text", where))]
    raise DataError(f"{where}: has {sorted(record)}, which is none of the forms {_FORMS}")


def caption(captions: tuple[str, ...], language: str) -> Row:
    """A row that asks for a caption."""
    return Row("caption", language, prompts.caption_prompt(language), captions)


def _own(rows: Any, where: str) -> list[Row]:
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{where}: the list 'qa' is empty. Write the shard without the sample.")
    return [_own_row(row, where) for row in rows]


def _own_row(row: Any, where: str) -> Row:
    try:
        kind, language, question = (row[name] for name in ("kind", "language", "question"))
    except (KeyError, TypeError) as error:
        raise DataError(f"{where}: a row of qa lacks {error}: {row!r:.80}") from None
    if kind not in WEB_KINDS:
        raise DataError(f"{where}: unknown kind {kind!r}: {nearest(str(kind), WEB_KINDS)}")
    if not isinstance(language, str) or not isinstance(question, str):
        raise DataError(f"{where}: a language or question that is not text: {row!r:.80}")
    return Row(kind, language, question, _answers(row, "answer", "answers", where))


def _turns(turns: Any, language: str, where: str, has_image: bool) -> list[Row]:
    """A row for each question; it stands alone, without the turns before it."""
    said = [_turn(turn, where) for turn in turns] if isinstance(turns, list) else []
    if not said or len(said) % 2:
        raise DataError(f"{where}: conversations must be pairs of a question and its answer")
    marks = sum(text.count(PLACEHOLDER) for _, text in said)
    if marks > has_image:
        held = "one image" if has_image else "no image"
        raise DataError(f"{where}: {marks} times {PLACEHOLDER} in a conversation of {held}")
    rows = []
    for (asks, question), (replies, answer) in zip(said[::2], said[1::2], strict=True):
        if asks not in _ASKS or replies not in _REPLIES:
            raise DataError(
                f"{where}: a turn from {asks!r} answered by {replies!r}; expected one of {_ASKS} "
                f"and one of {_REPLIES}"
            )
        question = question.replace(PLACEHOLDER, "").strip()
        if not question:
            raise DataError(f"{where}: a question is empty")
        rows.append(Row("vqa", language, prompts.vqa_prompt(question, language), (answer,)))
    return rows


def _turn(turn: Any, where: str) -> tuple[str, str]:
    try:
        speaker, text = turn["from"], turn["value"]
    except (KeyError, TypeError):
        speaker = text = None
    if not isinstance(speaker, str) or not isinstance(text, str):
        raise DataError(f"{where}: a turn without the texts 'from' and 'value': {turn!r:.80}")
    return speaker, text


def _language(record: Mapping[str, Any], options: Options, where: str) -> str:
    return _text(record, "language", where) if "language" in record else options.language


def _text(record: Mapping[str, Any], name: str, where: str) -> str:
    if name not in record or not isinstance(record[name], str) or not record[name].strip():
        raise DataError(f"{where}: {name!r} is missing, empty or not text: {dict(record)!r:.80}")
    return record[name]


def _answers(record: Mapping[str, Any], one: str, many: str, where: str) -> tuple[str, ...]:
    """The texts of member `many`, or else of `one`; either may be a text or a list of texts."""
    found = record[many] if many in record else record[one] if one in record else []
    answers = [found] if isinstance(found, str) else found
    if (
        not isinstance(answers, list)
        or not answers
        or not all(isinstance(answer, str) for answer in answers)
    ):
        raise DataError(
            f"{where}: {one!r}: no answer, or one that is not text: {dict(record)!r:.80}"
        )
    return tuple(answers)
