from rt2 import prompts


def test_the_formats_of_the_paper():
    asked = "Q: what action should the robot take to pick the apple? A:"
    assert prompts.action_prompt("pick the apple") == asked
    assert prompts.vqa_prompt("where is it", "es") == "Answer in es : where is it"
    assert prompts.caption_prompt("de") == "Generate caption in de"
    action = "1 128 124 136 121 158 111 255"
    assert prompts.plan_target("I'm hungry", "pick rxbar chocolate", action) == (
        "Instruction: I'm hungry. Plan: pick rxbar chocolate. "
        "Action: 1 128 124 136 121 158 111 255."
    )
