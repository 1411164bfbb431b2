from rt2 import prompts


def test_the_formats_of_the_paper():
    asked = "Q: what action should the robot take to pick the apple? A:"
    assert prompts.action_prompt("pick the apple") == asked
    assert prompts.vqa_prompt("where is it", "es") == "Answer in es : where is it"
    assert prompts.caption_prompt("de") == "Generate caption in de"
    assert prompts.where_prompt("red fox", "fr") == "Answer in fr : where is the red fox"
    assert prompts.what_prompt("3 30") == "Answer in en : what is at 3 30"
    assert prompts.list_prompt() == "Answer in en : list every object"
    assert prompts.detect_prompt("dog") == "Answer in en : detect every dog"
    action = "1 128 124 136 121 158 111 255"
    assert prompts.plan_target("I'm hungry", "pick rxbar chocolate", action) == (
        "Instruction: I'm hungry. Plan: pick rxbar chocolate. "
        "Action: 1 128 124 136 121 158 111 255."
    )
