"""LIBERO (Liu et al. 2023) without its idle steps, as OpenVLA published it.

Features: the features.json of openvla/modified_libero_rlds. Mapping: `libero_dataset_transform` of
OpenVLA-OFT. The gripper is -1 open to 1 closed; images are stored upright, rotated by 180 degrees
against the simulator's own.
"""

from rt2.actions import RT2
from rt2.data.dataset_spec import DatasetSpec
from rt2.data.parts import Part

NAMES = tuple(f"libero_{suite}_no_noops" for suite in ("spatial", "object", "goal", "10"))

ROWS = tuple(
    DatasetSpec(
        name=name,
        camera="observation/image",
        cameras=("observation/wrist_image",),
        instruction="language_instruction",
        action=(
            Part("action", (0, 6)),
            Part("action", (6, 7), (("clip", 0.0, 1.0), "invert")),
        ),
        action_spec=RT2,
        state="observation/state",
        drop_first=False,
        drop_last="never",
        terminate="last_trainable",
        empty_instruction="refuse",
        bounds=(*["q01_q99"] * 6, (0.0, 1.0)),
    )
    for name in NAMES
)
