import numpy as np
import pytest

from rt2.errors import UserError
from rt2.preprocess import PreprocessError

IMAGE = np.random.default_rng(3).integers(0, 256, (80, 96, 3)).astype(np.uint8)
OBSERVATION = {"image": IMAGE, "instruction": "move to the red cup", "dataset": "arm"}


def test_reply_of_a_robot_row(policy):
    reply = policy.infer(OBSERVATION)
    codec = policy.preprocess.codecs["arm"]
    assert reply["actions"].shape == (1, 7) and reply["actions"].dtype == np.float32
    assert (reply["actions"] >= codec.low).all() and (reply["actions"] <= codec.high).all()
    assert reply["tokens"].shape == (8,) and reply["tokens"].dtype == np.int32
    assert isinstance(reply["terminate"], bool) and isinstance(reply["log_prob"], float)
    bins = policy.preprocess.vocabulary.bins(reply["tokens"])
    assert reply["text"] == " ".join(map(str, bins))
    assert list(reply["timing"]) == ["preprocess_ms", "encode_ms", "decode_ms"]
    assert all(value > 0 for value in reply["timing"].values())


def test_batch_equals_single_rows_in_any_order(policy, observations):
    some = list(observations)[:9]
    some[4] = {**some[4], "mode": "vqa"}
    together = policy.infer_batch(some)
    for one, reply in zip(some, together, strict=True):
        alone = policy.infer(one)
        assert alone["text"] == reply["text"]
        assert ("actions" in reply) == (one.get("mode") != "vqa")


def test_load_reads_what_was_saved(policy, tmp_path):
    from rt2.inference.policy import Policy
    from rt2.train.checkpoint import CheckpointWriter
    from rt2.train.loop import as_json
    from rt2.train.step import TrainState

    writer = CheckpointWriter(tmp_path, keep=1)
    state = TrainState(np.int32(3), policy.params, {"count": np.zeros(2, np.float32)})
    assets = as_json(
        format=1,
        step=3,
        config={"sources": {}},
        model=policy.model.to_json(),
        preprocess=policy.preprocess.to_json(),
        data={},
        eval={},
    )
    writer.save(state, assets)
    writer.close()
    again = Policy.load(tmp_path)
    assert again.infer(OBSERVATION)["text"] == policy.infer(OBSERVATION)["text"]
    assert again.metadata["datasets"] == policy.metadata["datasets"]


@pytest.mark.parametrize(
    "change, field",
    [
        ({"image": IMAGE.astype(np.float32)}, "image"),
        ({"image": IMAGE[..., 0]}, "image"),
        ({"image": [IMAGE, IMAGE]}, "image"),
        ({"image": {"left": IMAGE, "right": IMAGE}}, "cameras"),
        ({"instruction": ""}, "instruction"),
        ({"instruction": 3}, "instruction: int"),
        ({"instruction": "push \ud800"}, "U\\+D800"),
        ({"instruction": "push \x00 it"}, "U\\+0000"),
        ({"instruction": "\u200b\u200d "}, "instruction: empty"),
        ({"instruction": "x" * 2**20}, "at most 2560"),
        ({"mode": "talk"}, "mode"),
        ({"dataset": "armm"}, "Did you mean 'arm'"),
    ],
)
def test_what_does_not_fit_is_named(policy, change, field):
    with pytest.raises(UserError, match=field):
        policy.infer({**OBSERVATION, **change})


STATE = {"image": IMAGE, "instruction": "push the green block", "dataset": "limb"}


def test_the_state_is_read_where_the_data_set_has_one(policy):
    low, high = [-1.0, 0.0, 10.0], [1.0, 0.5, 90.0]
    replies = [policy.infer({**STATE, "state": state})["text"] for state in (low, high)]
    assert replies[0] != replies[1]
    beyond = policy.infer({**STATE, "state": np.array([7.0, 8.0, 9e9])})
    assert beyond["text"] == replies[1]  # the outer bins
    told = policy.metadata["datasets"]["limb"]
    assert (told["state_low"], told["state_high"]) == (low, high)


def test_the_question_holds_the_bins_of_the_state(policy):
    preprocess = policy.preprocess
    state = preprocess.state("limb", [0.0, 0.4999, 10.4])
    asked = preprocess.tokenizer.decode(preprocess.action_prefix("push the green block", state))
    wanted = "push the green block? State: 128 255 1. A:"
    assert asked == f"Q: what action should the robot take to {wanted}"


def test_a_state_that_is_not_read_is_ignored(policy):
    given = policy.infer({**OBSERVATION, "state": np.ones(5)})
    assert given["text"] == policy.infer(OBSERVATION)["text"]
    assert policy.metadata["datasets"]["arm"]["state_low"] == []


BAD_STATES = {
    "none": (None, "state: missing; this model reads the 3 numbers .* of data set 'limb'"),
    "short": ([0.0, 0.0], r"state: float64 \[2\]; this model reads the 3 numbers"),
    "two rows": (np.zeros((1, 3)), r"state: float64 \[1, 3\]"),
    "one number": (0.5, r"state: float64 \[\]"),
    "ragged": ([[0.0], 0.0, 0.0], "state: lists of different lengths"),
    "words": (["0", "0", "0"], "state: <U1"),
    "a map": ({"x": 1}, "state: object"),
    "NaN": ([0.0, float("nan"), 0.0], r"state: NaN, .* in the numbers \[1\]"),
    "infinite": (np.array([0, 0, np.inf], np.float32), r"in the numbers \[2\]"),
    "1e300": ([1e300, 0.0, 0.0], r"beyond float32 in the numbers \[0\]"),
}


@pytest.mark.parametrize("state, words", BAD_STATES.values(), ids=BAD_STATES)
def test_a_state_that_does_not_fit_is_named(policy, state, words):
    with pytest.raises(PreprocessError, match=words):
        policy.infer({**STATE, "state": state})


def test_missing_fields_are_named(policy):
    with pytest.raises(PreprocessError, match="image: missing"):
        policy.infer({"instruction": "go", "dataset": "arm"})


def test_two_data_sets_need_a_name(policy):
    with pytest.raises(PreprocessError, match="known: .*arm.*table"):
        policy.infer({"image": IMAGE, "instruction": "go"})
