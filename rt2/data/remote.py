"""Requests to storage behind a URL, through fsspec.

At most CONCURRENCY requests are in flight; one that fails for a passing reason (a timeout, a broken
connection, 408, 429 or 5xx) is tried again; neighbouring ranges of one call share a request.
"""

import concurrent.futures
import dataclasses
import functools
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar

from rt2.data.errors import DataError

CONCURRENCY = 16  # requests in flight, a process
ATTEMPTS = 5  # of one request, with waits that double: about 4 s in all
FIRST_WAIT = 0.25  # seconds
TIMEOUT = 60.0  # seconds, one request
GAP = 64 * 1024  # neighbouring ranges this close become one request
LARGEST = 8 * 1024 * 1024  # bytes of one request

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Url:
    """A file or folder behind a URL; `url / name` lies below it."""

    url: str

    def __truediv__(self, name: str) -> "Url":
        return Url(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.url.rstrip("/").rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """The name without its last ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The last ending of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "Url":
        """The folder of the file."""
        return Url(self.url.rstrip("/").rsplit("/", 1)[0])


class Range(NamedTuple):
    """`length` bytes at `offset` of a file."""

    path: Url
    offset: int
    length: int


def read_ranges(ranges: Sequence[Range]) -> list[bytes]:
    """The bytes of every range, in order; neighbours in a file share one request.

    A range that reaches past the end of its file is returned short.
    Raises DataError, naming the URL, where the requests fail or the server ignores ranges.
    """
    groups = _coalesce(ranges)
    found: list[bytes] = [b""] * len(ranges)
    spans = [_span(ranges, group) for group in groups]
    blocks = [read_range(spans[0])] if len(spans) == 1 else pool().map(read_range, spans)
    for group, span, block in zip(groups, spans, blocks, strict=True):
        for i in group:
            start = ranges[i].offset - span.offset
            found[i] = block[start : start + ranges[i].length]
    return found


def _coalesce(ranges: Sequence[Range]) -> list[list[int]]:
    """Numbers of the ranges that are fetched together."""
    order = sorted(range(len(ranges)), key=lambda i: (str(ranges[i].path), ranges[i].offset))
    groups: list[list[int]] = []
    for i in order:
        last = _span(ranges, groups[-1]) if groups else None
        if last is not None and last.path == ranges[i].path:
            end = max(last.offset + last.length, ranges[i].offset + ranges[i].length)
            near = ranges[i].offset <= last.offset + last.length + GAP
            if near and end - last.offset <= LARGEST:
                groups[-1].append(i)
                continue
        groups.append([i])
    return groups


def _span(ranges: Sequence[Range], group: Sequence[int]) -> Range:
    start = min(ranges[i].offset for i in group)
    end = max(ranges[i].offset + ranges[i].length for i in group)
    return Range(ranges[group[0]].path, start, end - start)


def read_range(span: Range) -> bytes:
    """One range by one request; see `read_ranges`."""
    path, start, end = span.path, span.offset, span.offset + span.length
    if span.length == 0:
        return b""
    try:
        data = ask(path, lambda fs: cat(fs, path.url, start, end))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    if len(data) > span.length:
        raise DataError(
            f"{path}: the server ignores the Range header (it sent {len(data)} bytes for "
            f"{span.length}). Use a server that knows ranges, or copy the data set."
        )
    return data


def cat(fs: Any, url: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes from `start` to before `end` of a file."""
    return fs.cat_file(url, start=start, end=end, **_limit(fs))


def info(fs: Any, url: str) -> dict[str, Any]:
    """What the file system knows of a file."""
    return fs.info(url, **_limit(fs))


def _limit(fs: Any) -> dict[str, float]:
    return {"timeout": TIMEOUT} if fs.async_impl else {}


def ask(path: Url, request: Callable[[Any], T]) -> T:
    """The answer to `request(file system)`.

    FileNotFoundError passes through; every other failure becomes a DataError that names the URL.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _slots():
                return request(_file_system(path.url.split("://", 1)[0]))
        except DataError:
            raise
        except Exception as error:  # every file system has errors of its own
            if _missing(error):
                raise FileNotFoundError(path.url) from error
            passing = _passing(error)
            if attempt == ATTEMPTS or not passing:
                cause = error.__cause__ or error if isinstance(error, FileNotFoundError) else error
                said = f"{type(cause).__name__}: {cause}".rstrip(": ")
                raise DataError(
                    f"{path}: cannot be read ({said}; attempts: {attempt}). Check the address, the "
                    "network and the rights to read it."
                ) from error
        time.sleep(FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))
    raise AssertionError("the last attempt returns or raises")


def _missing(error: BaseException) -> bool:
    """Whether the file is not there; over HTTP, fsspec says so of every failed request."""
    if not isinstance(error, FileNotFoundError) or error.__cause__ is None:
        return isinstance(error, FileNotFoundError)
    refused = _status(error.__cause__) not in (None, 404, 410)
    return not refused and not _passing(error.__cause__)


def _status(error: BaseException) -> object:
    return getattr(error, "status", None) or getattr(error, "code", None)


def _passing(error: BaseException) -> bool:
    """Whether a later attempt may succeed."""
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return _passing(error.__cause__)
    status = _status(error)
    if isinstance(status, int):
        return status in (408, 429) or status >= 500
    if isinstance(error, PermissionError):
        return False
    name = type(error).__name__
    broken = "Timeout" in name or name.startswith(("Client", "Server"))
    return broken or isinstance(error, (OSError, TimeoutError))


def _file_system(scheme: str) -> Any:
    return _file_systems(os.getpid(), scheme)


@functools.lru_cache(maxsize=32)
def _file_systems(pid: int, scheme: str) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise DataError(
            f"{scheme}://: cannot be read here ({error}). Install the extra 'remote', or copy the "
            "data set."
        ) from None


def _slots() -> threading.BoundedSemaphore:
    return _per_process(os.getpid())[0]


def pool() -> concurrent.futures.ThreadPoolExecutor:
    """The threads that wait for requests."""
    return _per_process(os.getpid())[1]


@functools.lru_cache(maxsize=2)
def _per_process(pid: int):
    """Nothing of it survives a fork: threads and held slots belong to one process."""
    pool = concurrent.futures.ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="storage")
    return threading.BoundedSemaphore(CONCURRENCY), pool
