"""The set that `python -m rt2.sim.collect` writes."""

from rt2.actions import LANGUAGE_TABLE
from rt2.data.dataset_spec import DatasetSpec

TABLETOP = DatasetSpec(
    name="tabletop",
    camera="observation/rgb",
    instruction="instruction",
    action=("action",),
    action_spec=LANGUAGE_TABLE,
    state="observation/effector_position",
    drop_first=False,
    drop_last="always",
    terminate="last_trainable",
    empty_instruction="refuse",
    bounds=((-0.04, 0.04),) * 2,  # what the simulator accepts, in metres a step
)

ROWS = (TABLETOP,)
