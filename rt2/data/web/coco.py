"""The JSON files of COCO: questions and answers (VQAv2, OKVQA), captions, and boxes.

Images are loose files. The questions' answers stand in a second file whose name follows from the
first: `[v2_]OpenEnded_mscoco_SUBSET_questions.json`, `[v2_]mscoco_SUBSET_annotations.json`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rt2.data.errors import DataError
from rt2.data.web import detection, rows, strict_json
from rt2.data.web.files import LooseImages
from rt2.data.web.table import Picture, Table

_ANNOTATED = {"caption": "captions", "bbox": "boxes"}  # what an annotation has -> the format
QUESTIONS = "_questions.json"
TOLERANCE = 1.0  # pixels that a box may reach over the edge: COCO's own do, by rounding


def describe(file: Path) -> tuple[str, str]:
    """(format, file name of the first image) of a JSON file: vqa, captions or boxes.

    Raises DataError where it is none of them.
    """
    tree = strict_json.load(file)
    members = set(tree) if isinstance(tree, dict) else set()
    if "questions" in members:
        first = next(iter(_list(tree, "questions", file)), None)
        return "vqa", question_image(first, subset(file), f"{file}: the first question")
    if {"images", "annotations"} <= members:
        pictures, about = (_list(tree, member, file) for member in ("images", "annotations"))
        fields = about[0] if about and isinstance(about[0], dict) else ()
        kinds = [kind for field, kind in _ANNOTATED.items() if field in fields]
        if pictures and kinds:
            return kinds[0], image_name(pictures[0], file)
    raise DataError(
        f"{file}: has {sorted(members)}; expected questions, or images and annotations with "
        f"{' or '.join(_ANNOTATED)}"
    )


def annotations_file(questions: Path) -> Path:
    """The file of the answers. Raises DataError where it is missing."""
    name = questions.name.replace("OpenEnded_", "").replace(QUESTIONS, "_annotations.json")
    found = questions.with_name(name)
    if not questions.name.endswith(QUESTIONS) or not found.is_file():
        raise DataError(
            f"{questions}: its answers are not at {found}. Name the files as the VQA sets do "
            "(*OpenEnded_*_questions.json, *_annotations.json); a test set has no answers to read."
        )
    return found


def subset(file: Path) -> str:
    """The subset that a file is about, as "train2014"."""
    stem = file.name.removesuffix(QUESTIONS).removesuffix(".json")
    return stem.rpartition("_")[2]


def question_image(question: Any, of: str, where: str) -> str:
    """The file name of a question's image, COCO_<subset>_%012d.jpg."""
    number = _member(question, "image_id", where)
    if type(number) is not int or number < 0:
        raise DataError(f"{where}: image_id is {number!r}, expected a number")
    return f"COCO_{of}_{number:012d}.jpg"


def fill_questions(table: Table, files: tuple[Path, ...], root: Path) -> None:
    """Adds a row for each question; every person's answer is an accepted one, in their order."""
    file, answers_of = files
    asked = _by(_list(strict_json.load(file), "questions", file), "question_id", file)
    answered = _by(
        _list(strict_json.load(answers_of), "annotations", answers_of), "question_id", answers_of
    )
    if missing := asked.keys() ^ answered.keys():
        number = min(missing, key=str)
        lacks = "answers" if number in asked else "question"
        raise DataError(
            f"{file}: {len(missing)} questions and answers do not pair; question_id {number} has "
            f"no {lacks}. Take both files from the same release."
        )
    loose, of = LooseImages(table, root), subset(file)
    places = {key: f"{file}: question {key}" for key in asked}
    names = {key: question_image(q, of, places[key]) for key, q in asked.items()}
    loose.read((names[key], places[key]) for key in asked)
    for key, question in asked.items():
        where = places[key]
        with table.one_sample():
            record = _question_record(question, answered[key], where)
            found = rows.from_record(record, table.options, where, True)
            table.sample(file.stem, str(key), loose.picture(names[key], where), found, where)


def _question_record(question: Any, annotation: Any, where: str) -> dict[str, Any]:
    images = [_member(entry, "image_id", where) for entry in (question, annotation)]
    if images[0] != images[1]:
        raise DataError(
            f"{where}: asked of image {images[0]}, answered of {images[1]}. Take both files "
            "from the same release."
        )
    asks = _member(question, "question", where)
    return {"question": asks, "answers": _given(annotation, where)}


def fill_captions(table: Table, files: tuple[Path, ...], root: Path) -> None:
    """Adds a row for each image; all of its captions are accepted answers."""
    (file,) = files
    tree = strict_json.load(file)
    pictures, about = _about_images(tree, file, ("caption",))
    loose = LooseImages(table, root)
    loose.read((image_name(p, file), f"{file}: image {key}") for key, p in pictures.items())
    for key, picture in pictures.items():
        where = f"{file}: image {key}"
        if key not in about:
            table.dropped["images without a caption"] += 1
            continue
        with table.one_sample():
            record = {"captions": [entry["caption"] for entry in about[key]]}
            found = rows.from_record(record, table.options, where, True)
            shown = loose.picture(image_name(picture, file), where)
            table.sample(file.stem, str(key), shown, found, where)


def fill_boxes(table: Table, files: tuple[Path, ...], root: Path) -> None:
    """Adds the rows of `rt2.data.web.detection` for each image with objects."""
    (file,) = files
    tree = strict_json.load(file)
    pictures, about = _about_images(tree, file, ("category_id", "bbox", "iscrowd"))
    categories = _by(_list(tree, "categories", file), "id", file)
    loose = LooseImages(table, root)
    loose.read((image_name(p, file), f"{file}: image {key}") for key, p in pictures.items())
    for key, picture in pictures.items():
        where = f"{file}: image {key}"
        with table.one_sample():
            seen = loose.picture(image_name(picture, file), where)
            _check_size(picture, seen, where)
            entries = about[key] if key in about else ()
            single = [entry for entry in entries if not entry["iscrowd"]]
            boxes = [_box(entry, seen, categories, where) for entry in single]
            if crowds := len(entries) - len(single):
                table.dropped["boxes around crowds"] += crowds
            found = detection.rows(boxes, table.options, table.dropped)
            if found:
                table.sample(file.stem, str(key), seen, found, where)
            else:
                table.dropped["images without an object to ask about"] += 1


def _check_size(picture: Any, seen: Picture, where: str) -> None:
    height, width = (_member(picture, side, where) for side in ("height", "width"))
    if (seen.height, seen.width) != (height, width):
        raise DataError(
            f"{where}: is {seen.height} x {seen.width}, the file says {height} x {width}: its "
            "boxes would be misplaced. Take the original image."
        )


def image_name(picture: Any, file: Path) -> str:
    """The file name of an entry of `images`."""
    name = _member(picture, "file_name", f"{file}: an entry of images")
    if not isinstance(name, str):
        raise DataError(f"{file}: a file_name that is not text: {name!r:.80}")
    return name


def _box(entry, picture: Picture, categories: Mapping[Any, Any], where: str) -> detection.Box:
    """A bbox [x, y, width, height] in pixels as fractions of the picture's sides."""
    if entry["category_id"] not in categories:
        raise DataError(f"{where}: a box of the unknown category {entry['category_id']!r}")
    label = _member(categories[entry["category_id"]], "name", where)
    box = entry["bbox"]
    whole = isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) for v in box)
    x, y, width, height = box if whole else (0, 0, -1, -1)
    outside = (-x, -y, x + width - picture.width, y + height - picture.height)
    if not whole or width < 0 or height < 0 or max(outside) > TOLERANCE:
        raise DataError(
            f"{where}: the box {box!r} of {label!r} is not within its {picture.height} x "
            f"{picture.width} pixels. Mend the file, or leave the box out."
        )
    sides = (picture.width, picture.height) * 2
    edges = (x, y, x + width, y + height)
    return detection.Box(
        label, *(min(max(e / s, 0.0), 1.0) for e, s in zip(edges, sides, strict=True))
    )


def _about_images(tree: Any, file: Path, fields: tuple[str, ...]) -> tuple[dict, dict]:
    """(entries of `images` by id, entries of `annotations` by image_id)."""
    pictures = _by(_list(tree, "images", file), "id", file)
    about = defaultdict(list)
    for key, entry in _by(_list(tree, "annotations", file), "id", file).items():
        if missing := [f for f in ("image_id", *fields) if f not in entry]:
            raise DataError(f"{file}: annotation {key} lacks {missing}")
        if entry["image_id"] not in pictures:
            raise DataError(f"{file}: annotation {key} is about {entry['image_id']!r}, no image")
        about[entry["image_id"]].append(entry)
    return pictures, dict(about)


def _member(entry: Any, member: str, where: str) -> Any:
    if not isinstance(entry, dict) or member not in entry:
        raise DataError(f"{where}: without {member!r}: {entry!r:.80}")
    return entry[member]


def _list(tree: Any, member: str, file: Path) -> list:
    if not isinstance(tree, dict) or member not in tree or not isinstance(tree[member], list):
        raise DataError(f"{file}: has no list {member!r}")
    return tree[member]


def _by(entries: Iterable[Any], member: str, file: Path) -> dict[Any, Any]:
    """The entries by their id. Raises DataError for a missing id or one that stands twice."""
    found: dict[Any, Any] = {}
    for entry in entries:
        if not isinstance(entry, dict) or member not in entry:
            raise DataError(f"{file}: an entry without {member!r}: {entry!r:.80}")
        key = entry[member]
        if not isinstance(key, int | str) or key in found:
            fault = "stands twice" if isinstance(key, int | str) else "is no id"
            raise DataError(f"{file}: {member} {key!r} {fault}. Copy the file again.")
        found[key] = entry
    return found


def _given(annotation: Mapping[str, Any], where: str) -> list[Any]:
    """The answers of all people."""
    answers = annotation["answers"] if "answers" in annotation else None
    if not isinstance(answers, list) or not all(
        isinstance(a, dict) and "answer" in a for a in answers
    ):
        raise DataError(f"{where}: its annotation has no list 'answers' of objects with 'answer'")
    return [answer["answer"] for answer in answers]
