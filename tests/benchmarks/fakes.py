"""Stand-ins for the packages of the benchmarks, with the names and shapes of their own code."""

import sys
import types

import numpy as np


def install(monkeypatch, modules):
    """Puts {dotted name: {attribute: value}} where `import` finds them, parents included."""
    for name, attributes in modules.items():
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            partial = ".".join(parts[:i])
            if partial not in sys.modules:
                monkeypatch.setitem(sys.modules, partial, types.ModuleType(partial))
            if i > 1:
                parent = sys.modules[".".join(parts[: i - 1])]
                monkeypatch.setattr(parent, parts[i - 1], sys.modules[partial], raising=False)
        for key, value in attributes.items():
            monkeypatch.setattr(sys.modules[name], key, value, raising=False)


class Table:
    """Language-Table's environment: succeeds once it was moved by 0.5 m in x."""

    made = []

    def __init__(self, block_mode, reward_factory, seed):
        Table.made.append(self)
        self.how = (block_mode, reward_factory, seed)
        self.resets, self.actions, self.random = 0, [], None

    def reset(self):
        self.resets += 1
        self.random = np.random.rand()
        self.moved = 0.0
        return self._seen()

    def compute_state(self):
        return {"resets": self.resets}

    def step(self, action):
        assert action.dtype == np.float32 and action.shape == (2,) and np.abs(action).max() <= 0.1
        self.actions.append(action)
        self.moved += float(action[0])
        return self._seen(), 0.0, self.succeeded, {}

    @property
    def succeeded(self):
        return self.moved > 0.5 - 1e-6

    def _seen(self):
        words = np.zeros(512, np.int32)
        text = "push the réd moon".encode()
        words[: len(text)] = list(text)
        return {
            "rgb": np.full((180, 320, 3), 7, np.uint8),
            "instruction": words,
            "effector_translation": np.array([0.3, self.moved], np.float32),
        }


class Planner:
    """The oracle: finds no plan for every third start."""

    def __init__(self, env, use_ee_planner):
        assert use_ee_planner

    def get_plan(self, state):
        return state["resets"] % 3 != 0


REWARDS = (
    ("block2block", "BlockToBlockReward"),
    ("block2absolutelocation", "BlockToAbsoluteLocationReward"),
    ("block2block_relative_location", "BlockToBlockRelativeLocationReward"),
    ("block2relativelocation", "BlockToRelativeLocationReward"),
    ("separate_blocks", "SeparateBlocksReward"),
)


def language_table(monkeypatch):
    """Installs the fake package."""
    Table.made = []
    blocks = types.SimpleNamespace(BLOCK_8="BLOCK_8")
    modules = {
        "language_table.environments.language_table": {"LanguageTable": Table},
        "language_table.environments.blocks": {"LanguageTableBlockVariants": blocks},
        "language_table.environments.oracles.push_oracle_rrt_slowdown": {
            "ObstacleOrientedPushOracleBoard2dRRT": Planner
        },
    }
    for module, reward in REWARDS:
        modules[f"language_table.environments.rewards.{module}"] = {reward: reward}
    install(monkeypatch, modules)


class Kitchen:
    """LIBERO's environment: done once the gripper closes; its pictures stand on their heads."""

    made = []

    def __init__(self, bddl_file_name, camera_heights, camera_widths):
        Kitchen.made.append(self)
        self.file, self.size = bddl_file_name, (camera_heights, camera_widths)
        self.seeded, self.closed, self.state, self.actions = None, False, None, []

    def seed(self, seed):
        self.seeded = seed

    def reset(self):
        self.actions, self.state = [], None

    def set_init_state(self, state):
        self.state = state
        return self._seen()

    def step(self, action):
        assert len(action) == 7 and all(isinstance(value, float) for value in action)
        self.actions.append(action)
        return self._seen(), 0.0, action[6] > 0, {}

    def close(self):
        self.closed = True

    def _seen(self):
        picture = np.zeros((*self.size, 3), np.uint8)
        picture[0, 0] = 255  # in the upright picture this corner is the last one
        return {
            "agentview_image": picture,
            "robot0_eef_pos": np.array([0.1, 0.2, 0.3]),
            "robot0_eef_quat": np.array([0.0, 0.0, np.sin(0.25), np.cos(0.25)]),  # 0.5 rad about z
            "robot0_gripper_qpos": np.array([0.04, -0.04]),
        }


class Suites:
    """One of LIBERO's suites, of two tasks."""

    n_tasks = 2

    def get_task(self, number):
        name = ("open_the_drawer", "stack_the_bowls")[number]
        return types.SimpleNamespace(
            name=name,
            language=name.replace("_", " "),
            problem_folder="folder",
            bddl_file=f"{name}.bddl",
        )

    def get_task_init_states(self, number):
        return [(number, episode) for episode in range(50)]


def libero(monkeypatch):
    """Installs the fake package."""
    Kitchen.made = []
    known = {f"libero_{name}": Suites for name in ("spatial", "object", "goal", "10", "90")}
    install(
        monkeypatch,
        {
            "libero.libero": {"get_libero_path": lambda key: f"/assets/{key}"},
            "libero.libero.benchmark": {"get_benchmark_dict": lambda: known},
            "libero.libero.envs": {"OffScreenRenderEnv": Kitchen},
        },
    )
