import numpy as np
import pytest
import safetensors.numpy

from rt2.evaluate.start import load_start
from rt2.models.weights.files import WeightsError


def test_weights_without_their_preprocessing_are_refused_with_the_remedy(tmp_path):
    file = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(2, np.float32)}, file)
    with pytest.raises(WeightsError, match=r"other\.safetensors.*experiments/pretrain/run\.py"):
        load_start(file)


def test_a_start_answers_questions_and_knows_no_robot(project):
    policy = load_start(project / "experiments/pretrain/tiny.safetensors")
    image = np.zeros((64, 64, 3), np.uint8)
    asked = {"image": image, "instruction": "Answer in en : where is the key", "mode": "vqa"}
    assert isinstance(policy.infer(asked)["text"], str)
    assert policy.preprocess.codecs == {}
