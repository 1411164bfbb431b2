"""BridgeData V2 (Walke et al. 2023): a WidowX arm in toy kitchens.

Features: the features.json of the official release (`bridge_dataset`, which OpenVLA renames to
`bridge_orig`) and TFDS's catalog page of the older Open X-Embodiment copy (`bridge`). Mappings:
octo/data/oxe/oxe_standardization_transforms.py, OpenVLA's
prismatic/vla/datasets/rlds/oxe/transforms.py.
"""

import dataclasses

from rt2.actions import RT2
from rt2.data.dataset_spec import DatasetSpec
from rt2.data.parts import Part

REACHED = Part("observation/state", (0, 6), ("difference",))
"""x y z roll pitch yaw as the arm moved: the state's difference between neighbouring steps."""

DATASET = DatasetSpec(
    name="bridge_dataset",  # the commanded actions as they are stored
    camera="observation/image_0",
    cameras=("observation/image_1", "observation/image_2", "observation/image_3"),
    instruction="language_instruction",
    action=("action",),
    action_spec=RT2,
    state="observation/state",
    drop_first=True,
    drop_last="flagged",
    terminate="last_trainable",
    empty_instruction="drop",
    bounds=(*["q01_q99"] * 6, (0.0, 1.0)),
)

ORIG = dataclasses.replace(
    DATASET,
    name="bridge_orig",  # relabelled with the motion that was reached, a binary gripper
    action=(REACHED, Part("action", (6, 7), (("binary_gripper", 0.05, 0.95),))),
    drop_last="always",  # nothing follows it
    short_episode="drop",
)

OXE = dataclasses.replace(
    ORIG,
    name="bridge",
    camera="observation/image",
    cameras=(),
    instruction="observation/natural_language_instruction",
    action=(REACHED, "action/open_gripper"),
)

ROWS = (DATASET, ORIG, OXE)
