"""Feature store: a folder of banks, and an index from requests to them."""

import hashlib
import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from ssl_risk_rs._files import publish, remove_folder, user_cache
from ssl_risk_rs.bank.at_work import has_writer
from ssl_risk_rs.bank.bank import FeatureBank, is_bank
from ssl_risk_rs.bank.samples import SAMPLES
from ssl_risk_rs.errors import BankError, ParameterError

__all__ = ["REQUESTS", "STORE_VARIABLE", "BankSummary", "FeatureStore", "bank_key"]

#: environment variable with the store's folder
STORE_VARIABLE = "SSL_RISK_STORE"

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
#: folder of the index
REQUESTS = "requests"


@dataclass(frozen=True, slots=True)
class BankSummary:
    """What a listing shows of a bank."""

    key: str
    state: Literal["complete", "incomplete", "damaged"]
    encoder: str | None
    data: str | None
    #: number of the augmented view that images were seen in
    view: int | None
    #: of the encoder: a layer and how it was pooled
    feature: str | None
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
    root : the folder; default `$SSL_RISK_STORE`, else `ssl-risk-rs/banks` in the user's cache folder
        (`~/.cache` on Linux, or `$XDG_CACHE_HOME`). Made when something is written.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(root).expanduser() if root is not None else _default_root()
        #: what decided where the store lies
        self.origin: Literal["argument", "variable", "default"] = (
            "argument" if root is not None else "variable" if os.environ.get(STORE_VARIABLE) else "default"
        )

    def where(self) -> str:
        """A sentence that says where the store lies, and why there."""
        reason = {
            "argument": "as was asked for",
            "variable": f"as the variable {STORE_VARIABLE} says",
            "default": f"the default; set the variable {STORE_VARIABLE} to keep banks elsewhere",
        }[self.origin]
        return f"The feature store is {self.root} ({reason})."

    def make_folder(self) -> None:
        """Make the store's folder where there is none.

        Raises
        ------
        BankError that names another place, where it cannot be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BankError(
                f"the feature store {self.root} cannot be made ({error.strerror}): name a folder that can be written "
                f"to (--store, store=), or set the variable {STORE_VARIABLE}"
            ) from error

    def path_for(self, key: str) -> Path:
        """Folder of the bank with this key, whether it exists or not."""
        if not _KEY.fullmatch(key) or key == REQUESTS:
            raise ParameterError(f"{key!r} is no bank key; `bank_key(facts)` makes one")
        return self.root / key

    def banks(self) -> list[BankSummary]:
        """All banks, latest first; also those that are incomplete or damaged."""
        summaries = [summarize(folder) for folder in self._folders()]
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
        banks = self._folders()
        found = [folder for folder in banks if folder.name == str(name)]
        found = found or [folder for folder in banks if folder.name.startswith(str(name))]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(folder.name[:16] for folder in found[:4]) + (" …" if len(found) > 4 else "")
            raise BankError(
                f"{str(name)!r} is the beginning of {len(found)} keys in {self.root} ({some}); type more of it"
            )
        if not Path(name).expanduser().exists():
            raise BankError(
                f"there is no file or folder {str(name)!r}, and no bank of the store has a key that begins so. "
                f"{self.where()} It holds {len(banks)} banks; `ssl-risk-rs store ls` lists them"
            )
        raise BankError(
            f"{str(name)!r} is no bank's folder. {self.where()} It holds {len(banks)} banks; `ssl-risk-rs store ls` "
            "lists them"
        )

    def remove(self, bank: str | os.PathLike[str]) -> Path:
        """Remove a bank, named as in `resolve`, and say where it was.

        The folder is renamed before anything in it is removed: a process that dies leaves no half bank, and the
        next removal there finishes its work.

        Raises
        ------
        BankError if it is no bank, or one that a writer is at work on.
        """
        folder = self.resolve(bank)
        if folder.is_symlink():
            raise BankError(f"{folder} is a link to {folder.resolve()}; remove that bank, and then the link")
        folder = folder.resolve()
        if part := _part_at_work(folder):
            raise BankError(f"{folder} has a writer at work on its part {part!r}; stop it first")
        remove_folder(folder)
        return folder

    def _folders(self) -> list[Path]:
        """Folders of the banks; those that are being made or removed have other names."""
        if not self.root.is_dir():
            return []
        return sorted(folder for folder in self.root.iterdir() if _KEY.fullmatch(folder.name) and is_bank(folder))

    def open(self, path: Path) -> FeatureBank:
        """Open one of the store's banks, complete or not.

        Raises
        ------
        BankError if it is damaged, with the line that removes it.
        """
        try:
            return _opened(path)
        except BankError as error:
            store = f" --store {shlex.quote(str(self.root))}" if self.origin == "argument" else ""
            raise BankError(
                f"{error}. If it cannot be copied again:  ssl-risk-rs store rm {path.name}{store}  removes this bank, "
                "and the same line makes it anew"
            ) from error

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
        return self.open(path) if is_bank(path) else None

    def remember(self, request: Mapping[str, Any], key: str) -> None:
        """Record that this request leads to the bank `key`; a later word replaces an earlier one."""
        self.path_for(key)  # checks it
        path = self._request_path(request)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"request": json.loads(_canonical(request)), "key": key}, ensure_ascii=False, indent=1)
        publish(path, lambda file: file.write_text(text, encoding="utf-8"))

    def _request_path(self, request: Mapping[str, Any]) -> Path:
        return self.root / REQUESTS / f"{bank_key(request)}.json"

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
    n_bytes = sum(stat.st_size for stat in files)
    when = iso_utc(modified)
    try:
        bank = _opened(folder)
    except (BankError, OSError) as error:
        return BankSummary(
            key=folder.name,
            state="damaged",
            encoder=None,
            data=None,
            feature=None,
            view=None,
            n_rows=0,
            missing=0,
            n_features=0,
            dtype="",
            bytes=n_bytes,
            modified=when,
            path=folder,
            problem=str(error),
        )
    missing = bank.n_missing
    return BankSummary(
        key=folder.name,
        state="incomplete" if missing else "complete",
        encoder=bank.header.encoder,
        data=bank.header.data,
        feature=bank.header.feature,
        view=bank.header.view,
        n_rows=bank.n_rows,
        missing=missing,
        n_features=bank.n_features,
        dtype=bank.dtype,
        bytes=n_bytes,
        modified=when,
        path=folder,
    )


def _opened(folder: Path) -> FeatureBank:
    """The bank, if the file of its samples is there; whether it is damaged is known when it is read."""
    bank = FeatureBank.open(folder)
    if not (folder / SAMPLES).is_file():
        raise BankError(f"{folder} has no {SAMPLES}, which names its rows")
    return bank


def iso_utc(seconds: float) -> str:
    """A time of the file system in ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _canonical(facts: Mapping[str, Any]) -> str:
    try:
        return json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"facts cannot be written as JSON: {error}") from None


def _part_at_work(folder: Path) -> str | None:
    """A part whose lock a writer holds, as far as this system tells."""
    return next((journal.stem for journal in sorted(folder.glob("*.journal")) if has_writer(journal)), None)


def _default_root() -> Path:
    if root := os.environ.get(STORE_VARIABLE):
        return Path(root).expanduser()
    return user_cache() / "banks"
