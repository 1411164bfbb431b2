"""Episodes as a recording for the rerun viewer (rerun.io), which plays them on a timeline.

Writing one sends nothing; the viewer reports its usage unless `rerun analytics disable` was run.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

from rt2.data.errors import DataError
from rt2.data.inspect.survey import examples
from rt2.data.rlds import RldsSteps
from rt2.data.robot import RobotExamples

EPISODES = 10  # of the first split
JPEG = b"\xff\xd8"


def write(path: Path, found: dict[str, Any]) -> None:
    """Writes the first episodes of the first split of what `survey` has found as `path` (.rrd).

    Timelines: `step` runs over all episodes, `episode` counts them. Entities: `camera/<feature>`
    (the bytes of the data set), `action/<slot>`, `state/<i>`, `instruction` and `terminate`. A step
    that is not trained on has only pictures. Raises DataError where rerun is not installed or the
    split cannot be trained on.
    """
    rerun = _rerun()
    split = next(iter(found["splits"]))
    if "bins" not in found["splits"][split]:
        raise DataError(f"no recording: {found['splits'][split]['refused']}")
    shown = examples(found, split)
    recording = rerun.RecordingStream(f"rt2_{found['name']}_{split}")
    recording.save(path)
    _episodes(rerun, recording, shown, found["cameras"])
    recording.flush()
    recording.disconnect()


def _rerun() -> ModuleType:
    try:
        import rerun
    except ImportError:
        raise DataError(
            "--rerun needs the rerun SDK, the extra `inspect` of this package: "
            ".venv/bin/pip install rerun-sdk"
        ) from None
    return rerun


def _episodes(rerun: ModuleType, recording, shown: RobotExamples, cameras: list[str]) -> None:
    starts, clock = shown.episode_starts, 0
    for i in range(min(EPISODES, shown.episodes)):
        first, end = int(starts[i]), int(starts[i + 1])
        trained = {shown.row(j): j for j in range(first, end)}
        episode, _ = shown.steps.position(shown.row(first))
        begin, stop = map(int, shown.steps.split.column("episode.first")[episode : episode + 2])
        for row in range(begin, stop):
            recording.set_time("step", sequence=clock)
            recording.set_time("episode", sequence=episode)
            _pictures(rerun, recording, shown.steps, cameras, row)
            if row in trained:
                _numbers(rerun, recording, shown, trained[row])
            clock += 1


def _pictures(rerun: ModuleType, recording, steps: RldsSteps, cameras: list[str], row: int) -> None:
    for camera in cameras:
        data = steps.encoded(camera, row)
        kind = "image/jpeg" if data.startswith(JPEG) else "image/png"
        picture = rerun.EncodedImage(contents=data, media_type=kind)
        recording.log(f"camera/{camera}", picture)


def _numbers(rerun: ModuleType, recording, shown: RobotExamples, i: int) -> None:
    example = shown[i]
    for slot, value in zip(shown.spec.action_spec.continuous, example.action, strict=True):
        recording.log(f"action/{slot.name}", rerun.Scalars(float(value)))
    for number, value in enumerate([] if example.state is None else example.state):
        recording.log(f"state/{number}", rerun.Scalars(float(value)))
    recording.log("terminate", rerun.Scalars(float(example.terminate)))
    text = f"episode {example.episode}, step {example.step}: {example.instruction}"
    recording.log("instruction", rerun.TextDocument(text))
