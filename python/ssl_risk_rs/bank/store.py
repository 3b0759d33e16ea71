"""Feature store: a folder of banks, and an index from requests to them."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from ssl_risk_rs._files import publish
from ssl_risk_rs.bank import FeatureBank, is_bank
from ssl_risk_rs.errors import BankError, ParameterError

__all__ = ["BankSummary", "FeatureStore", "bank_key"]

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class BankSummary:
    """What a listing shows of a bank."""

    key: str
    state: Literal["complete", "incomplete", "damaged"]
    encoder: str | None
    data: str | None
    n_rows: int
    missing: int
    n_features: int
    dtype: str
    bytes: int
    #: when a file of the bank last changed, ISO 8601, UTC
    modified: str
    path: Path
    #: why a damaged bank cannot be opened
    problem: str | None = None


class FeatureStore:
    """A folder of banks, one subfolder each, named by `bank_key`.

    Parameters
    ----------
    root : the folder; default `$SSL_RISK_STORE`, else `ssl-risk-rs/banks` in the user's cache folder. Made
        when something is written.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(root).expanduser() if root is not None else _default_root()

    def path_for(self, key: str) -> Path:
        """Folder of the bank with this key, whether it exists or not."""
        if not _KEY.fullmatch(key) or key == _REQUESTS:
            raise ParameterError(f"{key!r} is no bank key; `bank_key(facts)` makes one")
        return self.root / key

    def banks(self) -> list[BankSummary]:
        """All banks, latest first; also those that are incomplete or damaged."""
        if not self.root.is_dir():
            return []
        summaries = [summarize(folder) for folder in self.root.iterdir() if is_bank(folder)]
        return sorted(summaries, key=lambda summary: (summary.modified, summary.key), reverse=True)

    def resolve(self, name: str | os.PathLike[str]) -> Path:
        """Folder of the bank that a person means: a path, a key, or the beginning of one key.

        Raises
        ------
        BankError if there is none, or more than one.
        """
        path = Path(name).expanduser()
        if is_bank(path):
            return path
        banks = sorted(folder for folder in self.root.glob("*") if is_bank(folder))
        found = [folder for folder in banks if folder.name == str(name)]
        found = found or [folder for folder in banks if folder.name.startswith(str(name))]
        if len(found) == 1:
            return found[0]
        if found:
            raise BankError(f"{str(name)!r} is the beginning of {len(found)} keys in {self.root}; type more of it")
        raise BankError(f"{str(name)!r} is neither a bank's folder nor a key in {self.root}; see `store ls`")

    def find(self, request: Mapping[str, Any]) -> FeatureBank | None:
        """The bank that an earlier, equal request led to; None if there is none. It may be incomplete.

        Raises
        ------
        BankError if there is one, and it is damaged.
        """
        try:
            entry = json.loads(self._request_path(request).read_text(encoding="utf-8"))
            if entry["request"] != json.loads(_canonical(request)):
                return None
            path = self.path_for(entry["key"])
        except (OSError, ValueError, KeyError, TypeError):  # an unreadable entry is as good as none
            return None
        return FeatureBank.open(path) if is_bank(path) else None

    def remember(self, request: Mapping[str, Any], key: str) -> None:
        """Record that this request leads to the bank `key`; a later word replaces an earlier one."""
        self.path_for(key)  # checks it
        path = self._request_path(request)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"request": json.loads(_canonical(request)), "key": key}, ensure_ascii=False, indent=1)
        publish(path, lambda file: file.write_text(text, encoding="utf-8"))

    def _request_path(self, request: Mapping[str, Any]) -> Path:
        return self.root / _REQUESTS / f"{bank_key(request)}.json"

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.root)!r})"


def bank_key(facts: Mapping[str, Any]) -> str:
    """Hash of facts as canonical JSON (sorted keys, no spaces, UTF-8): 32 hexadecimal digits.

    The facts of a bank are everything that changes its numbers. Equal facts give equal keys on every machine.

    Raises
    ------
    ParameterError if the facts are no JSON, or hold NaN.
    """
    return hashlib.sha256(_canonical(facts).encode()).hexdigest()[:32]


def summarize(folder: Path) -> BankSummary:
    """What a listing shows of the bank in this folder; a damaged one is told, not raised."""
    files = [file.stat() for file in folder.iterdir() if file.is_file()]
    modified = max((stat.st_mtime for stat in files), default=0.0)
    common: dict[str, Any] = {
        "key": folder.name,
        "bytes": sum(stat.st_size for stat in files),
        "modified": datetime.fromtimestamp(modified, timezone.utc).isoformat(timespec="seconds"),
        "path": folder,
    }
    try:
        bank = FeatureBank.open(folder)
    except (BankError, OSError) as error:
        return BankSummary(
            **common,
            state="damaged",
            encoder=None,
            data=None,
            n_rows=0,
            missing=0,
            n_features=0,
            dtype="",
            problem=str(error),
        )
    missing = len(bank.missing_rows())
    encoder, data = (bank.header.get(name) for name in ("encoder", "data"))
    return BankSummary(
        **common,
        state="incomplete" if missing else "complete",
        encoder=None if encoder is None else str(encoder),
        data=None if data is None else str(data),
        n_rows=bank.n_rows,
        missing=missing,
        n_features=bank.n_features,
        dtype=bank.dtype,
    )


def _canonical(facts: Mapping[str, Any]) -> str:
    try:
        return json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"facts cannot be written as JSON: {error}") from None


def _default_root() -> Path:
    if root := os.environ.get("SSL_RISK_STORE"):
        return Path(root).expanduser()
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ssl-risk-rs" / "banks"
