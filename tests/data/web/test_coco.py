"""VQAv2, OKVQA and COCO JSON files, against the plain json module."""

import json

import cv2
import numpy as np
import pytest

from rt2.data import image
from rt2.data.errors import DataError
from rt2.data.vqa import WebExamples
from rt2.data.web.options import Options

QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"


def jpeg(height, width):
    pixels = np.random.default_rng(height).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


class Vqa:
    """Two questions about image 7 and one about image 12, each with ten answers."""

    def __init__(self, folder, write):
        self.folder, self.write = folder, write
        asked = [(7, 70, "what, \n now?"), (12, 120, "où?"), (7, 71, "is it red?")]
        self.questions = {
            "data_subtype": "val2014",
            "questions": [
                {"image_id": i, "question_id": q, "question": text} for i, q, text in asked
            ],
        }
        people = [["yes"] * 6 + ["no"] * 3 + [""], ["a, b"] * 10, [str(n) for n in range(10)]]
        self.annotations = {
            "annotations": [
                {
                    "image_id": image_id,
                    "question_id": question_id,
                    "question_type": "what",
                    "answer_type": "other",
                    "multiple_choice_answer": said[0],
                    "answers": [
                        {"answer": a, "answer_confidence": "yes", "answer_id": n + 1}
                        for n, a in enumerate(said)
                    ],
                }
                for (image_id, question_id, _), said in zip(asked, people, strict=True)
            ][::-1]  # the order of the answers is not that of the questions
        }

    def save(self, questions=QUESTIONS, annotations=ANNOTATIONS):
        self.write.json(self.folder / questions, self.questions)
        self.write.json(self.folder / annotations, self.annotations)
        return self.folder / questions


@pytest.fixture
def vqa(tmp_path, write):
    folder = tmp_path / "val2014"
    folder.mkdir()
    for number in (7, 12):
        (folder / f"COCO_val2014_{number:012d}.jpg").write_bytes(jpeg(number, 9))
    return Vqa(tmp_path, write)


@pytest.mark.parametrize("prefix", ["v2_", ""])
def test_questions_answers_and_images(vqa, prefix):
    path = vqa.save(QUESTIONS.replace("v2_", prefix), ANNOTATIONS.replace("v2_", prefix))
    examples = WebExamples(path)
    questions = json.loads(path.read_text())["questions"]
    answers = {
        a["question_id"]: [p["answer"] for p in a["answers"]]
        for a in vqa.annotations["annotations"]
    }
    assert len(examples) == 3
    for i, asked in enumerate(questions):
        found = examples[i]
        assert found.question == f"Answer in en : {asked['question']}"
        assert found.answers == tuple(filter(None, answers[asked["question_id"]]))
        file = vqa.folder / "val2014" / f"COCO_val2014_{asked['image_id']:012d}.jpg"
        np.testing.assert_array_equal(found.image, image.decode(file.read_bytes()))
        assert found.example_id == f"{path.stem}/{asked['question_id']}/0"
        assert (found.kind, found.language) == ("vqa", "en")
    assert examples[0].counts == {"yes": 6, "no": 3}
    assert examples.dropped == {"empty answers beside others": 1}


def test_images_elsewhere(vqa, tmp_path):
    path = vqa.save()
    (tmp_path / "val2014").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="'COCO_val2014_000000000007.jpg' is in none of"):
        WebExamples(path)
    examples = WebExamples(path, options=Options(images=str(tmp_path / "elsewhere")))
    assert examples[0].image.shape == (7, 9, 3)
    with pytest.raises(DataError, match="no such folder"):
        WebExamples(path, options=Options(images=str(tmp_path / "nowhere")))


def change(entries, i, **changes):
    entries[i].update(changes)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda q, a: q.pop(), "1 questions and answers do not pair; question_id 71 has no que"),
        (lambda q, a: a.pop(), "question_id 70 has no answers"),
        (lambda q, a: q.append(q[0]), "question_id 70 stands twice"),
        (lambda q, a: a.append(a[0]), "question_id 71 stands twice"),
        (lambda q, a: change(q, 1, image_id=7), "question 120: asked of image 7, answered of 12"),
        (lambda q, a: change(q, 1, image_id="7"), "image_id is '7'"),
        (lambda q, a: change(q, 1, question=" "), "question 120: 'question' is missing, empty"),
        (
            lambda q, a: change(q, 1, question=None),
            "question 120: 'question' is missing, empty or not",
        ),
        (lambda q, a: change(a, 1, answers=[]), "question 120: .*no answer"),
        (lambda q, a: change(a, 1, answers=[{"answer": ""}]), "no answer but the empty"),
        (lambda q, a: change(a, 1, answers=["yes"]), "no list 'answers'"),
        (lambda q, a: a[1].pop("image_id"), "without 'image_id'"),
        (lambda q, a: q[1].pop("question_id"), "an entry without 'question_id'"),
    ],
)
def test_faults_of_the_questions_are_named(vqa, damage, words):
    damage(vqa.questions["questions"], vqa.annotations["annotations"])
    with pytest.raises(DataError, match=words) as caught:
        WebExamples(vqa.save())
    assert "json" in str(caught.value)


def test_missing_answers_and_images(vqa, tmp_path):
    path = vqa.save()
    (tmp_path / "val2014" / "COCO_val2014_000000000012.jpg").unlink()
    with pytest.raises(DataError, match="question 120: the image 'COCO_val2014_000000000012.jpg'"):
        WebExamples(path)
    (tmp_path / ANNOTATIONS).unlink()
    with pytest.raises(DataError, match="its answers are not at .*v2_mscoco_val2014_annot"):
        WebExamples(path)


@pytest.fixture
def coco(tmp_path, write):
    """Writes instances or captions about three images; the file's tree may be changed first."""
    (tmp_path / "train2017").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "train2017" / f"{number:012d}.jpg").write_bytes(jpeg(40, 100))
    pictures = [
        {"id": n, "file_name": f"{n:012d}.jpg", "height": 40, "width": 100} for n in (1, 2, 3)
    ]

    def save(name, annotations, damage=lambda tree: None, **more):
        tree = {"images": pictures, "annotations": annotations, **more}
        damage(tree)
        return write.json(tmp_path / "annotations" / name, tree)

    return save


def caption(number, image_id, text):
    return {"id": number, "image_id": image_id, "caption": text}


def test_all_captions_of_an_image_are_accepted(coco):
    said = [caption(5, 2, "a dog"), caption(6, 1, "a fox"), caption(7, 2, "one dog,\nü")]
    examples = WebExamples(coco("captions_train2017.json", said))
    assert [examples.text(i) for i in range(len(examples))] == [
        ("Generate caption in en", ("a fox",)),
        ("Generate caption in en", ("a dog", "one dog,\nü")),
    ]
    assert examples.dropped == {"images without a caption": 1}
    assert examples[1].example_id == "captions_train2017/2/0"
    assert examples[1].image.shape == (40, 100, 3)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([caption(1, 1, "a"), caption(1, 2, "b")], "id 1 stands twice"),
        ([caption(1, 1, "a"), caption(2, 9, "b")], "annotation 2 is about 9, no image"),
        ([caption(1, 1, "")], "image 1: no answer but the empty"),
        ([caption(1, 1, "a"), {"id": 2, "image_id": 2}], r"annotation 2 lacks \['caption'\]"),
    ],
)
def test_faults_of_captions_are_named(coco, said, words):
    with pytest.raises(DataError, match=words):
        WebExamples(coco("captions_train2017.json", said))


CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "traffic light"}]


def box(number, image_id, category, bbox, crowd=0):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "bbox": bbox,
        "iscrowd": crowd,
    }


def test_boxes_become_integers(coco):
    boxes = [
        box(1, 1, 18, [50, 10, 50, 30]),
        box(2, 1, 1, [0, 0, 10.0, 20]),
        box(3, 1, 18, [20, 0, 20, 40.4]),
        box(4, 1, 18, [0, 0, 100, 40], crowd=1),
        box(5, 3, 18, [0, 0, 100, 40], crowd=1),
    ]
    path = coco("instances_train2017.json", boxes, categories=CATEGORIES)
    examples = WebExamples(path, options=Options(grid=100))
    rows = [examples[i] for i in range(len(examples))]
    assert [(r.kind, r.question.removeprefix("Answer in en : "), r.answers) for r in rows] == [
        ("where", "where is the traffic light", ("5 25",)),
        ("where", "where is the dog", ("30 50", "75 62")),
        ("what", "what is at 5 25", ("traffic light",)),
        ("what", "what is at 30 50", ("dog",)),
        ("list", "list every object", ("5 25 traffic light 30 50 dog 75 62 dog",)),
        ("detect", "detect every traffic light", ("0 0 10 50 traffic light",)),
        ("detect", "detect every dog", ("20 0 40 99 dog 50 25 99 99 dog",)),
    ]
    assert examples.dropped == {
        "boxes around crowds": 2,
        "images without an object to ask about": 2,
    }
    few = WebExamples(path, options=Options(max_objects=1, detection=("list", "detect")))
    assert [few.text(i)[1] for i in range(len(few))] == [("0 0 100 500 traffic light",)]
    assert few.dropped["list rows of more than 1 objects"] == 1
    assert few.dropped["detect rows of more than 1 objects"] == 1


@pytest.mark.parametrize(
    ("boxes", "damage", "words"),
    [
        ([box(1, 1, 18, [90, 0, 12, 9])], lambda t: None, r"image 1: the box \[90, 0, 12, 9\]"),
        ([box(1, 1, 18, [-2, 0, 12, 9])], lambda t: None, "is not within"),
        ([box(1, 1, 18, [0, 0, -1, 9])], lambda t: None, "is not within"),
        ([box(1, 1, 18, [0, 0, 9])], lambda t: None, "is not within"),
        ([box(1, 1, 18, [0, 0, 9, "9"])], lambda t: None, "is not within"),
        ([box(1, 1, 2, [0, 0, 9, 9])], lambda t: None, "unknown category 2"),
        (
            [box(1, 1, 18, [0, 0, 9, 9])],
            lambda t: change(t["images"], 1, height=41),
            "image 2: is 40 x 100, the file says 41 x 100: its boxes would be misplaced",
        ),
        (
            [box(1, 1, 18, [0, 0, 9, 9])],
            lambda t: t["images"][2].pop("file_name"),
            "without 'file_name'",
        ),
    ],
)
def test_faults_of_boxes_are_named(coco, boxes, damage, words):
    path = coco("instances_train2017.json", boxes, damage, categories=CATEGORIES)
    with pytest.raises(DataError, match=words):
        WebExamples(path)
