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


def plan_target(instruction: str, plan: str, action: str) -> str:
    """A chain-of-thought row: the plan in words, then the action (section 4.4)."""
    return f"Instruction: {instruction}. Plan: {plan}. Action: {action}."
