"""The rows of the comparison, each a change of configs/tabletop.py.

    python -m rt2.train --config=experiments/transfer/config.py:co-fine-tune --workdir=DIR

The argument is the name of a row. Every row sees ROBOT_ROWS robot rows in a batch and takes as many
steps as the others, so that all see the same robot examples in the same order of size; web rows
come on top of them.
"""

import dataclasses

from configs import tabletop

DATA = "runs/transfer/data"
START = "experiments/transfer/start"  # as experiments/pretrain/run.py makes them
STEPS = 1500
ROBOT_ROWS = 96  # of a batch
WEB_ROWS = 32  # beside them, where a row does not say otherwise
# at 3e-3 and above a start forgets where things are (experiments/pretrain/README.md)
RATE_FROM_START, RATE_FROM_SCRATCH = 2e-3, 5e-3
PLAN = "{episode_metadata/place}"  # "12 30", as the web's answers to "where is the ..."


@dataclasses.dataclass(frozen=True)
class Row:
    """size: of the model, and of its start. start: whether there is one. web: rows of a batch.

    rt1: whether it is the model of rt1.py, of one size, in place of the project's own.
    bins: of each axis of an action; vocabulary: how they are written. asked: "constrained",
    "free" (decoded as an answer to a question, read as an action) or "plan" (the target's place
    comes first).
    """

    size: str = "tiny"
    start: bool = True
    web: int = WEB_ROWS
    rt1: bool = False
    bins: int = 21
    vocabulary: str = "integer"
    asked: str = "constrained"


def _of_robot(percent: int) -> Row:
    """A batch of which so much is robot rows."""
    return Row(web=round(ROBOT_ROWS * (100 - percent) / percent))


ROWS = {
    "scratch": Row(start=False, web=0),
    "fine-tune": Row(web=0),
    "co-fine-tune": Row(),
    "RT-1-like": Row(start=False, web=0, rt1=True),
    "scratch (mini)": Row("mini", start=False, web=0),
    "fine-tune (mini)": Row("mini", web=0),
    "co-fine-tune (mini)": Row("mini"),
    # 100 % is fine-tune, 75 % co-fine-tune
    "robot share 25 %": _of_robot(25),
    "robot share 50 %": _of_robot(50),
    "robot share 66 %": _of_robot(66),
    "32 bins": Row(bins=32),
    "64 bins": Row(bins=64),
    "256 bins": Row(bins=256),
    "overwritten tokens": Row(vocabulary="overwrite"),
    "scratch with places": Row(start=False, web=0, asked="plan"),
    "fine-tune with places": Row(web=0, asked="plan"),
    "co-fine-tune with places": Row(asked="plan"),
}
# rows that ask the checkpoint of another row in their own way
SAME_TRAINING = {"no constraint": "co-fine-tune"}
ROWS["no constraint"] = dataclasses.replace(ROWS["co-fine-tune"], asked="free")


def get_config(name):
    """The config of the row of this name."""
    row = ROWS[name]
    config = tabletop.get_config()
    config.model.variant = row.size
    config.init_from = f"{START}/{row.size}.safetensors" if row.start else ""
    config.num_steps = config.eval_interval = STEPS
    config.prefix_length = 40  # reasoning takes more than the default
    if row.web:
        config.target_length = 56  # lists of six things take more than the default
    config.action_vocabulary = row.vocabulary
    config.batch_size = ROBOT_ROWS + row.web
    config.optimizer.learning_rate = RATE_FROM_START if row.start else RATE_FROM_SCRATCH
    robot, web = config.sources.tabletop, config.sources.web
    robot.path = config.eval_sources.tabletop.path = f"{DATA}/tabletop/1.0.0"
    web.path = f"{DATA}/web/web-train-*.tar"
    config.eval_sources.vqa.path = f"{DATA}/web_vqa/1.0.0"
    robot.share = ROBOT_ROWS / config.batch_size
    web.share = row.web / config.batch_size
    if row.asked == "plan":
        robot.task, robot.plan = "plan", PLAN
    if row.bins != 21:
        config.dataset_specs.tabletop = _spec(row.bins)
    return config


def _spec(bins):
    """The row `tabletop` of rt2/data/sets with other bins."""
    return dict(
        camera="observation/rgb",
        instruction="instruction",
        action=("action",),
        action_spec=[dict(name=name, bins=bins, unit="m") for name in ("dx", "dy")],
        state="observation/effector_position",
        drop_first=False,
        drop_last="always",
        terminate="last_trainable",
        empty_instruction="refuse",
        bounds=((-0.04, 0.04),) * 2,
    )
