"""Plans in words for chain-of-thought rows: from annotations, or a template of the set's texts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from rt2.data.errors import DataError
from rt2.data.instructions import Instructions
from rt2.data.robot import RobotExamples

INSTRUCTION = "instruction"
_FIELD = re.compile(r"{([^{}]+)}")


class Plans:
    """`plans[i]` is the plan of the i-th example, in words.

    `source`: a template, whose fields are the instruction and other texts of the set ("reach for
    {instruction}", "go to the {episode_metadata/target}"), or a JSON file {instruction: plan} that
    has every instruction. Raises DataError where it is neither or a plan is missing or empty.
    """

    def __init__(self, source: str, examples: RobotExamples):
        self._source, self._examples = source, examples
        fields = set(_FIELD.findall(source))
        self._annotated = None if fields else _annotations(source)
        self._texts = {
            name: Instructions(examples.steps, name, f"plan {source!r}")
            for name in fields - {INSTRUCTION}
        }
        lacking = sorted({text for text, plan in self.distinct() if not plan.strip()})
        if lacking:
            shown = ", ".join(map(repr, lacking[:5]))
            raise DataError(
                f"{source}: no plan for {len(lacking)} of {len(examples.instructions)} "
                f"instructions: {shown}. Add them, or use a template with {{{INSTRUCTION}}}"
            )

    def __getitem__(self, i: int) -> str:
        row = self._examples.row(i)
        texts = {name: text[row] for name, text in self._texts.items()}
        return self._plan(self._examples.instruction(i), texts)

    def distinct(self) -> Iterator[tuple[str, str]]:
        """(instruction, plan), once each: with texts of the set, of the first step of episodes."""
        if not self._texts:
            for instruction in self._examples.instructions:
                yield instruction, self._plan(instruction, {})
            return
        starts = self._examples.episode_starts[:-1].tolist()
        yield from sorted({(self._examples.instruction(i), self[i]) for i in starts})

    def _plan(self, instruction: str, texts: dict[str, str]) -> str:
        if self._annotated is not None:
            return self._annotated.get(instruction, "")
        found = texts | {INSTRUCTION: instruction}
        if any(not text.strip() for text in found.values()):
            return ""
        return _FIELD.sub(lambda field: found[field[1]], self._source)


def _annotations(source: str) -> dict[str, str]:
    path = Path(source)
    if not path.is_file():
        raise DataError(
            f"plan {source!r}: neither a template with {{{INSTRUCTION}}} nor a JSON file of plans "
            "by instruction"
        )
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    texts = isinstance(found, dict) and all(isinstance(plan, str) for plan in found.values())
    if not texts:
        raise DataError(f"{path}: expected an object of texts, {{instruction: plan}}")
    return found
