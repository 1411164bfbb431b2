"""python -m rt2.train --config=FILE --workdir=DIR [--config.a.b=value ...]"""

import logging
import pathlib
import sys

from absl import app, flags

from rt2.errors import UserError
from rt2.train.commandline import CONFIG, parse

_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints and figures go.")


def main(argv: list[str]) -> None:
    """Trains; a mistake in the config or the data ends with one clear error."""
    if len(argv) > 1 or CONFIG.value is None or _WORKDIR.value is None:
        sys.exit(f"usage: {__doc__}")
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s", force=True)
    logging.getLogger("absl").setLevel(logging.WARNING)
    from rt2.train import loop  # imports jax, which a wrong flag need not wait for

    workdir = pathlib.Path(_WORKDIR.value)
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        loop.train(CONFIG.value, workdir)
    except UserError as error:
        sys.exit(f"rt2.train: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
