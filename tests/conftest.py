"""Eight virtual CPU devices for every test, set before anything imports jax."""

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

# Times vary on shared cores: no deadline. CI must give the same answer twice: no random search.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the work tree."""
    return ROOT


@pytest.fixture(scope="session")
def bridge_dir(project: Path) -> Path:
    """50 real episodes of BridgeData V2 as RLDS (read only), where the machine has them."""
    folder = project.parent / "shared" / "data" / "bridge_dataset" / "1.0.0"
    if not (folder / "dataset_info.json").is_file():
        pytest.skip("needs BridgeData V2 episodes in ../shared/data/bridge_dataset/1.0.0")
    return folder
