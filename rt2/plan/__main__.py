"""python -m rt2.plan --config=FILE --topology=v4:4x4x4: what a config needs on a slice.

Compiles the trainer's own step, the policy's decoding and the start of a run for a topology that is
not there (v4, v5e, v5p, v6e: sides of the torus; h100, h200, b200: HOSTSxGPUS) and says what they
keep, compute and send; with --serve, what one action for a robot needs. Without the compilers
(pip install -e ".[plan]") or with --quick it counts parameters, gradients and optimizer from
abstract shapes alone.
"""

import json
import logging
import pathlib
import sys

from absl import app, flags

from rt2.errors import UserError
from rt2.plan import compiler
from rt2.plan.chips import parse_topology
from rt2.plan.lines import lines
from rt2.plan.page import page
from rt2.train.commandline import CONFIG, parse

_TOPOLOGY = flags.DEFINE_string("topology", "v4:4x4x4", "CHIP:AxBxC, or CHIP:HOSTSxGPUS.")
_PROGRAMS = flags.DEFINE_list("programs", ["train", "decode", "start"], "What to compile.")
_QUICK = flags.DEFINE_bool("quick", False, "Count from shapes alone, compile nothing.")
_SERVE = flags.DEFINE_bool("serve", False, "Plan one action for a robot, not a training run.")
_JSON = flags.DEFINE_string("json", None, "Write the figures here.")
_HTML = flags.DEFINE_string("html", None, "Write a page with charts here.")


def main(argv: list[str]) -> None:
    """Prints the plan, and writes it where asked."""
    if len(argv) > 1 or CONFIG.value is None:
        sys.exit(f"usage: {__doc__}")
    logging.getLogger("rt2").setLevel(logging.INFO)
    try:
        plan = _plan()
    except UserError as error:
        sys.exit(f"rt2.plan: {error}")
    print("\n".join(lines(plan)))
    if _JSON.value:
        pathlib.Path(_JSON.value).write_text(json.dumps(plan, indent=1) + "\n")
    if _HTML.value:
        pathlib.Path(_HTML.value).write_text(page(plan))


def _plan() -> dict:
    topology = parse_topology(_TOPOLOGY.value)
    compiler.prepare_environment()
    from rt2.plan import planning, serving  # after the environment that the compilers read

    if _QUICK.value or not compiler.has_compiler(topology):
        if not _QUICK.value:
            print(
                f"No compiler for {topology.chip.name} is installed; counting from shapes alone. "
                'For the whole plan: pip install -e ".[plan]"'
            )
        return planning.quick_plan(CONFIG.value, topology)
    if _SERVE.value:
        return serving.serving_plan(CONFIG.value, topology)
    return planning.full_plan(CONFIG.value, topology, tuple(_PROGRAMS.value))


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
