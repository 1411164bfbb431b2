"""TensorFlow's SavedModel of a policy decodes as the policy does."""

import builtins

import numpy as np
import pytest

from rt2.inference import card, export, saved_model


@pytest.mark.faults
def test_the_signatures_decode_as_the_policy(policy, observations, tmp_path):
    tf = pytest.importorskip("tensorflow")
    out = tmp_path / "saved"
    saved_model.write(policy, out, card.UNKNOWN)  # checks the actions of every data set
    loaded = tf.saved_model.load(str(out))
    assert set(loaded.signatures) == {"answer", "act_arm", "act_table", "act_limb"}
    asked = [o for o in observations if o["dataset"] == "table"][:3]  # any number of rows
    rows = [policy._row(o, "table")[:2] for o in asked]
    image, prefix = (tf.constant(np.stack(column)) for column in zip(*rows, strict=True))
    made = loaded.signatures["act_table"](image=image, prefix=prefix)
    wanted = policy.infer_batch(asked)
    np.testing.assert_array_equal(made["tokens"], [reply["tokens"] for reply in wanted])
    log_probs = [reply["log_prob"] for reply in wanted]
    np.testing.assert_allclose(made["log_prob"], log_probs, atol=1e-3)
    names = {file.name for file in out.iterdir()}
    assert {"tokenizer.model", "assets.json", "README.md"} <= names


def test_without_tensorflow_it_says_what_to_install(policy, tmp_path, monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.split(".")[0] == "tensorflow":
            raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(export.ExportError, match=r"needs tensorflow: pip install -e '.\[data\]'"):
        saved_model.write(policy, tmp_path / "saved", card.UNKNOWN)
