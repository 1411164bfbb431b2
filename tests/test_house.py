"""Rules that hold for the project as a whole."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Importing these may load none of those: inference needs no trainer, no data reader, no TensorFlow.
CLOSED_TO = ("tensorflow", "tensorflow_datasets", "grain", "rt2.train", "rt2.data.rlds")
INFERENCE = ("rt2.inference.policy", "rt2.inference.serve", "rt2.inference.export")

FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "yaml.load", "torch.load", "os.system"}
FORBIDDEN_ARGUMENTS = {"allow_pickle", "shell", "trust_remote_code"}

TARGETS = [
    *("help", "install", "data", "train", "eval", "serve", "export", "plan", "inspect", "test"),
    *("lint", "faults", "parity", "lock", "clean"),
]


def sources(project: Path, *folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((project / folder).rglob("*.py"))]


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def forbidden(tree: ast.AST) -> list[str]:
    """What in a module would run code that comes with data (the static bans of SECURITY.md)."""
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        found += [name for name in names if name.split(".")[0] in FORBIDDEN_MODULES]
        if isinstance(node, ast.Call):
            if dotted(node.func) in FORBIDDEN_CALLS:
                found.append(dotted(node.func))
            for argument in node.keywords:
                off = isinstance(argument.value, ast.Constant) and argument.value.value is False
                if argument.arg in FORBIDDEN_ARGUMENTS and not off:
                    found.append(argument.arg)
    return found


def test_nothing_runs_code_that_comes_with_data(project):
    files = sources(project, "rt2", "configs", "experiments")
    assert files
    found = {str(f): forbidden(ast.parse(f.read_text("utf-8"))) for f in files}
    assert not {file: what for file, what in found.items() if what}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from cloudpickle import loads",
        "np.load(f, allow_pickle=True)",
        "subprocess.run(c, shell=flag)",
        "torch.load(f)",
        "eval('1')",
        "yaml.load(f)",
    ],
)
def test_the_ban_sees_what_it_bans(code):
    assert forbidden(ast.parse(code))


@pytest.mark.parametrize("code", ["ast.literal_eval(s)", "model.eval()", "run(c, shell=False)"])
def test_the_ban_lets_the_rest_pass(code):
    assert not forbidden(ast.parse(code))


def hidden_defaults(text: str) -> list[str]:
    return re.findall(r"\b(?:\w*config\w*|cfg)(?:\.\w+)*\.get\([^)]*", text)


def test_no_knob_is_read_with_a_hidden_default(project):
    found = {str(f): hidden_defaults(f.read_text("utf-8")) for f in sources(project, "rt2")}
    assert not {file: what for file, what in found.items() if what}
    assert hidden_defaults('rate = config.optimizer.get("rate", 1e-3)')


@pytest.mark.parametrize("module", INFERENCE)
def test_inference_loads_no_training_code(project, module):
    if not (project / (module.replace(".", "/") + ".py")).is_file():
        pytest.skip(f"{module} is not in this tree")
    code = f"import sys, {module}\nprint(*[m for m in sys.modules if m.startswith({CLOSED_TO!r})])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


def test_packages_import_nothing_by_themselves(project):
    files = [file for file in sources(project, "rt2") if file.name == "__init__.py"]
    assert files
    for file in files:
        body = ast.parse(file.read_text("utf-8")).body
        assert len(body) == 1 and ast.get_docstring(ast.Module(body, [])), file


def test_every_package_has_an_init_file(project):
    folders = {file.parent for file in sources(project, "rt2")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_every_locked_package_has_a_hash_and_no_address(project):
    text = (project / "requirements.lock").read_text("utf-8")
    lines = re.sub(r"\\\n", "", text).splitlines()
    packages = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert len(packages) > 50
    for line in packages:
        assert re.match(r"[a-z0-9._-]+==\S+\s+(--hash=sha256:[0-9a-f]{64}\s*)+$", line), line
    assert "://" not in text and "file:/" not in text


def test_make_lists_every_target_and_defaults_to_the_list(project):
    said = subprocess.run(
        ["make", "--no-print-directory"], cwd=project, capture_output=True, text=True, check=True
    ).stdout
    assert re.findall(r"^  make (\w+) ", said, re.M) == TARGETS


@pytest.mark.parametrize(
    "config, collects",
    [("configs/tabletop.py", True), ("configs/debug.py:x", True), ("configs/bridge.py", False)],
)
def test_training_collects_the_tabletop_only_for_its_own_configs(project, config, collects):
    said = subprocess.run(
        ["make", "-n", "train", f"CONFIG={config}", "DATA=nowhere"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert ("rt2.sim.collect" in said) == collects
    assert said.index("rt2.train") < said.index("rt2.evaluate")
