"""The `--config` flag, shared by the commands that read a config."""

import os
import sys

from absl import flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)


def parse(argv: list[str]) -> list[str]:
    """Flags as absl parses them, with one line instead of a traceback for an unknown knob."""
    sys.path.insert(0, os.getcwd())  # config files import configs.common
    try:
        return flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError) as error:
        reason = str(error).strip().replace("\\n", " ")
        sys.exit(f"{argv[0]}: {reason}\nEvery knob is declared in configs/common.py.")
