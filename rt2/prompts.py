"""The text formats of RT-2: what stands before and after an answer (section 3.2, appendix D)."""

from __future__ import annotations


def action_prompt(instruction: str) -> str:
    """The question of a robot row; its answer is the integers of an action."""
    return f"Q: what action should the robot take to {instruction}? A:"


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


def plan_target(instruction: str, plan: str, action: str) -> str:
    """A chain-of-thought row: the plan in words, then the action (section 4.4)."""
    return f"Instruction: {instruction}. Plan: {plan}. Action: {action}."
