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

from rt2 import checkpoint, prompts
from rt2.inference import constraint, decode, examples, narrowing, planned
from rt2.inference.decoding import GREEDY, Decoding
from rt2.inference.wording import plain
from rt2.models import quantise
from rt2.models.build import Model, Params
from rt2.models.vision_language import VisionLanguage
from rt2.preprocess import Preprocess, PreprocessError

MODES = ("action", "vqa", "plan")
FIELDS = ("image", "instruction", "mode", "dataset", "state", "probabilities")
LARGEST_BATCH = 64  # rows of one call to the device; more are decoded in several

Observation = Mapping[str, Any]
Reply = dict[str, Any]
Kind = tuple[str, str | None]  # mode and data set
ANSWER = ("vqa", None)


class Policy:
    """Decodes actions under the grammar of its data set, and answers to questions freely.

    An observation is a mapping: `image` uint8 [H, W, 3], or a list of them oldest first, or
    {camera: image} of all that the model reads (`metadata["cameras"]`); `instruction` str; optional
    `mode` "action" (default), "plan", where a plan in words comes before the action (of use to a
    model that was trained so), or "vqa", where `instruction` is the whole question; optional
    `dataset`, needed where the checkpoint knows several; `state` float [S], needed where the data
    set's actions are asked with it (`metadata["datasets"][name]["state_low"]` is not empty then)
    and otherwise ignored; `probabilities` bool: whether the reply is to have those of the tokens
    of an action.
    A policy remembers nothing: `history.Episode` keeps the frames of a robot.
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
        self._opening = np.array(preprocess.tokenizer.encode(prompts.PLAN_END), np.int32)

    @classmethod
    def load(cls, path: str | pathlib.Path, weights: str = "f32") -> Policy:
        """The policy of a workdir (its newest step) or of one step's folder.

        `weights`: "f32", "bf16" or "int8"; what the narrow ones cost stands in
        `metadata["weights"]` (`narrowing.narrowed`).
        """
        folder = checkpoint.find(path)
        assets = checkpoint.read_json(folder, "assets")
        model = Model.from_json(assets["model"])
        preprocess = Preprocess.from_json(assets["preprocess"])
        params, said = narrowing.narrowed(
            model,
            preprocess,
            checkpoint.read_params(folder, model),
            weights,
            None if weights == "f32" else examples.beside(folder),
        )
        described = describe(preprocess, assets) | {"weights": said}
        return cls(model, model.apart(params), preprocess, described)

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
        bool, `tokens` int32 [slots], in mode "plan" also `plan` str; every reply has `text`,
        `log_prob` and `timing` in ms. With `decoding.hold_below`, that to a robot row also has
        `allowed_mass` float and `hold` bool; with `probabilities` in its observation (mode
        "action"), a list of those float32 [bins] of every slot, given the slots before.
        Raises PreprocessError or WordingError naming the field that does not fit.
        """
        replies: list[Reply | None] = [None] * len(observations)
        groups: dict[Kind, list[int]] = {}
        for i, observation in enumerate(observations):
            groups.setdefault(self._kind(observation), []).append(i)
        # greedy rows share a program; a draw would depend on which one, and beams, masses and
        # probabilities have programs of their own
        asked = any(observation.get("probabilities") for observation in observations)
        joined = next((kind for kind in groups if kind[0] == "action"), None)
        if joined and decoding == GREEDY and not asked:
            groups[joined] += groups.pop(ANSWER, [])
        for kind, rows in groups.items():
            for start in range(0, len(rows), LARGEST_BATCH):
                chosen = rows[start : start + LARGEST_BATCH]
                made = self._decode(kind, [observations[i] for i in chosen], chosen, decoding)
                for i, reply in zip(chosen, made, strict=True):
                    replies[i] = reply
        return replies

    def _kind(self, observation: Observation) -> Kind:
        """The mode and data set of a row: those of one kind share a program."""
        mode = observation.get("mode", "action")
        if mode not in MODES:
            raise PreprocessError(f"mode: {mode!r}, expected one of {MODES}")
        if mode == "vqa":
            return ANSWER
        return mode, self.preprocess.dataset(observation.get("dataset"))

    def _decode(
        self,
        kind: Kind,
        observations: Sequence[Observation],
        numbers: Sequence[int],
        decoding: Decoding,
    ) -> list[Reply]:
        began = time.perf_counter()
        rows = [self._row(observation, kind[1]) for observation in observations]
        image, prefix, is_action = (np.stack(column) for column in zip(*rows, strict=True))
        padding = _bucket(len(rows)) - len(rows)
        image, prefix, is_action = (
            np.concatenate([x, np.repeat(x[:1], padding, axis=0)])
            for x in (image, prefix, is_action)
        )
        ready = time.perf_counter()
        numbers = [*numbers, *[0] * padding]
        memory = jax.block_until_ready(_encode(self.model, self.held, image, prefix))
        encoded = time.perf_counter()
        decoded = self._run(kind, memory, is_action, numbers, decoding)
        asked = [kind[0] == "action" and bool(one.get("probabilities")) for one in observations]
        if isinstance(decoded, decode.Decoded) and not any(asked):
            decoded = decoded._replace(spread=None)
        decoded = jax.device_get(decoded)
        timing = {
            "preprocess_ms": 1e3 * (ready - began),
            "encode_ms": 1e3 * (encoded - ready),
            "decode_ms": 1e3 * (time.perf_counter() - encoded),
        }
        replies = []
        for i in range(len(rows)):
            if isinstance(decoded, planned.Planned):
                reply = self._planned(kind[1], decoded.tokens[i], decoded.begin[i])
            else:
                reply = self._reply(kind[1], bool(is_action[i]), decoded.tokens[i])
            reply |= {"log_prob": float(decoded.log_prob[i]), "timing": timing}
            if decoded.mass is not None:
                least = float(decoded.mass[i].min())
                reply |= {"allowed_mass": least, "hold": least < decoding.hold_below}
            if asked[i] and is_action[i]:
                slots = zip(self._tables[kind[1]], decoded.spread[i], strict=True)
                reply["probabilities"] = [spread[ids >= 0] for ids, spread in slots]
            replies.append(reply)
        return replies

    def _run(
        self, kind: Kind, memory: Any, is_action, numbers: list[int], decoding: Decoding
    ) -> decode.Decoded | planned.Planned:
        """One program for the rows, chosen by what they are."""
        mode, dataset = kind
        rows = self.model, self.held, memory
        sampling, mass = decoding.sampling(numbers), decoding.hold_below > 0
        if mode == "plan":
            budget = self._budget(dataset)
            table = self._tables[dataset]
            return _decode_plans(*rows, table, self._opening, sampling, budget=budget, mass=mass)
        if is_action.all():
            return _decode_actions(*rows, self._tables[dataset], sampling, mass=mass)
        if decoding.beams > 1:
            return _decode_answers(*rows, length=len(self._free), beams=decoding.beams)
        mask = self._masks[dataset] if is_action.any() else self._free
        return _decode_mixed(*rows, is_action, mask, sampling)

    def _budget(self, dataset: str) -> int:
        """How many tokens a plan may have: as many as in training."""
        length = self.preprocess.target_length
        budget = length - len(self._opening) - len(self._tables[dataset]) - 1
        if budget < 1:
            raise PreprocessError(
                f"mode: no room for a plan before the action in the model's {length} tokens; a "
                "model for it is trained with a larger target_length"
            )
        return budget

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
        if observation.get("probabilities") and observation.get("mode") == "plan":
            raise PreprocessError('probabilities: told of mode "action" alone; leave them out')
        # no piece of a tokenizer is longer than 16 characters of 4 bytes
        text = plain("instruction", observation["instruction"], 64 * self.preprocess.prefix_length)
        image = self.preprocess.image_stack(self.preprocess.frames(observation["image"]))
        if observation.get("mode", "action") == "vqa":
            return image, self.preprocess.text_prefix(text), np.bool_(False)
        state = self.preprocess.state(dataset, observation.get("state"))
        planning = observation.get("mode") == "plan"
        ask = self.preprocess.plan_prefix if planning else self.preprocess.action_prefix
        return image, ask(text, state), np.bool_(True)

    def _planned(self, dataset: str, tokens: np.ndarray, begin: int) -> Reply:
        words = self.preprocess.tokenizer.decode(tokens[: begin - len(self._opening)])
        action = tokens[begin : begin + len(self._tables[dataset])]
        return self._reply(dataset, True, action) | {"plan": prompts.plan_in(words)}

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
        "cameras": list(preprocess.cameras),
        "plans": _learnt_plans(assets),
        "action_vocabulary": preprocess.vocabulary.kind,
        "tokenizer": preprocess.tokenizer.digest,
        "step": assets["step"],
        "weights": {"kind": "f32"},
    }


def _learnt_plans(assets: Mapping[str, Any]) -> bool:
    """Whether the model was trained to plan: its mode "plan" is of no use otherwise."""
    sources = assets["config"]["sources"].values()
    return any(row["task"] == "plan" and row["share"] > 0 for row in sources)


def _state_bounds(preprocess: Preprocess, dataset: str) -> dict[str, list[float]]:
    """Bounds of the state that the data set's actions are asked with; empty where it is not."""
    codec = preprocess.state_codecs.get(dataset)
    low, high = ((), ()) if codec is None else (codec.low, codec.high)
    return {"state_low": list(low), "state_high": list(high)}


def _bucket(rows: int) -> int:
    """The next power of two: few programs are compiled, whatever the sizes of the batches."""
    return 1 << (rows - 1).bit_length()


@functools.partial(jax.jit, static_argnums=0)
def _encode(model: Model, params: Params, image, prefix):
    return _module(model, params).encode(image, prefix)


@functools.partial(jax.jit, static_argnums=0, static_argnames="mass")
def _decode_actions(model: Model, params: Params, memory, table, sampling, *, mass):
    return decode.actions(_module(model, params), memory, table, sampling, mass, spread=True)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("budget", "mass"))
def _decode_plans(model: Model, params: Params, memory, table, opening, sampling, *, budget, mass):
    return planned.actions(_module(model, params), memory, table, opening, budget, sampling, mass)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("length", "beams"))
def _decode_answers(model: Model, params: Params, memory, *, length, beams):
    return decode.answers(_module(model, params), memory, length, beams)


@functools.partial(jax.jit, static_argnums=0)
def _decode_mixed(model: Model, params: Params, memory, is_action, allowed, sampling):
    return decode.mixed(_module(model, params), memory, is_action, allowed, sampling)


def _module(model: Model, params: Params) -> VisionLanguage:
    return model.module(quantise.widen(params))
