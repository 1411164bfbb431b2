"""The text formats of RT-2: what stands before and after an answer (section 3.2, appendix D).

The paper names the tasks of Language-Table's co-training (appendix B) but not their words: the
questions below but the first are this project's.
"""

from __future__ import annotations

from collections.abc import Sequence

PLAN_END = "Action:"  # of a plan in words; the integers of the action follow


def action_prompt(instruction: str, state: str | None = None) -> str:
    """The question of a robot row; its answer is the integers of an action.

    `state`: the proprioceptive state as `integers`, where the row has it.
    """
    return f"Q: what action should the robot take to {instruction}?{_state(state)} A:"


def plan_prompt(instruction: str, state: str | None = None) -> str:
    """The beginning of a chain-of-thought row (section 4.4); `plan_target` goes on."""
    return f"Instruction: {instruction}.{_state(state)}"


def plan_target(plan: str) -> str:
    """The plan of a chain-of-thought row in words; the integers of the action follow it."""
    return f"Plan: {plan}. {PLAN_END}"


def plan_in(words: str) -> str:
    """The plan in the words that stand before PLAN_END, as `plan_target` was given it."""
    return words.strip().removeprefix("Plan:").strip().removesuffix(".")


def instruction_prompt() -> str:
    """Asks for the instruction that frames of an episode carry out."""
    return "Q: what instruction does the robot follow? A:"


def position_prompt() -> str:
    """Asks where the arm is in the last frame; the answer is its state as integers."""
    return "Q: where is the robot's arm? A:"


def timesteps_prompt() -> str:
    """Asks how many steps lie between two frames."""
    return "Q: how many timesteps are between the frames? A:"


def success_prompt(instruction: str) -> str:
    """Asks whether frames show that the instruction was carried out: yes or no."""
    return f"Q: does the robot succeed to {instruction}? A:"


def integers(values: Sequence[int]) -> str:
    """Integers as text, one space between them."""
    return " ".join(str(int(value)) for value in values)


def _state(state: str | None) -> str:
    return "" if state is None else f" State: {state}."


def vqa_prompt(question: str, language: str = "en") -> str:
    """The question of a web row, in PaLI's style."""
    return f"Answer in {language} : {question}"


def caption_prompt(language: str = "en") -> str:
    """Asks for a caption, in PaLI's style."""
    return f"Generate caption in {language}"


def where_prompt(name: str, language: str = "en") -> str:
    """Asks for a place; the answer is "x y" in cells of a grid, x to the right, y down."""
    return vqa_prompt(f"where is the {name}", language)


def what_prompt(place: str, language: str = "en") -> str:
    """Asks what is at a place "x y"; the answer is a name."""
    return vqa_prompt(f"what is at {place}", language)


def list_prompt(language: str = "en") -> str:
    """Asks for everything in the picture; the answer is "x y name" of each, from left to right."""
    return vqa_prompt("list every object", language)


def detect_prompt(name: str, language: str = "en") -> str:
    """Asks for the boxes of a kind of thing; the answer is "x0 y0 x1 y1 name" of each."""
    return vqa_prompt(f"detect every {name}", language)
