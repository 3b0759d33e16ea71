"""What runs that ended early, and banks that went, have left in a store."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from ssl_risk_rs._files import remove_folder
from ssl_risk_rs.bank.bank import is_bank
from ssl_risk_rs.bank.store import REQUESTS, FeatureStore, part_at_work

__all__ = ["Leftover", "find_leftovers", "remove_leftover"]

#: names of files and folders that are written beside their target, and of folders that are being removed
_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.(tmp|removed)")
#: seconds after which nobody writes a temporary file any more, nor makes the bank of a request: both take seconds
_ABANDONED = 24 * 3600.0
_DAY = 24 * 3600


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that nothing will use.

    Attributes
    ----------
    kind : "incomplete" bank, "temporary" file or folder, "request" that leads to no bank
    path : where it lies
    bytes : on the disk
    modified : when it last changed, ISO 8601, UTC
    why : what it is, as a user reads it
    """

    kind: Literal["incomplete", "temporary", "request"]
    path: Path
    bytes: int
    modified: str
    why: str


def find_leftovers(store: FeatureStore, *, days: float) -> list[Leftover]:
    """Incomplete banks that have not changed for so many days and have no writer; what processes that died a day ago
    left beside their files; requests whose bank is gone for a day. Complete banks and damaged ones never are."""
    if not store.root.is_dir():
        return []
    found = [*_incomplete(store, days), *_temporary(store.root), *_requests(store)]
    return sorted(found, key=lambda left: (left.kind, left.modified, left.path))


def remove_leftover(store: FeatureStore, left: Leftover) -> None:
    """Remove one; what is gone already is none the worse.

    Raises
    ------
    BankError for a bank that a writer has begun to work on since.
    """
    if left.kind == "incomplete":
        store.remove(left.path)
    elif left.path.is_dir():
        remove_folder(left.path)
    else:
        left.path.unlink(missing_ok=True)


def _incomplete(store: FeatureStore, days: float) -> Iterator[Leftover]:
    before = time.time() - days * _DAY
    for bank in store.banks():
        if bank.state != "incomplete" or datetime.fromisoformat(bank.modified).timestamp() > before:
            continue
        if bank.path.is_symlink() or part_at_work(bank.path):
            continue
        why = f"{bank.encoder or '?'} on {bank.data or '?'}: {bank.missing:,} of {bank.n_rows:,} rows are missing"
        yield Leftover("incomplete", bank.path, bank.bytes, bank.modified, why)


def _temporary(root: Path) -> Iterator[Leftover]:
    """Beside banks, and in them and in the folders of requests and scans."""
    for path in (*root.glob(".*"), *root.glob("*/.*")):
        if not _TEMPORARY.fullmatch(path.name) or path.is_symlink():
            continue
        try:
            changed, size = _extent(path)
        except FileNotFoundError:  # its process was alive
            continue
        if changed < time.time() - _ABANDONED:
            why = "a removal that was cut off" if path.name.endswith(".removed") else "a file that was never finished"
            yield Leftover("temporary", path, size, _iso(changed), why)


def _requests(store: FeatureStore) -> Iterator[Leftover]:
    for path in sorted((store.root / REQUESTS).glob("*.json")):
        try:
            stat = path.stat()
            key = json.loads(path.read_text(encoding="utf-8"))["key"]
            there = is_bank(store.root / key)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            key, there = "", False
        if not there and stat.st_mtime < time.time() - _ABANDONED:
            why = f"leads to bank {key}, which is gone" if key else "cannot be read"
            yield Leftover("request", path, stat.st_size, _iso(stat.st_mtime), why)


def _extent(path: Path) -> tuple[float, int]:
    """When something last changed, and its bytes, with all that is in it."""
    stats = [path.lstat(), *(inner.lstat() for inner in (path.rglob("*") if path.is_dir() else ()))]
    return max(stat.st_mtime for stat in stats), sum(stat.st_size for stat in stats)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
