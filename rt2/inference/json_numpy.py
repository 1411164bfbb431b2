"""JSON with numpy arrays in it, as the json-numpy package writes them and OpenVLA's clients send.

An array is `{"__numpy__": base64 of C-order bytes, "dtype": "|u1", "shape": [2, 3]}`; a scalar has
an empty shape. What is received is measured before it is parsed and checked before an array is
built from it, as in `rt2.inference.wire`.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import numpy as np

from rt2.inference import wire
from rt2.inference.wire import WireError

MAX_BODY = 12 * 2**20  # bytes; a raw 1080p image is 8.3 MB in base64
MAX_MARKS = 8192  # brackets, braces, commas and colons: bounds what is made of hostile bytes

_KEYS = {"__numpy__", "dtype", "shape"}


def dumps(value: Any) -> str:
    """JSON of plain values and of numpy arrays and scalars of `wire.DTYPES`."""
    return json.dumps(value, default=_packed)


def loads(body: bytes) -> Any:
    """The value of a JSON text; its arrays are copies. Raises WireError naming the field."""
    marks = sum(body.count(mark) for mark in (b"[", b"{", b",", b":"))
    if len(body) > MAX_BODY or marks > MAX_MARKS:
        raise WireError(f"body: at most {MAX_BODY} bytes and {MAX_MARKS} values are taken")
    try:
        plain = json.loads(body, object_pairs_hook=_mapped, parse_constant=_constant)
    except WireError:
        raise
    except (ValueError, RecursionError):
        raise WireError("body: no JSON") from None
    return _value(plain, "", 0)


def _packed(value: Any) -> dict[str, Any]:
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.str not in wire.DTYPES:
        raise WireError(f"{type(value).__name__} cannot be sent")
    data = base64.b64encode(value.tobytes()).decode()
    return {"__numpy__": data, "dtype": value.dtype.str, "shape": list(value.shape)}


def _mapped(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise WireError(f"{wire.join('', next(k for k in keys if keys.count(k) > 1))}: given twice")
    return made


def _constant(name: str) -> None:
    raise WireError(f"{name} is no JSON number")


def _value(node: Any, where: str, depth: int) -> Any:
    if depth > wire.MAX_DEPTH:
        raise WireError(f"{where}: nested deeper than {wire.MAX_DEPTH}")
    if isinstance(node, dict | list) and len(node) > wire.MAX_ENTRIES:
        raise WireError(f"{where or 'body'}: more than {wire.MAX_ENTRIES} entries")
    if isinstance(node, dict):
        if "__numpy__" in node:
            return _array(node, where)
        return {key: _value(item, wire.join(where, key), depth + 1) for key, item in node.items()}
    if isinstance(node, list):
        return [_value(item, wire.join(where, str(i)), depth + 1) for i, item in enumerate(node)]
    if isinstance(node, str) and len(node.encode("utf-8", "surrogatepass")) > wire.MAX_TEXT:
        raise WireError(f"{where or 'body'}: a text of more than {wire.MAX_TEXT} bytes")
    if isinstance(node, int) and not -(2**63) <= node < 2**63:
        raise WireError(f"{where or 'body'}: an integer beyond 64 bits")
    return node


def _array(node: dict[str, Any], where: str) -> np.ndarray | np.generic:
    if set(node) != _KEYS or not isinstance(node["__numpy__"], str):
        raise WireError(f"{where or 'body'}: an array has exactly {', '.join(sorted(_KEYS))}")
    try:
        data = base64.b64decode(node["__numpy__"], validate=True)
    except (binascii.Error, ValueError):
        raise WireError(f"{where or 'body'}: no base64") from None
    array = wire.array(node["dtype"], node["shape"], data, where)
    return array[()] if array.shape == () else array
