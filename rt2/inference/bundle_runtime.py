"""Runs an exported RT-2 policy with jax, numpy, pillow, sentencepiece and safetensors alone.

    from bundle import Policy
    policy = Policy.load("path/to/this/folder")
    reply = policy.infer({"image": image, "instruction": "move to the strawberry"})

`python bundle.py` checks the bundle it lies in and prints what the policy is.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.export
import ml_dtypes
import numpy as np
import safetensors
import sentencepiece
from PIL import Image

FORMAT = 2
COMPRESSED = ".gz"  # end of the names of files that are
DTYPES = {
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
    "F32": np.float32,
    "I8": np.int8,
    "U8": np.uint8,
}
KEYS = ("image", "instruction", "mode", "dataset", "state")
PAD, EOS = 0, 1  # token ids
STOP = 0  # value of a terminate slot
LARGEST_BATCH = 64
LOG_PROB_TOLERANCE = 0.02  # of the golden replies; their tokens must be equal


class BundleError(ValueError):
    """A bundle that is damaged or computes something else here; the message names the file."""


class ObservationError(ValueError):
    """An observation that does not fit the model; the message names the field."""


@dataclasses.dataclass(frozen=True)
class Actions:
    """One data set's actions: tokens <-> values. A slots, K bins, D continuous slots."""

    table: np.ndarray  # int32 [A, K], ids allowed in each slot, -1 where a slot has fewer
    continuous: list[int]
    terminate: int | None
    low: np.ndarray  # float64 [D], outer edges of the first and the last bin
    high: np.ndarray
    prompt: str  # with {instruction} and, where there is a state, {state}
    state: Mapping[str, list] | None  # low, high, bins of each of its numbers

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Actions:
        kinds = [slot["kind"] for slot in data["slots"]]
        return cls(
            table=np.array(data["table"], np.int32),
            continuous=[i for i, kind in enumerate(kinds) if kind == "continuous"],
            terminate=kinds.index("terminate") if "terminate" in kinds else None,
            low=np.array(data["low"]),
            high=np.array(data["high"]),
            prompt=data["prompt"],
            state=data["state"],
        )

    def question(self, instruction: str, state: Any) -> str:
        """The whole text that asks for an action."""
        known = "" if self.state is None else _integers(state, **self.state)
        return self.prompt.replace("{state}", known).replace("{instruction}", instruction)

    def decode(self, tokens: np.ndarray) -> dict[str, Any]:
        """What int32 [A] says, at the centres of the bins."""
        slots = zip(self.table, tokens, strict=True)
        bins = np.array([np.flatnonzero(allowed == token)[0] for allowed, token in slots])
        counts = (self.table >= 0).sum(axis=1)[self.continuous]
        cell = (self.high - self.low) / counts
        values = self.low + (bins[self.continuous] + 0.5) * cell
        return {
            "actions": values.astype(np.float32)[None],
            "terminate": self.terminate is not None and bool(bins[self.terminate] == STOP),
            "tokens": tokens,
            "text": " ".join(map(str, bins)),
        }


class Policy:
    """Observations in, actions or answers out.

    An observation is a mapping: `image` uint8 [H, W, 3], or a list of them oldest first, or
    {camera: image} of all in `metadata["cameras"]`; `instruction` str; optional `mode` "action"
    (default) or "vqa", where `instruction` is the whole question; optional `dataset`, needed where
    the bundle knows several; `state` float [S], needed where
    `metadata["datasets"][name]["state_low"]` is not empty and else ignored.
    """

    def __init__(self, files: Mapping[str, bytes]):
        assets = json.loads(files["assets.json"])
        self.metadata = assets["metadata"]
        self._assets = assets
        self._datasets = {name: Actions.from_json(d) for name, d in assets["datasets"].items()}
        self._text = sentencepiece.SentencePieceProcessor(model_proto=files["tokenizer.model"])
        self._params: dict[str, jax.Array] = {}
        for name in assets["weights"]:
            self._params |= jax.device_put(_tensors(files[name]))
        programs = {name: _program(name, files[name]) for name in assets["programs"]}
        self._answer = programs[assets["text_program"]]
        self._act = {name: programs[d["program"]] for name, d in assets["datasets"].items()}

    @classmethod
    def load(cls, path: str | pathlib.Path) -> Policy:
        """The policy of a bundle's folder, compiled for the device at hand.

        Raises BundleError where a byte differs from what was exported, and where this device gives
        other replies to the golden observations than the model gave when it was exported.
        """
        folder = pathlib.Path(path)
        files = _verified(folder)
        policy = cls(files)
        policy._check_golden(folder, files["golden.safetensors"])
        return policy

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to one observation; see `infer_batch`."""
        return self.infer_batch([observation])[0]

    def infer_batch(self, observations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One reply for each observation, in order.

        A reply to a robot row has `actions` float32 [1, D] in the data set's units, `terminate`
        bool, `tokens` int32 [slots]; every reply has `text`, `log_prob` and `timing` in ms.
        Raises ObservationError naming the field that does not fit.
        """
        groups: dict[str | None, list[int]] = {}
        for i, observation in enumerate(observations):
            groups.setdefault(self._dataset(observation), []).append(i)
        replies: dict[int, dict[str, Any]] = {}
        for dataset, rows in groups.items():
            for start in range(0, len(rows), LARGEST_BATCH):
                chosen = rows[start : start + LARGEST_BATCH]
                made = self._decode(dataset, [observations[i] for i in chosen])
                replies.update(zip(chosen, made, strict=True))
        return [replies[i] for i in range(len(observations))]

    def _dataset(self, observation: Mapping[str, Any]) -> str | None:
        """The data set of a robot row, None for a vqa row."""
        for key in observation:
            if key not in KEYS:
                raise ObservationError(f"{key}: unknown; known: {', '.join(KEYS)}")
        mode = observation.get("mode", "action")
        if mode not in ("action", "vqa"):
            raise ObservationError(f"mode: {mode!r}, expected 'action' or 'vqa'")
        if mode == "vqa":
            return None
        name = observation.get("dataset")
        if name is None and len(self._datasets) == 1:
            name = next(iter(self._datasets))
        if name not in self._datasets:
            raise ObservationError(f"dataset: {name!r}, known: {sorted(self._datasets)}")
        return name

    def _decode(self, dataset: str | None, observations: Sequence[Mapping]) -> list[dict[str, Any]]:
        began = time.perf_counter()
        rows = [self._row(observation, dataset) for observation in observations]
        padding = (1 << (len(rows) - 1).bit_length()) - len(rows)  # few sizes, few compilations
        columns = zip(*(rows + rows[:1] * padding), strict=True)
        image, prefix = (np.stack(column) for column in columns)
        ready = time.perf_counter()
        if dataset is None:
            out = self._answer(self._params, image, prefix)
        else:
            out = self._act[dataset](self._params, image, prefix, self._datasets[dataset].table)
        tokens, log_probs = jax.device_get((out["tokens"], out["log_prob"]))
        timing = {
            "preprocess_ms": 1e3 * (ready - began),
            "decode_ms": 1e3 * (time.perf_counter() - ready),
        }
        replies = []
        for ids, log_prob in zip(tokens[: len(rows)], log_probs, strict=False):
            answer = {"text": self._words(ids)} if dataset is None else {}
            action = {} if dataset is None else self._datasets[dataset].decode(ids)
            replies.append(answer | action | {"log_prob": float(log_prob), "timing": timing})
        return replies

    def _row(
        self, observation: Mapping[str, Any], dataset: str | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [n, S, S, 3] and int32 [L]."""
        for key in ("image", "instruction"):
            if key not in observation:
                raise ObservationError(f"{key}: missing; the observation has {sorted(observation)}")
        text = observation["instruction"]
        if not isinstance(text, str) or not text.strip():
            raise ObservationError("instruction: expected a text that is not empty")
        if dataset is not None:
            text = self._datasets[dataset].question(text, observation.get("state"))
        return self._images(observation["image"]), self._prefix(text)

    def _images(self, image: Any) -> np.ndarray:
        cameras, history = self._assets["cameras"], self._assets["history"]
        views = image if isinstance(image, Mapping) else {cameras[0]: image}
        if len(cameras) == len(views) == 1:
            views = {cameras[0]: next(iter(views.values()))}
        if set(views) != set(cameras):
            raise ObservationError(f"image: cameras {sorted(views)}, expected {cameras}")
        first, *others = ([*map(np.asarray, _listed(views[camera]))] for camera in cameras)
        if not 1 <= len(first) <= history:
            raise ObservationError(f"image: {len(first)} frames, the model takes {history}")
        if any(len(frames) != 1 for frames in others):
            raise ObservationError(f"image: of the cameras {cameras[1:]} one frame each is taken")
        frames = first[:1] * (history - len(first)) + first + sum(others, [])
        for frame in frames:
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[-1] != 3:
                raise ObservationError(
                    f"image: {frame.dtype} {frame.shape}, expected uint8 [height, width, 3]"
                )
        return np.stack([_resize(frame, self._assets["image_size"]) for frame in frames])

    def _prefix(self, question: str) -> np.ndarray:
        length = self._assets["prefix_length"]
        ids = self._assets["begin"] + self._text.encode(question + self._assets["suffix"])
        if len(ids) > length:
            raise ObservationError(
                f"instruction: {len(ids)} tokens with its prompt, at most {length}"
            )
        return np.array(ids + [PAD] * (length - len(ids)), np.int32)

    def _words(self, tokens: np.ndarray) -> str:
        ids = tokens.tolist()
        ids = ids[: ids.index(EOS)] if EOS in ids else ids
        return self._text.decode([i for i in ids if i != PAD])

    def _check_golden(self, folder: pathlib.Path, images: bytes) -> None:
        pictures = _tensors(images)
        for i, row in enumerate(self._assets["golden"]):
            seen = {camera: pictures[f"{i}/{camera}"] for camera in self._assets["cameras"]}
            reply = self.infer({**row["observation"], "image": seen})
            same = reply["text"] == row["text"]
            if not same or abs(reply["log_prob"] - row["log_prob"]) > LOG_PROB_TOLERANCE:
                raise BundleError(
                    f"{folder}: golden observation {i} gives {reply['text']!r} (log-probability "
                    f"{reply['log_prob']:.4f}) on {jax.default_backend()}, the model gave "
                    f"{row['text']!r} ({row['log_prob']:.4f}). Install the versions in "
                    "requirements.txt, or export again"
                )


def _integers(state: Any, low: list[float], high: list[float], bins: list[int]) -> str:
    """The state as training writes it: the cell of each number, the outer ones for those beyond."""
    if state is None:
        raise ObservationError(f"state: missing; this model reads {len(low)} numbers")
    try:
        values = np.asarray(state)
    except ValueError:
        raise ObservationError("state: lists of different lengths") from None
    if values.dtype.kind not in "biuf" or values.shape != (len(low),):
        shape = list(values.shape)
        raise ObservationError(f"state: {values.dtype} {shape}, expected {len(low)} numbers")
    with np.errstate(over="ignore"):
        values = values.astype(np.float32).astype(np.float64)
    if not np.isfinite(values).all():
        raise ObservationError("state: NaN, infinite or beyond float32")
    lowest, count = np.array(low), np.array(bins)
    cells = np.floor((values - lowest) / ((np.array(high) - lowest) / count))
    return " ".join(str(int(cell)) for cell in np.clip(cells, 0, count - 1))


def _tensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, whose numpy reader knows no bfloat16."""
    return {
        name: np.frombuffer(row["data"], DTYPES[row["dtype"]]).reshape(row["shape"])
        for name, row in safetensors.deserialize(data)
    }


def _verified(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file of the bundle, as the bytes whose digest was checked, decompressed."""
    data = _read(folder / "manifest.json")
    try:
        manifest = json.loads(data)
        names = manifest["files"].items()
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BundleError(f"{folder / 'manifest.json'}: damaged; copy the bundle again") from None
    if manifest.get("format") != FORMAT or data != manifest_bytes(manifest["files"]):
        raise BundleError(
            f"{folder / 'manifest.json'}: damaged, or of another format than {FORMAT}; copy the "
            "bundle again"
        )
    files = {}
    for name, digest in names:
        data = _read(folder / pathlib.PurePath(name).name)
        if hashlib.sha256(data).hexdigest() != digest:
            raise BundleError(f"{folder / name}: altered since it was exported; copy it again")
        packed = name.endswith(COMPRESSED)
        files[name.removesuffix(COMPRESSED)] = gzip.decompress(data) if packed else data
    return files


def manifest_bytes(digests: Mapping[str, str]) -> bytes:
    """The one way to write a manifest, so that no byte of it can change unnoticed."""
    manifest = {"files": dict(digests), "format": FORMAT}
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: missing or unreadable; copy the bundle again") from error


def _program(name: str, data: bytes) -> Any:
    exported = jax.export.deserialize(bytearray(data))
    if jax.default_backend() not in _platforms(exported):
        raise BundleError(
            f"{name}: made for {', '.join(exported.platforms)}, not for {jax.default_backend()}"
        )
    return jax.jit(exported.call)


def _platforms(exported: jax.export.Exported) -> set[str]:
    """As `jax.default_backend` names them: cuda is "gpu" there."""
    return {"gpu" if platform == "cuda" else platform for platform in exported.platforms}


def _listed(image: Any) -> Sequence[Any]:
    return image if isinstance(image, list | tuple) else [image]


def _resize(image: np.ndarray, size: int) -> np.ndarray:
    """[size, size, 3], bilinear and antialiased, as in training."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


if __name__ == "__main__":
    try:
        loaded = Policy.load(pathlib.Path(__file__).parent)
    except BundleError as problem:
        sys.exit(f"error: {problem}")
    print(json.dumps(loaded.metadata, indent=1))
    print(f"intact; golden replies agree on {jax.default_backend()}")
