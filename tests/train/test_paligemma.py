"""Fine-tuning from PaliGemma's kind of checkpoint, tokenizer and prompt, at a toy's size."""

import numpy as np
import pytest
import safetensors.numpy

from rt2.inference import export
from rt2.inference.bundle_runtime import Policy as Bundle
from rt2.inference.policy import Policy
from rt2.models import variants
from rt2.models.weights import published
from rt2.tokenizer import Tokenizer
from tests.train.conftest import metric_rows

LENGTH = 150  # of a toy's pieces, which are short
OBSERVATION = {"image": np.full((64, 64, 3), 200, np.uint8), "instruction": "move to the clock"}


@pytest.fixture
def paligemma(gemma_pieces, tmp_path):
    """A checkpoint with PaliGemma's names, and the tokenizer beside it."""
    model = variants.config(
        "paligemma_debug",
        vocab=Tokenizer(gemma_pieces).size,
        dtype="float32",
        remat="none",
        image_size=0,
    )
    tensors = published.random_tensors(published.paligemma(model))
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.model").write_bytes(gemma_pieces)
    return tmp_path


def test_a_decoder_only_model_goes_the_whole_way(run, paligemma, tmp_path):
    """From PaliGemma's weights to a bundle, every question as PaliGemma knows it."""
    first, sharper = tmp_path / "first", tmp_path / "sharper"
    changes = {
        "model.variant": "paligemma_debug",
        "tokenizer.path": paligemma / "tokenizer.model",
        "prompt.bos": True,
        "prompt.suffix": "\n",
        "action_vocabulary": "overwrite",
        "prefix_length": LENGTH,
        "target_length": LENGTH,
        "eval_rows": 8,
    }
    weights = paligemma / "model.safetensors"
    done = run(first, num_steps=2, log_interval=1, init_from=weights, **changes)
    assert done.returncode == 0, done.stderr
    assert "drawn anew" not in done.stderr  # the checkpoint fills the whole model
    losses = [row["loss"] for row in metric_rows(first) if "loss" in row]
    assert len(losses) == 2 and np.isfinite(losses).all()
    done = run(sharper, num_steps=1, init_from=first, **changes | {"model.image_size": 96})
    assert done.returncode == 0, done.stderr
    policy = Policy.load(sharper)
    assert policy.params["vision/position"].shape == (36, 32)
    asked = policy.preprocess.action_prefix("move to the clock")
    assert policy.preprocess.tokenizer.decode(asked).endswith("A:\n") and asked[0] == 2
    question = OBSERVATION | {"instruction": "what is this?", "mode": "vqa"}
    action, answer = policy.infer_batch([OBSERVATION, question])
    assert action["actions"].shape == (1, 2) and isinstance(answer["text"], str)
    assert set(action["tokens"].tolist()) <= set(policy.preprocess.vocabulary.ids)
    alone = policy.infer(OBSERVATION)
    assert alone["tokens"].tolist() == action["tokens"].tolist()
    export.write(policy, tmp_path / "bundle")  # checks the bundle's replies against the policy's
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle._prefix("move").tolist() == policy.preprocess.text_prefix("move").tolist()
