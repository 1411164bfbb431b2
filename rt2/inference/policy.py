"""A policy: observations in, actions or answers out, everything it needs read from a checkpoint."""

from __future__ import annotations

import difflib
import functools
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rt2 import checkpoint
from rt2.inference import constraint, decode
from rt2.inference.decoding import GREEDY, Decoding
from rt2.models.build import Model, Params
from rt2.preprocess import Preprocess, PreprocessError

MODES = ("action", "vqa")
FIELDS = ("image", "instruction", "mode", "dataset", "state", "probabilities")
LARGEST_BATCH = 64  # rows of one call to the device; more are decoded in several

Observation = Mapping[str, Any]
Reply = dict[str, Any]


class Policy:
    """Decodes actions under the grammar of its data set, and answers to questions freely.

    An observation is a mapping: `image` uint8 [H, W, 3], or a list of them oldest first, or
    {camera: image} with one camera; `instruction` str; optional `mode` "action" (default) or
    "vqa", where `instruction` is the whole question; optional `dataset`, needed where the
    checkpoint knows several; `state` float [S], needed where the data set's actions are asked with
    it (`metadata["datasets"][name]["state_low"]` is not empty then) and otherwise ignored;
    `probabilities` bool: whether the reply is to have those of the tokens of an action.
    """

    def __init__(
        self, model: Model, params: Params, preprocess: Preprocess, metadata: dict[str, Any]
    ):
        self.model, self.held, self.preprocess = model, params, preprocess
        self.metadata = metadata
        vocab, length = model.config.text.rows, preprocess.target_length
        self._tables = {
            name: constraint.action_table(preprocess.vocabulary, codec.spec)
            for name, codec in preprocess.codecs.items()
        }
        self._masks = {
            name: constraint.position_mask(table, vocab, length)
            for name, table in self._tables.items()
        }
        self._free = np.ones((length, vocab), bool)

    @classmethod
    def load(cls, path: str | pathlib.Path) -> Policy:
        """The policy of a workdir (its newest step) or of one step's folder."""
        folder = checkpoint.find(path)
        assets = checkpoint.read_json(folder, "assets")
        model = Model.from_json(assets["model"])
        params = model.apart(checkpoint.read_params(folder, model))
        preprocess = Preprocess.from_json(assets["preprocess"])
        return cls(model, params, preprocess, describe(preprocess, assets))

    @property
    def params(self) -> Params:
        """The parameters as a checkpoint has them; `held` is what decodes, layers maybe apart."""
        return self.model.together(self.held)

    def infer(self, observation: Observation, decoding: Decoding = GREEDY) -> Reply:
        """The reply to one observation; see `infer_batch`."""
        return self.infer_batch([observation], decoding)[0]

    def infer_batch(
        self, observations: Sequence[Observation], decoding: Decoding = GREEDY
    ) -> list[Reply]:
        """One reply for each observation, in order; robot and vqa rows may be mixed.

        A reply to a robot row has `actions` float32 [1, D] in the data set's units, `terminate`
        bool, `tokens` int32 [slots]; every reply has `text`, `log_prob` and `timing` in ms. With
        `decoding.hold_below`, that to a robot row also has `allowed_mass` float and `hold` bool;
        with `probabilities` in its observation, a list of those float32 [bins] of every slot, given
        the slots before.
        Raises PreprocessError naming the field that does not fit.
        """
        replies: list[Reply | None] = [None] * len(observations)
        groups: dict[str | None, list[int]] = {}
        for i, observation in enumerate(observations):
            groups.setdefault(self._dataset(observation), []).append(i)
        # greedy rows share a program; a draw would depend on which one, and beams, masses and
        # probabilities have programs of their own
        asked = any(observation.get("probabilities") for observation in observations)
        text_rows = groups.pop(None, []) if decoding == GREEDY and not asked else []
        if not groups:
            groups[None] = []
        for dataset, robot_rows in groups.items():
            rows = robot_rows + text_rows
            text_rows = []
            for start in range(0, len(rows), LARGEST_BATCH):
                chosen = rows[start : start + LARGEST_BATCH]
                made = self._decode(dataset, [observations[i] for i in chosen], chosen, decoding)
                for i, reply in zip(chosen, made, strict=True):
                    replies[i] = reply
        return replies

    def warmup(self) -> None:
        """Compiles what one action and one answer need, so that the first request is as fast."""
        size = self.preprocess.image_size
        blank = {"image": np.zeros((size, size, 3), np.uint8), "instruction": "wait"}
        for dataset in self.preprocess.codecs:
            states = self.preprocess.state_codecs
            state = {"state": states[dataset].low} if dataset in states else {}
            self.infer({**blank, "dataset": dataset, **state})
        self.infer({**blank, "mode": "vqa"})

    def _dataset(self, observation: Observation) -> str | None:
        """The data set of a robot row, None for a vqa row."""
        mode = observation.get("mode", "action")
        if mode not in MODES:
            raise PreprocessError(f"mode: {mode!r}, expected one of {MODES}")
        if mode == "vqa":
            return None
        return self.preprocess.dataset(observation.get("dataset"))

    def _decode(
        self,
        dataset: str | None,
        observations: Sequence[Observation],
        numbers: Sequence[int],
        decoding: Decoding,
    ) -> list[Reply]:
        began = time.perf_counter()
        rows = [self._row(observation, dataset) for observation in observations]
        image, prefix, is_action = (np.stack(column) for column in zip(*rows, strict=True))
        padding = _bucket(len(rows)) - len(rows)
        image, prefix, is_action = (
            np.concatenate([x, np.repeat(x[:1], padding, axis=0)])
            for x in (image, prefix, is_action)
        )
        ready = time.perf_counter()
        numbers = [*numbers, *[0] * padding]
        decoded = self._run(dataset, image, prefix, is_action, numbers, decoding)
        asked = [bool(observation.get("probabilities")) for observation in observations]
        decoded = jax.device_get(decoded if any(asked) else decoded._replace(spread=None))
        timing = {
            "preprocess_ms": 1e3 * (ready - began),
            "decode_ms": 1e3 * (time.perf_counter() - ready),
        }
        replies = []
        for i in range(len(rows)):
            reply = self._reply(dataset, bool(is_action[i]), decoded.tokens[i])
            reply |= {"log_prob": float(decoded.log_prob[i]), "timing": timing}
            if decoded.mass is not None:
                least = float(decoded.mass[i].min())
                reply |= {"allowed_mass": least, "hold": least < decoding.hold_below}
            if asked[i] and is_action[i]:
                slots = zip(self._tables[dataset], decoded.spread[i], strict=True)
                reply["probabilities"] = [spread[ids >= 0] for ids, spread in slots]
            replies.append(reply)
        return replies

    def _run(
        self, dataset: str | None, image, prefix, is_action, numbers: list[int], decoding: Decoding
    ) -> decode.Decoded:
        """One program for the rows, chosen by what they are."""
        rows = self.model, self.held, image, prefix
        sampling = decoding.sampling(numbers)
        if is_action.all():
            table = self._tables[dataset]
            return _decode_actions(*rows, table, sampling, mass=decoding.hold_below > 0)
        if decoding.beams > 1:
            return _decode_answers(*rows, length=len(self._free), beams=decoding.beams)
        mask = self._masks[dataset] if is_action.any() else self._free
        return _decode_mixed(*rows, is_action, mask, sampling)

    def _row(
        self, observation: Observation, dataset: str | None
    ) -> tuple[np.ndarray, np.ndarray, np.bool_]:
        for field in ("image", "instruction"):
            if field not in observation:
                raise PreprocessError(
                    f"{field}: missing from the observation; it has {sorted(observation)}"
                )
        for field in observation:
            if field not in FIELDS:
                near = difflib.get_close_matches(field, FIELDS, 1)
                raise PreprocessError(
                    f"{field}: unknown; an observation has {', '.join(FIELDS)}"
                    + (f". Did you mean {near[0]!r}?" if near else "")
                )
        text = observation["instruction"]
        if not isinstance(text, str):
            raise PreprocessError(f"instruction: {type(text).__name__}, expected str")
        image = self.preprocess.image_stack(_frames(observation["image"]))
        if observation.get("mode", "action") == "vqa":
            return image, self.preprocess.text_prefix(text), np.bool_(False)
        state = self.preprocess.state(dataset, observation.get("state"))
        return image, self.preprocess.action_prefix(text, state), np.bool_(True)

    def _reply(self, dataset: str | None, is_action: bool, tokens: np.ndarray) -> Reply:
        if not is_action:
            return {"text": self.preprocess.tokenizer.decode(tokens)}
        codec = self.preprocess.codecs[dataset]
        slots = tokens[: len(codec.spec.slots)]
        bins = self.preprocess.vocabulary.bins(slots)
        return {
            "actions": codec.decode(bins)[None],
            "terminate": bool(codec.terminated(bins)),
            "tokens": slots,
            "text": " ".join(map(str, bins)),
        }


def describe(preprocess: Preprocess, assets: Mapping[str, Any]) -> dict[str, Any]:
    """What a client may want to know of a policy, as plain JSON values."""
    return {
        "datasets": {
            name: {
                "slots": [slot.name for slot in codec.spec.slots],
                "units": [slot.unit for slot in codec.spec.slots],
                "low": list(codec.low),
                "high": list(codec.high),
                "relative": [slot.is_change for slot in codec.spec.continuous],
            }
            | _state_bounds(preprocess, name)
            for name, codec in preprocess.codecs.items()
        },
        "dataset": next(iter(preprocess.codecs), None),
        "eval_sources": assets["eval"],
        "image_size": preprocess.image_size,
        "history": preprocess.history,
        "action_vocabulary": preprocess.vocabulary.kind,
        "tokenizer": preprocess.tokenizer.digest,
        "step": assets["step"],
    }


def _state_bounds(preprocess: Preprocess, dataset: str) -> dict[str, list[float]]:
    """Bounds of the state that the data set's actions are asked with; empty where it is not."""
    codec = preprocess.state_codecs.get(dataset)
    low, high = ((), ()) if codec is None else (codec.low, codec.high)
    return {"state_low": list(low), "state_high": list(high)}


def _frames(image: Any) -> list[np.ndarray]:
    if isinstance(image, Mapping):
        if len(image) != 1:
            raise PreprocessError(
                f"image: cameras {sorted(image)}; this model takes one camera, send that alone"
            )
        image = next(iter(image.values()))
    frames = image if isinstance(image, list | tuple) else [image]
    return [np.asarray(frame) for frame in frames]


def _bucket(rows: int) -> int:
    """The next power of two: few programs are compiled, whatever the sizes of the batches."""
    return 1 << (rows - 1).bit_length()


@functools.partial(jax.jit, static_argnums=0, static_argnames="mass")
def _decode_actions(model: Model, params: Params, image, prefix, table, sampling, *, mass):
    return decode.actions(model.module(params), image, prefix, table, sampling, mass, spread=True)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("length", "beams"))
def _decode_answers(model: Model, params: Params, image, prefix, *, length, beams):
    return decode.answers(model.module(params), image, prefix, length, beams)


@functools.partial(jax.jit, static_argnums=0)
def _decode_mixed(model: Model, params: Params, image, prefix, is_action, allowed, sampling):
    return decode.mixed(model.module(params), image, prefix, is_action, allowed, sampling)
