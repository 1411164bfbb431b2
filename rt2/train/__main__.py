"""python -m rt2.train --config=FILE --workdir=DIR [--config.a.b=value ...]"""

import logging
import os
import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags

from rt2.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to train.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints and figures go.")


def _parse(argv: list[str]) -> list[str]:
    """Flags as absl parses them, with one line instead of a traceback for an unknown knob."""
    sys.path.insert(0, os.getcwd())  # configs import configs.common
    try:
        return flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError) as error:
        sys.exit(f"rt2.train: {str(error).strip()}\nEvery knob is declared in configs/common.py.")


def main(argv: list[str]) -> None:
    """Trains; a mistake in the config or the data ends with one clear error."""
    if len(argv) > 1 or _CONFIG.value is None or _WORKDIR.value is None:
        sys.exit(f"usage: {__doc__}")
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s", force=True)
    logging.getLogger("absl").setLevel(logging.WARNING)
    from rt2.train import loop  # imports jax, which a wrong flag need not wait for

    workdir = pathlib.Path(_WORKDIR.value)
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        loop.train(_CONFIG.value, workdir)
    except UserError as error:
        sys.exit(f"rt2.train: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
