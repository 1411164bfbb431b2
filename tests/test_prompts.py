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


def test_a_chain_of_thought_reads_as_in_the_paper():
    asked, plan = prompts.plan_prompt("I'm hungry"), prompts.plan_target("pick rxbar chocolate")
    action = prompts.integers([1, 128, 124, 136, 121, 158, 111, 255])
    assert f"{asked} {plan} {action}" == (
        "Instruction: I'm hungry. Plan: pick rxbar chocolate. Action: 1 128 124 136 121 158 111 255"
    )


def test_the_state_stands_before_the_answer():
    asked = "Q: what action should the robot take to go? State: 0 255. A:"
    assert prompts.action_prompt("go", prompts.integers([0, 255])) == asked
    assert prompts.plan_prompt("go", "7") == "Instruction: go. State: 7."
