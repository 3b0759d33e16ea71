"""The SHA-256 of a run's record and of its outcomes, which the record names: what was changed later is told."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_risk_rs._files import sha256_of
from ssl_risk_rs.errors import ResultError

__all__ = ["refuse_changed", "with_digests"]

#: the field of run.json that names them; records of earlier builds have none
_FIELD = "sha256"
_RECORD, _OUTCOMES = "run.json", "outcomes.npz"


def with_digests(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A record that names its own digest, less that field, and that of the outcomes in a folder."""
    return {**document, _FIELD: {_RECORD: _of(document), _OUTCOMES: sha256_of(folder / _OUTCOMES)}}


def refuse_changed(document: Mapping[str, Any], folder: Path, *, outcomes: bool = True) -> None:
    """Raise ResultError if the record of a run folder, or its outcomes, were changed after they were written.

    `outcomes=False` leaves them unread.
    """
    if _FIELD not in document:
        return
    named = document[_FIELD] if isinstance(document[_FIELD], Mapping) else {}
    rest = {name: value for name, value in document.items() if name != _FIELD}
    if _of(rest) != named.get(_RECORD):
        raise _changed(folder, _RECORD)
    if outcomes and sha256_of(folder / _OUTCOMES) != named.get(_OUTCOMES):
        raise _changed(folder, _OUTCOMES)


def _changed(folder: Path, name: str) -> ResultError:
    return ResultError(
        f"{folder}: {name} was changed after it was written (its SHA-256 is not the one that {_RECORD} names). Take "
        "the file of this run, or run it again"
    )


def _of(document: Mapping[str, Any]) -> str:
    """Of the values, however they are laid out in the file."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
