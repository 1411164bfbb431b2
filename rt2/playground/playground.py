"""What the playground's page asks for: a tabletop, the policy's next step in it, an answer.

The server keeps nothing between requests: an episode is its seed and the moves so far, and is
played again for each, in less than a millisecond a move. The policy is asked as any client's is,
through the front's queue, roles and limits.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import re
import time
from collections.abc import Mapping
from importlib import resources
from typing import Any

import cv2
import numpy as np

from rt2 import prompts
from rt2.inference import json_numpy
from rt2.inference.front import Front, Page
from rt2.inference.refusal import Refusal
from rt2.inference.wire import WireError
from rt2.sim.conditions import CONDITIONS
from rt2.sim.render import BOARD_M
from rt2.sim.scenes import TASKS
from rt2.sim.tabletop import MAX_STEPS, MIN_IMAGE_SIZE, TabletopEnv, checked_action

TABLETOP = "tabletop"  # the data set whose policies can move in the simulator
MODES = ("action", "vqa")
FRAME = 448  # pixels of a picture for people
SCENE_KEYS = {"seed", "task", "split", "moves"}
ASKED_KEYS = {"text", "mode", "image", "scene", "dataset"}


@dataclasses.dataclass(frozen=True)
class Scene:
    """An episode up to now: moves float64 [n, 2] metres."""

    seed: int
    task: str
    split: str
    moves: np.ndarray

    @classmethod
    def read(cls, asked: Any) -> Scene:
        """The scene that a page means. Raises Refusal naming the field."""
        given = _mapping("scene", asked, SCENE_KEYS)
        seed, task, split = (given.get(key) for key in ("seed", "task", "split"))
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise Refusal("bad_request", "seed: expected a whole number of 0..4294967295")
        for name, value, known in (("task", task, TASKS), ("split", split, CONDITIONS)):
            if not isinstance(value, str) or value not in known:
                raise Refusal("bad_request", f"{name}: expected one of {', '.join(known)}")
        moves = given.get("moves", np.zeros((0, 2)))
        shaped = isinstance(moves, np.ndarray) and moves.dtype.kind == "f" and moves.ndim == 2
        if not shaped or moves.shape[1] != 2 or len(moves) > MAX_STEPS[task]:
            raise Refusal("bad_request", f"moves: expected floats [n, 2], n <= {MAX_STEPS[task]}")
        try:
            moves = np.array([checked_action(move) for move in moves]).reshape(-1, 2)
        except ValueError as error:
            raise Refusal("bad_request", f"moves: {error}") from None
        return cls(seed, task, split, moves)


class Episode:
    """A scene played to where it is; `pictures` uint8 [S, S, 3] are what a policy has seen."""

    def __init__(self, scene: Scene, size: int):
        self.env = TabletopEnv(task=scene.task, image_size=max(size, MIN_IMAGE_SIZE))
        options = CONDITIONS[scene.split].options(scene.seed)
        seen, self.info = self.env.reset(seed=scene.seed, options=options)
        self.pictures, self.steps, self.truncated = [seen["rgb"]], 0, False
        self.track = [self.env.state.effector]
        for move in scene.moves:
            self.step(move)

    def step(self, move: np.ndarray) -> None:
        """Carries out one move [2] in metres."""
        seen, _, _, self.truncated, self.info = self.env.step(move)
        self.pictures.append(seen["rgb"])
        self.track.append(self.env.state.effector)
        self.steps += 1

    def described(self) -> dict[str, Any]:
        """What the page shows: a picture, where the effector went (0..1 of the board), words."""
        names = self.env.scene.names
        shown = cv2.cvtColor(self.env.frame(FRAME), cv2.COLOR_RGB2BGR)
        picture = base64.b64encode(cv2.imencode(".png", shown)[1].tobytes()).decode()
        target = names[self.env.scene.target]
        return {
            "picture": f"data:image/png;base64,{picture}",
            "track": (np.array(self.track) / BOARD_M).round(4).tolist(),
            "objects": list(names),
            "instruction": self.env.scene.instruction,
            "questions": [
                prompts.where_prompt(target),
                prompts.list_prompt(),
                prompts.caption_prompt(),
            ],
            "steps": self.steps,
            "success": bool(self.info["success"]),
            "over": bool(self.info["success"] or self.truncated),
            "distance_m": round(float(self.info["distance"]), 4),
        }


class Playground:
    """The page, and the answers to what it asks (`POST` of json-numpy to `paths`)."""

    def __init__(self, front: Front):
        self._front = front
        self._playing = asyncio.Semaphore(1)  # pages take one core at most from everything else
        self.paths = {"/ui/about": self._about, "/ui/scene": self._look, "/ui/ask": self._ask}
        body, self.headers = page()
        self.page = Page(200, body, "text/html; charset=utf-8")

    async def answer(self, role: str, path: str, body: bytes) -> Page:
        """The reply to a page's request. Raises Refusal."""
        try:
            asked = json_numpy.loads(body)
        except WireError as error:
            raise Refusal("bad_request", str(error)) from None
        if not self._front.is_ready:
            raise Refusal("unavailable", "the model starts or the server stops", retry_after=2.0)
        told = json_numpy.dumps(await self.paths[path](role, asked))
        return Page(200, told.encode(), "application/json")

    async def _about(self, role: str, asked: Any) -> dict[str, Any]:
        greeting = self._greeting()
        told = {key: greeting.get(key) for key in ("model", "step", "image_size", "datasets")}
        moves = TABLETOP in greeting.get("datasets", {})
        return told | {"role": role, "tabletop": moves, "tasks": TASKS, "splits": list(CONDITIONS)}

    async def _look(self, role: str, asked: Any) -> dict[str, Any]:
        scene = Scene.read(asked)
        async with self._playing:
            return await asyncio.to_thread(lambda: Episode(scene, MIN_IMAGE_SIZE).described())

    async def _ask(self, role: str, asked: Any) -> dict[str, Any]:
        """What the policy says to a user's picture, or to the tabletop, where its move is made."""
        given = _mapping("request", asked, ASKED_KEYS)
        if ("scene" in given) == ("image" in given):
            raise Refusal("bad_request", "scene or image: give one of them")
        began, greeting = time.perf_counter(), self._greeting()
        message = {"instruction": given.get("text"), "mode": given.get("mode", "action")}
        if message["mode"] not in MODES:
            raise Refusal("bad_request", f"mode: expected one of {', '.join(MODES)}")
        if message["mode"] == "action" and "decoding" in greeting:  # a bundle's programs tell less
            message["probabilities"] = True
        if "image" in given:
            dataset = {"dataset": given["dataset"]} if "dataset" in given else {}
            message |= {"image": given["image"]} | dataset
            episode = None
        else:
            episode = await self._played(Scene.read(given["scene"]), greeting)
            message |= self._seen(episode, greeting, message["mode"])
        simulated = time.perf_counter() - began
        reply = await self._reply(role, message)
        answered, shown = time.perf_counter(), {}
        if episode is not None and message["mode"] == "action":
            async with self._playing:
                shown = await asyncio.to_thread(_advanced, episode, reply)
        simulated += time.perf_counter() - answered
        return shown | _told(reply, simulated, time.perf_counter() - began)

    async def _played(self, scene: Scene, greeting: Mapping[str, Any]) -> Episode:
        async with self._playing:
            return await asyncio.to_thread(Episode, scene, greeting["image_size"])

    def _seen(self, episode: Episode, greeting: Mapping[str, Any], mode: str) -> dict[str, Any]:
        """The observation of an episode, as `rt2.evaluate` gives it to a policy."""
        seen = {"image": episode.pictures[-greeting["history"] :]}
        if mode != "action":
            return seen
        if TABLETOP not in greeting["datasets"]:
            raise Refusal("bad_request", "scene: this model was not trained to move in it")
        if episode.info["success"] or episode.truncated:
            raise Refusal("conflict", "scene: this episode is over; begin another")
        return seen | {"dataset": TABLETOP, "state": [float(x) for x in episode.env.state.effector]}

    async def _reply(self, role: str, message: dict[str, Any]) -> dict[str, Any]:
        session = await self._front.open(role)
        try:
            return await self._front.answer(session, message, "page")
        finally:
            await self._front.close(session)

    def _greeting(self) -> dict[str, Any]:
        model = self._front.model
        if model.current not in model.greetings:
            raise Refusal("unavailable", "the model starts again", retry_after=2.0)
        return model.greetings[model.current]


def page() -> tuple[bytes, dict[str, str]]:
    """The page, and headers under which a browser runs its script and style and nothing else."""
    here, common = resources.files("rt2.playground"), resources.files("rt2.page")
    text = here.joinpath("page.html").read_text("utf-8")
    text = text.replace("/* common */", common.joinpath("page.css").read_text("utf-8"))

    def digest(tag: str) -> str:
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.S)[1]
        return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"

    policy = (
        f"default-src 'none'; script-src {digest('script')}; style-src {digest('style')}; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return text.encode(), {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def _advanced(episode: Episode, reply: dict[str, Any]) -> dict[str, Any]:
    """The episode after the reply's move; where it holds or ends, nothing moves."""
    if not (reply.get("hold") or reply["terminate"]):
        episode.step(checked_action(reply["actions"][0]))
    return episode.described()


def _told(reply: dict[str, Any], simulated: float, whole: float) -> dict[str, Any]:
    """A reply for the page, its times in milliseconds by where they were spent."""
    timing = reply.pop("policy_timing")
    model = timing.pop("infer_ms")
    reply.pop("server_timing")
    waited = max(0.0, 1e3 * (whole - simulated) - model)
    times = {"simulator": 1e3 * simulated, "queue": waited}
    times |= {key.removesuffix("_ms"): value for key, value in timing.items()}
    reply["times_ms"] = {key: round(value, 2) for key, value in times.items()}
    if "actions" in reply:
        reply["actions"] = reply["actions"].tolist()
    if "probabilities" in reply:
        reply["probabilities"] = [slot.round(5).tolist() for slot in reply["probabilities"]]
    return reply


def _mapping(name: str, given: Any, known: set[str]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise Refusal("bad_request", f"{name}: expected a map")
    for key in given:
        if key not in known:
            raise Refusal("bad_request", f"{name}.{key[:40]!r}: known: {', '.join(sorted(known))}")
    return given
