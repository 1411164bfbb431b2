"""From the plain values of a config or a JSON file to frozen dataclasses."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from rt2.data.errors import DataError, nearest

T = TypeVar("T")


def read(kind: type[T], value: Any) -> T:
    """An object of the dataclass `kind` from a mapping of its fields, where it is not one already.

    Lists become tuples, at any depth. Raises DataError for anything else, and for an unknown or
    missing field.
    """
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise DataError(f"expected a mapping of the fields of {kind.__name__}, got {value!r}")
    known = [field.name for field in dataclasses.fields(kind)]
    for key in value.keys() - set(known):
        raise DataError(f"unknown field {key!r} of a {kind.__name__}: {nearest(key, known)}")
    try:
        return kind(**{key: _tuples(item) for key, item in value.items()})
    except TypeError as error:
        raise DataError(str(error)) from None


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
