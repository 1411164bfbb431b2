"""Damaged records that are left out by choice: listed in the sidecar, counted, and bounded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rt2.data.errors import DataError
from rt2.data.format.dataset_info import Shard
from rt2.data.format.scan import ShardColumns
from rt2.data.storage import Url


def left_out(shards: Sequence[Shard], parts: Sequence[ShardColumns]) -> list[dict[str, Any]]:
    """What the scans of a split left out: shard, record, offset, code, reason."""
    return [
        {
            "shard": shard.file,
            "record": fault.record,
            "offset": fault.offset,
            "code": fault.code,
            "reason": str(fault),
        }
        for shard, part in zip(shards, parts, strict=True)
        for fault in part.quarantined
    ]


def listed(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All entries of a sidecar, each with its split."""
    return [
        {"split": split, **entry}
        for split, described in meta["splits"].items()
        for entry in described["quarantined"]
    ]


def fits(meta: Mapping[str, Any], budget: float) -> bool:
    """Whether a sidecar is what `budget`, a share of all records, would leave of the data set."""
    odd = any(described["odd"] for described in meta["splits"].values())
    return _within(meta, budget) and not (odd and budget > 0)


def _within(meta: Mapping[str, Any], budget: float) -> bool:
    gone = len(listed(meta))
    kept = sum(described["episodes"] for described in meta["splits"].values())
    return gone <= budget * (gone + kept)


def check_budget(directory: Path | Url, meta: Mapping[str, Any], budget: float) -> None:
    """Raises DataError, naming the records and their reason codes, above the budget."""
    if _within(meta, budget):
        return
    found = listed(meta)
    kept = sum(described["episodes"] for described in meta["splits"].values())
    codes = ", ".join(f"{code} {n}" for code, n in Counter(e["code"] for e in found).items())
    first = "; ".join(entry["reason"] for entry in found[:3])
    raise DataError(
        f"{directory}: {len(found)} of {len(found) + kept} records are damaged or odd ({codes}), "
        f"the quarantine allows a share of {budget:g}. Copy the shards again, or raise the "
        f"quarantine knowingly. First: {first}"
    )
