"""A bundle replies as its checkpoint does, without this package, and trusts no altered byte."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import venv

import hypothesis
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import strategies as st

from rt2.inference import bundle_runtime, export, worker
from rt2.inference.bundle_runtime import BundleError, ObservationError
from rt2.inference.policy import Policy

# What a bundle may import beside the standard library and its requirements' own dependencies.
BLOCKED = ("rt2", "flax", "tensorflow", "orbax", "grain", "optax", "tensorflow_datasets", "msgpack")

WEIGHTS = "model-00001-of-00001.safetensors"

# Runs in a fresh interpreter: replies of the bundle to observations.safetensors, as JSON.
CHILD = f"""
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(name + " is not part of a bundle")

sys.meta_path.insert(0, Blocker())
bundle, inputs = sys.argv[1:]
sys.path[:] = [bundle] + [p for p in sys.path if p]
import safetensors.numpy
from bundle import Policy

images = safetensors.numpy.load_file(inputs)
texts = json.load(open(inputs + ".json"))
policy = Policy.load(bundle)
replies = policy.infer_batch([{{**t, "image": images[str(i)]}} for i, t in enumerate(texts)])
for reply in replies:
    reply.update((k, reply[k].tolist()) for k in ("actions", "tokens") if k in reply)
loaded = sorted(m for m in sys.modules if m.split(".")[0] in {BLOCKED!r})
print(json.dumps({{"replies": replies, "loaded": loaded, "metadata": policy.metadata}}))
"""


@pytest.fixture(scope="module")
def bundle(policy, tmp_path_factory):
    """The exported policy."""
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export.write(policy, folder)
    return folder


@pytest.fixture
def copy(bundle, tmp_path):
    """A copy of the bundle to damage."""
    return shutil.copytree(bundle, tmp_path / "copy")


@pytest.fixture(scope="module")
def asked(observations):
    """A hundred robot observations and ten questions."""
    questions = [
        {**o, "mode": "vqa", "instruction": "Answer in en : where is the cup"}
        for o in observations[:10]
    ]
    return observations + questions


def run_child(python, bundle, asked, folder, *flags):
    inputs = folder / "observations.safetensors"
    safetensors.numpy.save_file({str(i): o["image"] for i, o in enumerate(asked)}, inputs)
    texts = [{k: v for k, v in o.items() if k != "image"} for o in asked]
    (folder / "observations.safetensors.json").write_text(json.dumps(texts))
    command = [python, *flags, "-c", CHILD, str(bundle), str(inputs)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_same_replies(policy, asked, said):
    wanted = policy.infer_batch(asked)
    assert len({reply["text"] for reply in wanted}) > 30  # the observations do differ
    for ours, theirs in zip(wanted, said["replies"], strict=True):
        assert theirs["text"] == ours["text"]
        assert theirs["log_prob"] == pytest.approx(ours["log_prob"], abs=1e-3)
        assert theirs.keys() == ours.keys()
        if "tokens" in ours:
            assert theirs["tokens"] == ours["tokens"].tolist()
            assert theirs["actions"] == ours["actions"].tolist()
            assert theirs["terminate"] == ours["terminate"]


def test_in_an_interpreter_without_this_package_the_replies_are_the_same(
    policy, bundle, asked, tmp_path
):
    said = run_child(sys.executable, bundle, asked, tmp_path)
    assert_same_replies(policy, asked, said)
    assert said["loaded"] == []
    assert said["metadata"]["datasets"].keys() == {"arm", "table", "limb"}
    assert "private" not in str(said["metadata"])


@pytest.mark.faults
def test_in_an_environment_of_its_own_the_replies_are_the_same(policy, bundle, asked, tmp_path):
    """Installs what requirements.txt names, and nothing else."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "-r", bundle / "requirements.txt"]
    subprocess.run(pip, check=True)
    assert_same_replies(policy, asked, run_child(python, bundle, asked, tmp_path, "-I"))


def test_observation_forms_of_the_policy_are_those_of_the_bundle(policy, bundle, observations):
    runtime = bundle_runtime.Policy.load(bundle)
    image, rest = observations[0]["image"], {"instruction": "push the cup", "dataset": "table"}
    for form in ({"front": image}, [image], image[:20, :200], image[:64, :64], image[:7, :5]):
        theirs, ours = (p.infer({**rest, "image": form}) for p in (runtime, policy))
        np.testing.assert_array_equal(theirs["tokens"], ours["tokens"])


def test_actions_lie_within_the_bounds(bundle, observations):
    runtime = bundle_runtime.Policy.load(bundle)
    for reply, observation in zip(runtime.infer_batch(observations), observations, strict=True):
        described = runtime.metadata["datasets"][observation["dataset"]]
        assert (reply["actions"] > described["low"]).all()
        assert (reply["actions"] < described["high"]).all()


BAD = {
    "unknown key": ({"instructions": "x"}, "instructions: unknown"),
    "no dataset": ({"dataset": None}, "known: .'arm', 'limb', 'table'"),
    "float image": ({"image": np.zeros((8, 8, 3), np.float32)}, "image: float32"),
    "two cameras": ({"image": {"a": 1, "b": 2}}, "image: cameras"),
    "two frames": ({"image": [np.zeros((8, 8, 3), np.uint8)] * 2}, "image: 2 frames"),
    "mode": ({"mode": "sing"}, "mode: 'sing'"),
    "empty": ({"instruction": " "}, "instruction: expected"),
    "long": ({"instruction": "red cup " * 50}, "instruction: .* tokens"),
    "no state": ({"dataset": "limb"}, "state: missing; this model reads 3 numbers"),
    "short state": ({"dataset": "limb", "state": [1.0]}, "state: float64 .1., expected 3 numbers"),
    "ragged state": ({"dataset": "limb", "state": [[1.0], 2.0, 3.0]}, "state: lists of different"),
    "state of words": ({"dataset": "limb", "state": ["1"] * 3}, "state: <U1"),
    "NaN state": ({"dataset": "limb", "state": [1.0, 2.0, np.nan]}, "state: NaN"),
    "huge state": ({"dataset": "limb", "state": [1.0, 2.0, 1e300]}, "beyond float32"),
}


@pytest.mark.parametrize("change, reason", BAD.values(), ids=BAD)
def test_bad_observation_is_refused_by_name(bundle, observations, change, reason):
    runtime = bundle_runtime.Policy(bundle_runtime._verified(bundle))
    with pytest.raises(ObservationError, match=reason):
        runtime.infer({**observations[0], **change})


def test_one_flipped_bit_in_any_file_is_refused(copy):
    rng = np.random.default_rng(0)
    files = sorted(copy.iterdir())
    assert {WEIGHTS, "bundle.py", "manifest.json"} <= {file.name for file in files}
    for file in files:
        data = file.read_bytes()
        for place in {0, len(data) - 1, *rng.integers(0, len(data), 8).tolist()}:
            flipped = bytearray(data)
            flipped[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(flipped)
            with pytest.raises(BundleError, match=re.escape(str(copy))):
                bundle_runtime.Policy.load(copy)
        file.write_bytes(data)
    bundle_runtime.Policy.load(copy)


def test_a_manifest_written_another_way_is_refused(copy):
    manifest = copy / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    with pytest.raises(BundleError, match="manifest.json: damaged"):
        bundle_runtime.Policy.load(copy)


def test_a_missing_or_truncated_file_is_refused(copy):
    weights = copy / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BundleError, match=f"{WEIGHTS}: altered"):
        bundle_runtime.Policy.load(copy)
    weights.unlink()
    with pytest.raises(BundleError, match=f"{WEIGHTS}: missing"):
        bundle_runtime.Policy.load(copy)


def sign_again(folder):
    """A manifest that fits whatever the folder holds now."""
    names = [file.name for file in folder.iterdir() if file.is_file()]
    digests = {
        name: export.hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in names
        if name != "manifest.json"
    }
    (folder / "manifest.json").write_bytes(bundle_runtime.manifest_bytes(digests))


def test_other_weights_do_not_pass_the_golden_observations(copy):
    path = copy / WEIGHTS
    weights = safetensors.numpy.load_file(path)
    weights["text/embedding"] = weights["text/embedding"][::-1].copy()
    safetensors.numpy.save_file(weights, path)
    sign_again(copy)
    with pytest.raises(BundleError, match="golden observation 0"):
        bundle_runtime.Policy.load(copy)


@hypothesis.given(st.lists(st.floats(-2, 2, width=64), min_size=3, max_size=3), st.integers(0, 256))
def test_the_bundle_writes_a_state_as_training_does(preprocess, values, edge):
    codec = preprocess.state_codecs["limb"]
    low, high = np.array(codec.low), np.array(codec.high)
    state = low + (high - low) * np.array(values)  # inside and outside of the bounds
    state[0] = low[0] + (high[0] - low[0]) * edge / 256  # at the edge of a cell
    bins = list(codec.spec.bins)
    written = bundle_runtime._integers(state, list(codec.low), list(codec.high), bins)
    assert written == preprocess.state("limb", state)


def test_a_prompt_without_room_is_said(policy, tmp_path):
    short = dataclasses.replace(policy.preprocess, prefix_length=3)
    narrow = Policy(policy.model, policy.params, short, policy.metadata)
    with pytest.raises(export.ExportError, match="none of the instructions .* fits"):
        export.write(narrow, tmp_path / "bundle")


def test_a_folder_with_content_is_not_overwritten(policy, tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(export.ExportError, match="not an empty folder"):
        export.write(policy, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_requirements_name_every_import_of_the_runtime(bundle):
    source = (bundle / "bundle.py").read_text()
    found = set(re.findall(r"^(?:import|from) (\w+)", source, re.M))
    imported = found - set(sys.stdlib_module_names)
    named = {line.split("==")[0] for line in (bundle / "requirements.txt").read_text().split()}
    packages = {"PIL": "pillow"}
    assert {packages.get(module, module) for module in imported} <= named


def test_the_command_exports_a_checkpoint(checkpoint_dir, tmp_path, capsys):
    out = tmp_path / "bundle"
    export.main([f"--checkpoint={checkpoint_dir}", f"--out={out}"])
    assert f"{out}: " in capsys.readouterr().out
    checked = subprocess.run(
        [sys.executable, out / "bundle.py"], capture_output=True, text=True, env=os.environ
    )
    assert checked.returncode == 0 and "intact" in checked.stdout, checked.stderr
    with pytest.raises(SystemExit, match="not an empty folder"):
        export.main([f"--checkpoint={checkpoint_dir}", f"--out={out}"])


def test_the_server_takes_up_a_bundle(policy, bundle, observations):
    loaded = worker.load(str(bundle), max_batch=1, decoding={})
    assert loaded.folder == str(bundle) and len(loaded.digest) == 16
    (made,), direct = loaded.policy.infer_batch(observations[:1]), policy.infer(observations[0])
    np.testing.assert_array_equal(made["tokens"], direct["tokens"])
