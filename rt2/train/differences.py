"""Where two JSON values differ, field by field."""

from collections.abc import Iterator
from typing import Any


def differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path such as "model.width", value in `one`, value in `other`); None where it has none."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(set(one) | set(other)):
            below = f"{path}.{key}" if path else key
            yield from differences(one.get(key), other.get(key), below)
    elif one != other:
        yield path, one, other


def short(value: Any) -> str:
    """At most 60 characters of `value`."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:28]}...{text[-28:]}"
