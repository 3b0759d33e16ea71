"""What runs that ended early, and banks that went, have left in a store."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from ssl_risk_rs._files import passing_kind, remove_folder
from ssl_risk_rs.bank.at_work import has_writer
from ssl_risk_rs.bank.bank import is_bank
from ssl_risk_rs.bank.samples import SAMPLES
from ssl_risk_rs.bank.store import REQUESTS, BankSummary, FeatureStore, iso_utc, summarize
from ssl_risk_rs.errors import ParameterError

__all__ = ["Leftover", "find_leftovers", "remove_leftovers"]

#: a bank's key, unless somebody else named it
_HASH = re.compile(r"[0-9a-f]{32}")
_DAY = 24 * 3600.0
#: seconds after which nobody writes a temporary file any more, makes the bank of a request, or leaves a part unchanged
#: that it is at work on: all take seconds
_ABANDONED = _DAY


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that nobody has gone on with.

    Attributes
    ----------
    kind : "incomplete" bank, which the line that began it would fill; "temporary" file or folder; "request" that leads
        to no bank; "headless" folder of a bank that has lost its bank.json
    path : where it lies
    bytes : on the disk
    modified : when it last changed, ISO 8601, UTC
    why : what it is, as a user reads it
    """

    kind: Literal["incomplete", "temporary", "request", "headless"]
    path: Path
    bytes: int
    modified: str
    why: str


def find_leftovers(store: FeatureStore, *, days: float) -> list[Leftover]:
    """Incomplete banks that have not changed for so many days and have no writer; what processes that died a day ago
    left beside their files; requests whose bank is gone for a day, and folders of banks that have no bank.json.
    Complete banks and other damaged ones never are.

    Raises
    ------
    ParameterError unless `days` is a number from 0.
    """
    if not days >= 0:  # NaN too
        raise ParameterError(f"an age of {days:g} days is no number from 0")
    if not store.root.is_dir():
        return []
    incomplete = (_incomplete(bank, days) for bank in store.banks())
    found = [*filter(None, incomplete), *_temporary(store.root), *_requests(store), *_headless(store.root)]
    return sorted(found, key=lambda left: (left.kind, left.modified, left.path))


def remove_leftovers(store: FeatureStore, left: Sequence[Leftover], *, days: float) -> list[Leftover]:
    """Remove those that still are what they were when they were found, and say which went."""
    gone, still = [], set(find_leftovers(store, days=days))
    for one in left:
        if one not in still or (one.kind == "incomplete" and not _is_still(one, days)):
            continue  # gone on with meanwhile, or gone
        if one.path.is_dir():
            remove_folder(one.path)
        else:
            one.path.unlink(missing_ok=True)
        gone.append(one)
    return gone


def _is_still(one: Leftover, days: float) -> bool:
    """Whether an incomplete bank is what it was: others may have been removed for minutes."""
    return is_bank(one.path) and _incomplete(summarize(one.path), days) == one


def _incomplete(bank: BankSummary, days: float) -> Leftover | None:
    now, changed = time.time(), datetime.fromisoformat(bank.modified).timestamp()
    if bank.state != "incomplete" or not changed <= now - days * _DAY or bank.path.is_symlink():
        return None
    writers = {has_writer(journal) for journal in bank.path.glob("*.journal")}
    if True in writers or (None in writers and changed > now - _ABANDONED):  # None: nobody can tell
        return None
    why = f"{bank.encoder or '?'} on {bank.data or '?'}: {bank.missing:,} of {bank.n_rows:,} rows are missing"
    return Leftover("incomplete", bank.path, bank.bytes, bank.modified, why)


def _temporary(root: Path) -> Iterator[Leftover]:
    """Beside banks, and in them and in the folders of requests and scans."""
    for path in (*root.glob(".*"), *root.glob("*/.*")):
        kind = passing_kind(path.name)
        if kind is None or path.is_symlink():
            continue
        try:
            changed, size = _extent(path)
        except OSError:  # its process was alive
            continue
        if changed > time.time() - _ABANDONED:
            continue
        if kind == "written" and is_bank(path) and summarize(path).state == "complete":
            continue  # one that was to be replaced, and was not
        why = "a removal that was cut off" if kind == "removed" else "a write that died"
        yield Leftover("temporary", path, size, iso_utc(changed), why)


def _headless(root: Path) -> Iterator[Leftover]:
    """Folders with the rows of a bank, under a key that `bank_key` makes, and nothing that says what they are."""
    for path in root.iterdir():
        if not _HASH.fullmatch(path.name) or path.is_symlink() or not path.is_dir() or is_bank(path):
            continue
        try:
            names = {file.name for file in path.iterdir()}
            changed, size = _extent(path)
        except OSError:  # not ours to judge
            continue
        rows = SAMPLES in names and any(name.endswith((".rows.npy", ".journal")) for name in names)
        if rows and changed <= time.time() - _ABANDONED:
            yield Leftover("headless", path, size, iso_utc(changed), "a bank whose bank.json is gone")


def _requests(store: FeatureStore) -> Iterator[Leftover]:
    for path in sorted((store.root / REQUESTS).glob("*.json")):
        try:
            stat = path.lstat()
            text = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        except OSError:  # not ours to judge
            continue
        if text is None or stat.st_mtime > time.time() - _ABANDONED:
            continue
        try:
            key = json.loads(text)["key"]
            bank = store.path_for(key)
        except (ValueError, KeyError, TypeError, ParameterError):
            yield Leftover("request", path, stat.st_size, iso_utc(stat.st_mtime), "cannot be read")
            continue
        if not bank.is_symlink() and not bank.exists():
            yield Leftover("request", path, stat.st_size, iso_utc(stat.st_mtime), f"leads to bank {key}, which is gone")


def _extent(path: Path) -> tuple[float, int]:
    """When something last changed, and its bytes, with all that is in it."""
    stats = [path.lstat(), *(inner.lstat() for inner in (path.rglob("*") if path.is_dir() else ()))]
    return max(stat.st_mtime for stat in stats), sum(stat.st_size for stat in stats)
