"""The page of `--ui`: what it may ask, who may ask, and that it works in a browser."""

import importlib.util
import json
import random
import re
import urllib.request
from collections import Counter

import numpy as np
import pytest

from rt2.inference import json_numpy, serve
from rt2.inference.access import ServeError
from rt2.inference.wire import WireError
from rt2.playground.playground import FRAME, Episode, Scene
from rt2.sim.tabletop import TabletopEnv
from tests.inference.serving import StubPolicy, always, get, http, post, serving
from tests.playground.chromium import tab

KEYS = [("ask", "q" * 16), ("act", "k" * 16)]
SCENE = {"seed": 5, "task": "reach", "split": "seen"}
MOVES = np.array([[0.03, -0.01], [0.02, 0.04]])


class Pusher(StubPolicy):
    """Goes right and down, is sure of it, and talks or ends where it is told to."""

    def __init__(self):
        super().__init__()
        axes = {"slots": ["dx", "dy"], "units": ["m", "m"], "low": [-0.04] * 2, "high": [0.04] * 2}
        table = axes | {"relative": [True, True], "state_low": []}
        self.metadata |= {"dataset": "tabletop", "datasets": {"tabletop": table}}
        self.metadata |= {"decoding": {}, "image_size": 40, "history": 2}
        self.seen = []

    def move(self, observation):
        self.seen.append(observation)
        if observation.get("mode") == "vqa":
            return {"text": "a <b>fox</b>", "log_prob": -1.0, "timing": {"decode_ms": 2.0}}
        words = observation["instruction"]
        spread = np.eye(21, dtype=np.float32)[[15, 13]]
        return super().move(observation) | {
            "actions": np.array([[0.02, 0.01]], np.float32),
            "text": "15 13",
            "terminate": words == "end",
            **({"hold": True, "allowed_mass": 0.25} if words == "talk" else {}),
            **({"probabilities": list(spread)} if observation.get("probabilities") else {}),
        }


@pytest.fixture(scope="module")
def pusher():
    return Pusher()


@pytest.fixture(scope="module")
def served(pusher):
    with serving(always(pusher), ui=True) as running:
        yield running


def asked(served, path, body, headers=None):
    """Status and told of a page's request."""
    status, told, _ = post(served.rest, json_numpy.dumps(body).encode(), path, headers)
    return status, json.loads(told)


def scene(moves=None, **more):
    return SCENE | ({} if moves is None else {"moves": moves}) | more


def test_a_scene_is_its_seed_and_its_moves(served):
    env = TabletopEnv(pool=None, image_size=40)
    seen, _ = env.reset(seed=5)
    status, told = asked(served, "/ui/scene", scene())
    assert status == 200 and told["instruction"] == seen["instruction"] and told["steps"] == 0
    for move in MOVES:
        env.step(move)
    _, later = asked(served, "/ui/scene", scene(MOVES))
    np.testing.assert_allclose(later["track"][-1], env.state.effector / 0.6, atol=1e-4)
    assert len(later["track"]) == 3 and later["steps"] == 2
    assert later["picture"] != told["picture"] and later["picture"].startswith("data:image/png")


def test_the_policy_sees_the_scene_and_its_move_is_made(served, pusher):
    status, told = asked(served, "/ui/ask", {"scene": scene(MOVES), "text": "go", "mode": "action"})
    assert status == 200 and told["steps"] == 3 and len(told["track"]) == 4
    assert told["actions"] == [[pytest.approx(0.02), pytest.approx(0.01)]]
    assert np.argmax(told["probabilities"], 1).tolist() == [15, 13]
    assert set(told["times_ms"]) == {"simulator", "queue", "preprocess", "decode"}
    seen = pusher.seen[-1]
    played = Episode(Scene.read(scene(MOVES)), 40)
    np.testing.assert_array_equal(np.stack(seen["image"]), np.stack(played.pictures[-2:]))
    assert seen["dataset"] == "tabletop" and seen["instruction"] == "go"
    _, after = asked(served, "/ui/scene", scene(np.array([*MOVES, told["actions"][0]])))
    assert after["picture"] == told["picture"]


@pytest.mark.parametrize("words", ["talk", "end"])
def test_nothing_moves_where_the_policy_holds_or_ends(served, words):
    _, told = asked(served, "/ui/ask", {"scene": scene(MOVES), "text": words, "mode": "action"})
    assert told["steps"] == 2 and told["terminate"] == (words == "end")
    assert told.get("hold", False) == (words == "talk")


def test_an_image_of_a_user_and_a_question(served, pusher):
    image = np.full((30, 50, 3), 9, np.uint8)
    _, told = asked(served, "/ui/ask", {"image": image, "text": "go", "mode": "action"})
    assert told["probabilities"] and "picture" not in told
    [frame] = pusher.seen[-1]["image"]  # of a history that begins here
    np.testing.assert_array_equal(frame, image)
    _, told = asked(served, "/ui/ask", {"image": image, "text": "what is it", "mode": "vqa"})
    assert told["text"] == "a <b>fox</b>" and "probabilities" not in pusher.seen[-1]


BAD = {
    "no map": ([], "expected a map"),
    "two pictures": ({"scene": SCENE, "image": np.zeros((2, 2, 3), np.uint8)}, "one of them"),
    "unknown": ({"scene": SCENE, "path": "/etc/passwd"}, "path"),
    "seed": ({"scene": SCENE | {"seed": -1}}, "seed"),
    "task": ({"scene": SCENE | {"task": ["reach"]}}, "task"),
    "split": ({"scene": SCENE | {"split": "load"}}, "split"),
    "far": ({"scene": SCENE | {"moves": np.full((1, 2), 0.05)}}, "moves: action"),
    "NaN": ({"scene": SCENE | {"moves": np.full((1, 2), np.nan)}}, "moves: action"),
    "many": ({"scene": SCENE | {"moves": np.zeros((31, 2))}}, "moves"),
    "shape": ({"scene": SCENE | {"moves": np.zeros((2, 2, 2))}}, "moves"),
    "no text": ({"scene": SCENE}, "instruction"),
    "mode": ({"scene": SCENE, "text": "x", "mode": "root"}, "mode"),
    "bidi": ({"scene": SCENE, "text": "\u202e"}, "instruction"),
    "image": ({"image": np.zeros((2, 2), np.uint8), "text": "x"}, "image"),
}


@pytest.mark.parametrize("body, reason", BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_refused_by_name(served, body, reason):
    status, told = asked(served, "/ui/ask", body)
    assert (status, told["code"]) == (400, "bad_request") and reason in told["message"]


def test_an_episode_that_is_over_takes_no_more_moves(served):
    body = {"scene": scene(np.zeros((30, 2))), "text": "go", "mode": "action"}
    status, told = asked(served, "/ui/ask", body)
    assert status == 409 and "is over" in told["message"]


def test_hostile_messages_are_refused_like_any_others(served, project):
    path = project / "experiments" / "serving" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", path)
    spec.loader.exec_module(fuzz := importlib.util.module_from_spec(spec))
    rng, codes = random.Random(0), Counter()
    for number in range(400):
        body = {"scene": scene(MOVES), "text": "go", "mode": rng.choice(["action", "vqa"])}
        place = rng.choice([body, body["scene"]])
        place[rng.choice([*place, "else"])] = rng.choice(fuzz.HOSTILE)
        try:
            sent = json_numpy.dumps(body).encode("utf-8", "surrogatepass")
        except (WireError, TypeError):
            sent = b"{"
        sent = sent if number % 2 else fuzz.mutated(sent, rng)
        status, told, _ = post(served.rest, sent, rng.choice(["/ui/ask", "/ui/scene"]))
        codes[200 if status == 200 else json.loads(told)["code"]] += 1
        assert status == 200 or not fuzz.LEAK.search(told.decode())
    assert set(codes) <= {200, "bad_request", "conflict"} and codes["bad_request"] > 300, codes


ORIGINS = {
    "own": ({"Origin": "http://HOST", "Host": "HOST"}, 200),
    "no browser": ({}, 200),
    "another page": ({"Origin": "http://example.org", "Host": "HOST"}, 403),
    "a file": ({"Origin": "null", "Host": "HOST"}, 403),
    "another port": ({"Origin": "http://127.0.0.1:1", "Host": "HOST"}, 403),
    "a name that points here": ({"Origin": "http://evil.test", "Host": "evil.test"}, 403),
    "no address": ({"Origin": "http://[", "Host": "["}, 403),
}


@pytest.mark.parametrize("headers, wanted", ORIGINS.values(), ids=ORIGINS)
def test_no_page_but_the_servers_own_may_ask(served, headers, wanted):
    given = {k: v.replace("HOST", f"127.0.0.1:{served.rest}") for k, v in headers.items()}
    assert asked(served, "/ui/about", {}, given)[0] == wanted
    if "Origin" in given:  # what moves robots is closed to the own page as well
        assert asked(served, "/act", {}, given)[0] == 403


def test_with_keys_the_page_is_shown_and_answers_nobody_without_one():
    with serving(always(Pusher()), KEYS, ui=True) as served:
        assert get(served.rest, "/")[0] == 200
        request = {"scene": SCENE, "text": "go", "mode": "action"}
        for path in ("/ui/about", "/ui/scene", "/ui/ask"):
            assert asked(served, path, SCENE)[0] == 401
        may = {}
        for role, key in KEYS:
            headers = {"Authorization": f"Api-Key {key}", "Origin": "https://robot.example.org"}
            headers["Host"] = "robot.example.org"
            answer = request | {"mode": "vqa"}
            may[role] = [asked(served, "/ui/ask", body, headers)[0] for body in (request, answer)]
        assert may == {"ask": [403, 200], "act": [200, 200]}


def test_there_is_no_page_unless_it_is_asked_for():
    with serving(always(StubPolicy())) as served:
        assert get(served.rest, "/")[0] == 404
        assert asked(served, "/ui/about", {})[0] == 404


def test_the_page_is_whole_in_itself_and_runs_its_own_script_alone(served):
    request = urllib.request.Request(f"http://127.0.0.1:{served.rest}/")
    status, body, headers = http(request, all=True)
    page = body.decode()
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "color-scheme: light dark" in page and not re.search(r"(src|href)=\"(http|//)", page)
    assert not re.search(r"\son\w+=|\sstyle=", page.split("<script>")[0])
    assert "innerHTML" not in page  # what a model says is text


def test_without_the_simulator_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rt2.playground.playground", None)
    with pytest.raises(ServeError, match=r"pip install -e '\.\[sim\]'"):
        serve._playground(None)


@pytest.fixture(scope="module")
def page(served, tmp_path_factory):
    with tab(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_the_arm_moves_to_its_end(served, page, width):
    page.open(f"http://127.0.0.1:{served.rest}/", width)
    page.until("steps.length == 1")
    assert page.read("picture.naturalWidth") == FRAME
    assert page.read("document.documentElement.scrollWidth <= innerWidth")
    page.read("step.click()")
    page.until("!busy && steps.length == 2")
    assert "dx 2.0 cm, dy 1.0 cm" in page.read("said.textContent")
    charts = page.read("[...slots.querySelectorAll('svg')].map(s => s.ariaLabel)")
    assert charts == [
        "dx: 1.9 cm, probability 100 %, of 21 values",
        "dy: 1.1 cm, probability 100 %, of 21 values",
    ]
    assert page.read("latency.textContent.endsWith(' ms')")
    page.read("text.value = 'talk', run.click()")
    page.until("!busy && steps.length == 3")
    assert "holds: actions have 25.0 %" in page.read("said.textContent")
    page.read("past.value = 0, past.dispatchEvent(new Event('input'))")
    assert page.read("[at, track.points.length, count.textContent]") == [0, 1, "0 of 2"]
    assert page.read("document.documentElement.scrollWidth <= innerWidth")
    assert not page.errors


def test_in_a_browser_an_image_is_sent_as_pixels_and_an_answer_is_text(served, page, pusher):
    page.open(f"http://127.0.0.1:{served.rest}/", 800)
    page.until("steps.length == 1")
    page.read(
        """(async () => {
            const c = document.createElement('canvas'); c.width = 1300; c.height = 650;
            const d = c.getContext('2d'); d.fillStyle = 'rgb(1, 200, 3)';
            d.fillRect(0, 0, 1300, 650);
            await load(await new Promise(done => c.toBlob(done)));
            document.querySelector('input[value=image]').click();
            document.querySelector('input[value=vqa]').click();
            text.value = 'what is it'; run.click();
        })()"""
    )
    page.until("said.textContent.startsWith('Answer')")
    assert page.read("said.textContent") == "Answer: a <b>fox</b>"
    image = pusher.seen[-1]["image"]
    assert image.shape == (320, 640, 3) and (image == [1, 200, 3]).all()
    assert not page.errors


def test_in_a_browser_a_key_is_asked_for(page):
    with serving(always(Pusher()), KEYS, ui=True) as served:
        page.open(f"http://127.0.0.1:{served.rest}/", 390)
        page.until("!locked.hidden && step.disabled")
        page.read(f"key.value = '{KEYS[1][1]}', key.dispatchEvent(new Event('change'))")
        page.until("steps.length == 1")
        assert page.read("locked.hidden && !step.disabled")
    page.errors.clear()  # the browser's own line on the status 401


def test_in_a_browser_everything_has_a_name_and_errors_are_said(served, page):
    page.open(f"http://127.0.0.1:{served.rest}/", 390)
    page.until("steps.length == 1")
    boxes = "[...document.querySelectorAll('input, select, button')]"
    assert not page.read(
        f"{boxes}.filter(b => !(b.labels?.length || b.textContent.trim())).map(b => b.id)"
    )
    page.read("text.value = '', run.click()")
    page.until("!busy && said.classList.contains('wrong')")
    assert "instruction" in page.read("said.textContent")
    page.errors.clear()  # the browser's own line on the status 400
