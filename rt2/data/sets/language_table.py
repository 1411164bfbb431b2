"""Language-Table (Lynch et al. 2022): planar pushing, with instructions as code points.

Names and features: tensorflow_datasets/robotics/language_table/language_table.py and its
features.json. Octo and OpenVLA fill five more dimensions with constants; here the two are kept,
as RT-2 does (section 4.1).
"""

from rt2.actions import LANGUAGE_TABLE
from rt2.data.dataset_spec import DatasetSpec

NAMES = (
    "language_table",
    "language_table_sim",
    "language_table_blocktoblock_sim",
    "language_table_blocktoblock_4block_sim",
    "language_table_blocktoblock_oracle_sim",
    "language_table_blocktoblockrelative_oracle_sim",
    "language_table_blocktoabsolute_oracle_sim",
    "language_table_blocktorelative_oracle_sim",
    "language_table_separate_oracle_sim",
)

ROWS = tuple(
    DatasetSpec(
        name=name,
        camera="observation/rgb",
        instruction="observation/instruction",
        action=("action",),
        action_spec=LANGUAGE_TABLE,
        state="observation/effector_translation",
        drop_first=False,
        drop_last="flagged",  # RLDS: the final observation has no action
        terminate="last_trainable",
        empty_instruction="drop",
        bounds=((-0.105, 0.105),) * 2,  # the environment's 0.1 m: the bins are whole centimetres
    )
    for name in NAMES
)
