import base64
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from rt2.evaluate import charts, html, video
from rt2.evaluate.report import render
from rt2.evaluate.results import CHECKPOINT, Evaluation, pooled
from rt2.evaluate.statistics import Mean, Rate
from rt2.page.html import data_uri

VOID = {"meta", "img"}
PROVENANCE = {
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "0123456789abcdef",
    "command": "python -m rt2.evaluate --checkpoint=<dir>",
    "seed": 7,
    "machine": {"cpu": "a processor", "cores": 2, "devices": "1 x cpu"},
    "versions": {"python": "3.11", "jax": "0.10.2"},
    "model": {"datasets": {"tabletop": {}}, "digest": "sha256:abc"},
}


class Page(HTMLParser):
    """Collects what a page holds and checks that its tags nest."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.sources, self.text = [], [], [], ""
        self.feed(page)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [v for k, v in attributes if k in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def row(policy, hits):
    return {
        "policy": policy,
        "task": "reach",
        "split": "web_only",
        "success": Rate(hits, 200),
        "steps": Mean.of([10.0, 12.0]),
        "actions": 4000,
        "invalid": 0,
    }


@pytest.fixture(scope="module")
def evaluation():
    frames = tuple(np.full((32, 32, 3), (shade, 0, 255), np.uint8) for shade in (0, 120, 240))
    film = video.Video(frames, "reach", "web_only", "move to the <b>key</b>", True, 2)
    where = {
        "kind": "where",
        "language": "de",
        "exact": Rate(3, 10),
        "accuracy": Mean.of([0.0, 1.0]),
        "distance": Mean.of([1.0, 2.0]),
        "unreadable": 1,
        "cider": None,
        "before": Rate(4, 10),
    }
    slot = {"name": "dx", "unit": "m", "error": Mean.of([0.1]), "baseline": Mean.of([0.2])}
    slot["histogram"] = {"edges": [-0.25, 0.0, 0.25], "recorded": [4, 1], "given": [2, 3]}
    return Evaluation(
        provenance=PROVENANCE,
        rollouts=[row(CHECKPOINT, 169), row("random", 11)],
        vqa=[where],
        actions=[
            {
                "source": "val",
                "n": 5,
                "slots": [slot],
                "worst": [{"episode": 17, "instruction": "lift <it>", "steps": 3, "error": 2.5}],
                "token_accuracy": Rate(9, 10),
                "invalid": 0,
                "false_stops": None,
                "heeded": Rate(8, 10),
            }
        ],
        videos=[film],
        metrics=[{"step": i, "loss": 1 / (i + 1), "web": {"accuracy": 0.5}} for i in range(5)],
        omitted=["nothing of weight"],
    )


def test_the_page_stands_alone(evaluation):
    page = Page(render(evaluation))
    assert "script" not in page.tags and "link" not in page.tags
    assert page.sources and all(source.startswith("data:image/webp") for source in page.sources)
    assert not re.search(r"url\(|@import", render(evaluation))


def test_the_page_shows_every_part(evaluation):
    page = Page(render(evaluation))
    for title in ("Closed loop", "Watch it", "Questions about pictures", "Training"):
        assert title in page.text
    assert page.tags.count("svg") == 4  # one task, values of dx, loss, web/accuracy
    assert "Worst episodes first" in page.text and "lift <it>" in page.text
    assert page.tags.count("figure") == 1
    for fact in ("0123456789abcdef", "a processor, 2 cores", "--checkpoint=<dir>", "sha256:abc"):
        assert fact in page.text
    assert "nothing of weight" in page.text


def test_no_rate_on_the_page_stands_without_its_count_and_interval(evaluation):
    text = Page(render(evaluation)).text
    assert "84.5 % (169/200, 95 % CI 78.8-88.9)" in text
    assert "30.0 % (3/10, 95 % CI 10.8-60.3)" in text
    assert "40.0 % (4/10, 95 % CI 16.8-68.7)" in text  # before
    assert "80.0 % (8/10, 95 % CI 49.0-94.3)" in text


def test_text_from_outside_is_escaped(evaluation):
    assert "move to the &lt;b&gt;key&lt;/b&gt;" in render(evaluation)
    assert "<b>key" not in render(evaluation)


def test_an_evaluation_without_rollouts_is_a_page_too():
    page = Page(render(Evaluation(provenance=PROVENANCE, omitted=["closed loop: nothing"])))
    assert "closed loop: nothing" in page.text and "Closed loop" not in page.text


def test_json_has_counts_and_intervals_and_no_pictures(evaluation):
    written = json.loads(json.dumps(evaluation.to_json()))
    success = written["rollouts"][0]["success"]
    assert success["n"] == 200 and success["interval"] == pytest.approx([0.7884, 0.8886], abs=1e-4)
    assert "videos" not in written and written["provenance"]["seed"] == 7


def test_lines_carry_counts_intervals_and_invalid_actions(evaluation):
    lines = "\n".join(evaluation.lines())
    assert "84.5 % (169/200, 95 % CI 78.8-88.9)  invalid actions 0 of 4000" in lines
    assert "1 answers are no place" in lines
    assert "val, L1 of dx" in lines and "0.1 (n=1) m" in lines
    for line in lines.splitlines():
        assert "%" not in line or "95 % CI" in line


def test_a_film_keeps_its_frames_and_colours():
    frames = [np.full((32, 32, 3), (250, 60, 0), np.uint8)] * 2
    frames.append(np.full((32, 32, 3), (0, 60, 250), np.uint8))
    uri = data_uri(video.webp(frames), "image/webp")
    data = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    done, animation = cv2.imdecodeanimation(data)
    assert done and list(animation.durations)[-1] == video.LAST_FRAME_MS
    last = animation.frames[-1][..., :3].reshape(-1, 3).mean(axis=0)  # BGR
    np.testing.assert_allclose(last, (250, 60, 0), atol=20)


def test_frames_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        video.webp([np.zeros((4, 4, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)])


def test_a_curve_breaks_at_nan_and_refuses_nothing_at_all():
    drawn = charts.curve([0, 1, 2, 3], [3.0, float("nan"), 2.0, 1.0], "loss")
    assert re.search(r'class="line" d="([^"]*)"', drawn)[1].count("M") == 2
    with pytest.raises(ValueError, match="'loss' has no finite value"):
        charts.curve([0], [float("nan")], "loss")


def test_a_histogram_is_as_high_as_its_counts():
    drawn = charts.histograms([0, 1, 2], [("recorded", [4, 0]), ("given", [2, 1])], "dx")
    # cells from x 4 to 336, the highest count from y 148 up to 30
    assert 'class="recorded" d="M4 148L4.0 30.0L170.0 30.0L170.0 148.0L336.0 148.0' in drawn
    assert 'class="given" d="M4 148L4.0 89.0L170.0 89.0L170.0 118.5' in drawn


def test_bars_are_as_long_as_their_rates():
    drawn = charts.interval_bars([charts.Bar("seen", "random", Rate(50, 100), "reference")], "t")
    width = float(re.search(r'class="bar".*? width="([\d.]+)"', drawn)[1])
    assert width == pytest.approx((720 - 60 - 190) / 2)


def test_pooling_adds_trials():
    assert pooled([Rate(1, 2), Rate(3, 10)]) == Rate(4, 12)


def test_a_bare_number_has_no_place_in_a_table():
    with pytest.raises(TypeError, match="not float"):
        html.table(["rate"], [[0.5]])
