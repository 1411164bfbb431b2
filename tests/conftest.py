"""Eight virtual CPU devices for every test, set before anything imports jax."""

import io
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["NPROC"] = "16"  # with fewer threads than devices, collectives deadlock on two cores
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import sentencepiece  # noqa: E402

SENTENCES = [
    "Q: what action should the robot take to move to the strawberry? A:",
    "Q: what action should the robot take to push the blue cube to the star? A:",
    "Answer in en : where is the red fox",
    "Generate caption in de",
    "5 20 hammer 12 30 strawberry",
]

# Times vary on shared cores: no deadline. CI must give the same answer twice: no random search.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the work tree."""
    return ROOT


@pytest.fixture(scope="session")
def gemma_pieces() -> bytes:
    """A small SentencePiece model with the special pieces and the rules of PaliGemma's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=model,
        vocab_size=760,
        model_type="bpe",
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        eos_piece="<eos>",
        bos_piece="<bos>",
        user_defined_symbols=["<mask>", "\n", "\n\n", *(f"<loc{i:04}>" for i in range(300))],
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def bridge_dir(project: Path) -> Path:
    """50 real episodes of BridgeData V2 as RLDS (read only), where the machine has them."""
    folder = project.parent / "shared" / "data" / "bridge_dataset" / "1.0.0"
    if not (folder / "dataset_info.json").is_file():
        pytest.skip("needs BridgeData V2 episodes in ../shared/data/bridge_dataset/1.0.0")
    return folder
