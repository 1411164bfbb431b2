"""Image-text examples: one item for every (image, question) of tar shards or a TFDS `vqa` set."""

import functools
from pathlib import Path

from rt2.data import image, tar_shards
from rt2.data.errors import DataError
from rt2.data.records import WEB_KINDS, WebExample
from rt2.data.rlds import RldsSteps
from rt2.data.shard_files import ShardFiles

VQA_FEATURES = ("image", "question_text", "question_type", "answer_type")


class WebExamples:
    """`examples[i]` is a WebExample. Immutable, picklable, safe under threads and forks.

    `path`: the version directory of a TFDS set in the form of `vqa` (needs `split`), or WebDataset
    tars (a file, a directory or a glob; `split` keeps the tars named `*-<split>-*`).
    The index is built on first use. Raises DataError where the data are not whole.
    """

    def __init__(self, path: Path | str, split: str | None = None):
        if (Path(path) / "features.json").is_file():
            if split is None:
                raise DataError(f"{path}: a TFDS data set needs a split")
            self._rows: _TfdsRows | _TarRows = _TfdsRows(Path(path), split)
        else:
            self._rows = _TarRows(tar_shards.find(path, split))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> WebExample:
        if not 0 <= i < len(self):
            raise IndexError(f"example {i} of {len(self)}")
        return self._rows.example(i)

    def text(self, i: int) -> tuple[str, tuple[str, ...]]:
        """(question, answers) of example `i`; its image is not read."""
        return self._rows.text(i)

    @property
    def content_hash(self) -> str:
        """The hash of the index that the examples are read through."""
        return self._rows.content_hash


class _TfdsRows:
    def __init__(self, directory: Path, split: str):
        self.steps = RldsSteps(directory, split)
        if self.steps.index.features.episodic:
            raise DataError(f"{directory}: is a set of episodes; read it with rt2.data.robot")
        for name in VQA_FEATURES:
            self.steps.leaf(name)
        ragged = {leaf.name: leaf for leaf in self.steps.index.features.at("ragged")}
        if "answers" not in ragged:
            raise DataError(f"{directory}: has no sequence 'answers'; it is not in the vqa form")
        self.answers = ragged["answers"]

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def content_hash(self) -> str:
        return self.steps.index.content_hash

    def text(self, i: int) -> tuple[str, tuple[str, ...]]:
        question = self.steps.value("question_text", i).decode()
        return question, tuple(a.decode() for a in self.steps.ragged(self.answers, i))

    def example(self, i: int) -> WebExample:
        """Row `i`; a `question_type` of the public VQA sets becomes kind "vqa", language "en"."""
        where = self.steps.example_id(i)
        kind, language = (self.steps.value(n, i).decode() for n in ("question_type", "answer_type"))
        if kind not in WEB_KINDS:
            kind, language = "vqa", "en"
        question, answers = self.text(i)
        return WebExample(
            image=image.decode(self.steps.encoded("image", i), where),
            kind=kind,
            language=language,
            question=question,
            answers=answers,
            example_id=where,
        )


class _TarRows:
    def __init__(self, tars: list[Path]):
        self.tars = tars
        self.index = tar_shards.load(tars)
        self.files = ShardFiles(tars[0].parent, tuple(tar.name for tar in tars))

    def __len__(self) -> int:
        return len(self.index.column("row.image"))

    @property
    def content_hash(self) -> str:
        return self.index.content_hash

    @functools.cached_property
    def strings(self):
        return self.index.strings("strings")

    def text(self, i: int) -> tuple[str, tuple[str, ...]]:
        column = self.index.column
        begin, end = column("row.first_answer")[i : i + 2]
        answers = tuple(self.strings[a] for a in column("answer.id")[begin:end])
        return self.strings[column("row.question")[i]], answers

    def example(self, i: int) -> WebExample:
        column = self.index.column
        picture = int(column("row.image")[i])
        shard, offset, length, crc, first, key = (
            int(column(f"image.{name}")[picture])
            for name in ("shard", "offset", "length", "crc", "first_row", "key")
        )
        where = f"{self.tars[shard].stem}/{self.strings[key]}/{i - first}"
        data = self.files.read(shard, offset, length, crc, where)
        kind, language = (self.strings[column(f"row.{name}")[i]] for name in ("kind", "language"))
        question, answers = self.text(i)
        return WebExample(
            image=image.decode(data, where),
            kind=kind,
            language=language,
            question=question,
            answers=answers,
            example_id=where,
        )
