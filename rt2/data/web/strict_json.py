"""JSON in which nothing is lost on the way: no repeated member and no NaN."""

import json
from pathlib import Path
from typing import Any

from rt2.data import storage
from rt2.data.errors import DataError
from rt2.data.storage import Url


def loads(data: bytes, where: str) -> Any:
    """The value of a JSON text in UTF-8. Raises DataError, beginning with `where`.

    The standard reader would keep the last of two members of one name and drop the other.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_members, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{where}: not JSON ({reason}). Write it again.") from None


def load(path: Path | Url) -> Any:
    """The value of a JSON file."""
    try:
        data = storage.read(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    return loads(data, str(path))


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"the member {twice[0]!r} stands twice in one object")
    return members


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
