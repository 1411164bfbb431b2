"""Sets of Open X-Embodiment that share RT-1's names of features.

Features: TFDS's catalog pages (tensorflow.org/datasets/catalog/NAME); which images are JPEG and
which tensors are zlib from the sets' features.json. Mappings:
octo/data/oxe/oxe_standardization_transforms.py and OpenVLA's
prismatic/vla/datasets/rlds/oxe/transforms.py. The gripper is 1 open, 0 closed throughout.
`terminate_episode` is either a flag or one of three modes (0 terminate, 1 arm, 2 base).
"""

import dataclasses
import math

from rt2.actions import RT2
from rt2.data.dataset_spec import DatasetSpec, FixedText, Keep
from rt2.data.parts import Part

QUANTILES = (*["q01_q99"] * 6, (0.0, 1.0))
STILL = (-1e-3, 1e-3)  # for a dimension that is always 0: it decodes to within 4e-6 of it
MOTION = ("action/world_vector", "action/rotation_delta")
CHANGES = Part("action/gripper_closedness_action", then=(("absolute_gripper", 0.1),))
CLOSED = Part("action/gripper_closedness_action", then=(("clip", 0.0, 1.0), "invert"))
MODE = Part("action/terminate_episode", columns=(0, 1))
FLAG = Part("action/terminate_episode")


def _row(name: str, **changes) -> DatasetSpec:
    common = {
        "camera": "observation/image",
        "instruction": "observation/natural_language_instruction",
        "action": (*MOTION, CHANGES),
        "action_spec": RT2,
        "state": None,
        "drop_first": False,
        "drop_last": "never",  # the last action is the one that terminates
        "terminate": FLAG,
        "empty_instruction": "drop",
        "bounds": QUANTILES,
    }
    return DatasetSpec(name=name, **(common | changes))


# RT-1's kitchens (Brohan et al. 2022); the ranges are those of RT-1's action tokens.
FRACTAL = _row(
    "fractal20220817_data",
    state=("observation/base_pose_tool_reached", "observation/gripper_closed"),
    terminate=MODE,
    bounds=(*[(-1.0, 1.0)] * 3, *[(-math.pi / 2, math.pi / 2)] * 3, (0.0, 1.0)),
)

# QT-Opt's bins (Kalashnikov et al. 2018). RT-1 (section 6.3) trains on the episodes that succeed,
# and gives them all the instruction "pick anything": the stored one says nothing.
KUKA = _row(
    "kuka",
    instruction=FixedText("pick anything"),
    state=("observation/clip_function_input/base_pose_tool_reached", "observation/gripper_closed"),
    terminate=MODE,
    keep_episodes=(Keep("success", equals=True),),
)

# Franka in a kitchen (Rosete-Beas et al. 2022). The gripper is -1 or 1; TFDS's text calls 1
# closed and the angles yaw, pitch, roll, Octo and OpenVLA read 1 as open and keep the order.
TACO_PLAY = _row(
    "taco_play",
    camera="observation/rgb_static",
    cameras=("observation/rgb_gripper",),
    action=(
        Part("action/rel_actions_world", (0, 6)),
        Part("action/rel_actions_world", (6, 7), (("clip", 0.0, 1.0),)),
    ),
    state=(Part("observation/robot_obs", (0, 7)),),  # position, angles, gripper width
)

JACO_PLAY = _row(  # Dass et al. 2023; the hand does not turn
    "jaco_play",
    cameras=("observation/image_wrist",),
    action=("action/world_vector", Part(constant=(0.0, 0.0, 0.0)), CHANGES),
    state="observation/end_effector_cartesian_pos",
    terminate=MODE,
    bounds=(*["q01_q99"] * 3, *[STILL] * 3, (0.0, 1.0)),
)

CABLE_ROUTING = _row(  # Luo et al. 2023; velocities, and a gripper that stays closed
    "berkeley_cable_routing",
    cameras=(
        "observation/top_image",
        "observation/wrist45_image",
        "observation/wrist225_image",
    ),
    action=(*MOTION, Part(constant=(0.0,))),
    state="observation/robot_state",
    bounds=(*["q01_q99"] * 3, STILL, STILL, "q01_q99", (0.0, 1.0)),  # it turns about z alone
)

ROBOTURK = _row(  # Mandlekar et al. 2019
    "roboturk", camera="observation/front_rgb", action=(*MOTION, CLOSED)
)

VIOLA = _row(  # Zhu et al. 2022
    "viola",
    camera="observation/agentview_rgb",
    cameras=("observation/eye_in_hand_rgb",),
    action=(*MOTION, CLOSED),
    state=("observation/joint_states", "observation/gripper_states"),
)

# Chen et al. 2023. Its hand_image is stored as BGR, and therefore not among the cameras.
AUTOLAB_UR5 = _row("berkeley_autolab_ur5", state=(Part("observation/robot_state", (6, 14)),))

TOTO = _row(  # Zhou et al. 2023
    "toto", action=(*MOTION, "action/open_gripper"), state="observation/state"
)

# Jang et al. 2021. Each action holds the next ten: the first of them is taken. Rotations are
# axis-angle vectors, which Octo and OpenVLA take as they are.
BC_Z = _row(
    "bc_z",
    action=(
        Part("action/future/xyz_residual", (0, 3)),
        Part("action/future/axis_angle_residual", (0, 3)),
        Part("action/future/target_close", (0, 1), ("invert",)),
    ),
    state=(
        "observation/present/xyz",
        "observation/present/axis_angle",
        "observation/present/sensed_close",
    ),
    terminate="last_trainable",
)

# Khazatsky et al. 2024: commanded velocities of the hand, in 64 bits. Episodes lie under
# .../success/... or .../failure/...; OpenVLA (`zero_action_filter`) leaves out resting steps too.
DROID = dataclasses.replace(
    BC_Z,
    name="droid",
    camera="observation/exterior_image_1_left",
    cameras=("observation/exterior_image_2_left", "observation/wrist_image_left"),
    instruction="language_instruction",
    action=(
        "action_dict/cartesian_velocity",
        Part("action_dict/gripper_position", then=("invert",)),
    ),
    state=("observation/cartesian_position", "observation/gripper_position"),
    keep_episodes=(Keep("episode_metadata/file_path", matches="/success/"),),
    drop_idle=1e-6,
)

ROWS = (
    *(FRACTAL, KUKA, TACO_PLAY, JACO_PLAY, CABLE_ROUTING, ROBOTURK, VIOLA, AUTOLAB_UR5),
    *(TOTO, BC_Z, DROID),
)
