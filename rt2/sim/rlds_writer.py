"""Writes the TFDS data sets: `tabletop` in RLDS form and `web_vqa` in the form of TFDS's `vqa`.

The only module of the simulator that imports TensorFlow.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # its start-up notes say nothing about the data

import numpy as np  # noqa: E402
import tensorflow_datasets as tfds  # noqa: E402

from rt2.sim import demonstrations  # noqa: E402

ANNOTATORS = 10  # VQA keeps ten answers a question; here all ten agree
_CREDIT = "Pictures: OpenMoji (https://openmoji.org), CC BY-SA 4.0."

Records = Iterable[tuple[str, dict[str, Any]]]


class _Writer(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder whose examples are handed to it: split -> (key, example) pairs."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos: dict[
        str, Any
    ] = {}  # nothing is downloaded; TFDS would look for a list beside this file

    def __init__(
        self, data_dir: pathlib.Path, image_size: int, splits: Mapping[str, Records]
    ) -> None:
        self._image = tfds.features.Image(shape=(image_size, image_size, 3), encoding_format="jpeg")
        self._splits = splits
        super().__init__(data_dir=data_dir)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {name: self._generate_examples(records) for name, records in self._splits.items()}

    def _generate_examples(self, records: Records) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from records

    def _described(self, description: str, features: dict[str, Any]) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{description} {_CREDIT}",
            features=tfds.features.FeaturesDict(features),
            license="CC BY-SA 4.0",
        )


class Tabletop(_Writer, skip_registration=True):
    """Oracle episodes on the embedded tabletop."""

    def _info(self) -> tfds.core.DatasetInfo:
        text, flag = tfds.features.Text(), np.bool_
        pair = tfds.features.Tensor(shape=(2,), dtype=np.float32)
        step = {
            "observation": {"rgb": self._image, "effector_position": pair},
            "action": pair,
            "instruction": text,
            "reward": np.float32,
            "discount": np.float32,
            "is_first": flag,
            "is_last": flag,
            "is_terminal": flag,
        }
        metadata = dict.fromkeys(("task", "target", "place", "episode_id"), text)
        metadata["seed"] = np.int64
        return self._described(
            "Scripted episodes of reaching and pushing pictograms on a board, in RLDS form. "
            "Actions are displacements of the effector's target in metres; an episode's last step "
            "holds the final observation, and its action is not to be learnt.",
            {"steps": tfds.features.Dataset(step), "episode_metadata": metadata},
        )


class WebVqa(_Writer, skip_registration=True):
    """Questions about pictures of pictograms, one record a question."""

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        return self._described(
            "Questions and answers about pictures of pictograms, in the form of TFDS's vqa.",
            {
                "image": self._image,
                "image/id": np.int64,
                "image/filename": text,
                "question_id": np.int64,
                "question_type": text,
                "question_text": text,
                "answer_type": text,
                "answers": tfds.features.Sequence(text),
                "answer_confidences": tfds.features.Sequence(text),
                "top_answer": text,
            },
        )


def write(
    builder: type[_Writer], data_dir: pathlib.Path, image_size: int, splits: Mapping[str, Records]
) -> None:
    """Writes data_dir/NAME/1.0.0 with these splits."""
    tfds.disable_progress_bar()  # the records bring their own
    settings = tfds.download.DownloadConfig(try_download_gcs=False)
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS tells of a download; there is none
        builder(data_dir, image_size, splits).download_and_prepare(download_config=settings)


def episode_record(episode: demonstrations.Episode) -> tuple[str, dict[str, Any]]:
    """Returns an episode's key and its RLDS example."""
    last = len(episode.steps) - 1
    steps = [
        {
            "observation": {"rgb": step.rgb, "effector_position": step.effector_position},
            "action": step.action,
            "instruction": episode.instruction,
            "reward": step.reward,
            "discount": float(i < last),
            "is_first": i == 0,
            "is_last": i == last,
            "is_terminal": i == last,
        }
        for i, step in enumerate(episode.steps)
    ]
    names = ("task", "target", "place", "episode_id", "seed")
    return episode.episode_id, {
        "steps": steps,
        "episode_metadata": {name: getattr(episode, name) for name in names},
    }


def question_records(
    image_id: int, jpeg: bytes, qa: Iterable[Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Returns the keys and vqa examples of a picture's rows (rt2.sim.questions.Row)."""
    return [
        (
            f"{image_id:08d}-{i:03d}",
            {
                "image": jpeg,
                "image/id": image_id,
                "image/filename": f"{image_id:08d}.jpg",
                "question_id": image_id * 1000 + i,
                "question_type": row.kind,
                "question_text": row.question,
                "answer_type": row.language,
                "answers": [row.answer] * ANNOTATORS,
                "answer_confidences": ["yes"] * ANNOTATORS,
                "top_answer": row.answer,
            },
        )
        for i, row in enumerate(qa)
    ]
