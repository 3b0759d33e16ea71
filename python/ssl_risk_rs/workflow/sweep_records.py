"""What a sweep keeps in its folder: a run for each pair, a record of each attempt, who is at work, and sweep.json.

    OUT/RUN/                run folders, which `read_results`, `compare` and `study` take
    OUT/sweep.json          all records; docs/scale.md has its schema
    OUT/.sweep/ID.json      the record of a pair, written by whoever works on it
    OUT/.sweep/ID.failed    the record of its last failure, which a further attempt leaves there
    OUT/.sweep/ID.lock      held by the process at work on a pair
    OUT/.sweep/ID.log       what its process said

Records are files of their own, so that several sweeps and machines write side by side; sweep.json is made from them.
"""

import json
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from ssl_risk_rs._files import passing_kind, publish, unwritable
from ssl_risk_rs.errors import DataError
from ssl_risk_rs.results._json import from_json, to_json
from ssl_risk_rs.workflow.locks import hold

__all__ = ["Record", "State", "SweepFolder"]

#: of sweep.json and the records; raised when a field changes its meaning
SCHEMA_VERSION = 1


class State(Enum):
    """How far a pair is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Record:
    """A pair and its latest attempt; docs/scale.md describes the fields."""

    id: str
    encoder: str
    data: str
    layer: str | None
    state: State
    key: str | None = None
    run: str | None = None
    error_type: str | None = None
    error: str | None = None
    retry: str | None = None
    host: str | None = None
    pid: int | None = None
    started: str | None = None
    seconds: float | None = None
    images: int | None = None
    encoded: int | None = None
    images_per_second: float | None = None


class SweepFolder:
    """The folder of a sweep; made when something is written."""

    def __init__(self, root: "Path | str") -> None:
        self.root = Path(root).expanduser().absolute()
        self.hidden = self.root / ".sweep"

    def file(self, pair: str, suffix: str) -> Path:
        """A file of a pair's own."""
        return self.hidden / f"{pair}.{suffix}"

    def read(self, pair: str) -> Record | None:
        """The record of a pair; None if there is none that can be read."""
        return self._read(pair, "json")

    def failure(self, pair: str) -> Record | None:
        """The record of a pair's last failure, whatever was tried since; None if there is none that can be read."""
        return self._read(pair, "failed")

    def _read(self, pair: str, suffix: str) -> Record | None:
        try:
            return from_json(Record, json.loads(self.file(pair, suffix).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, record: Record) -> None:
        """Replace the record of a pair."""
        self.hidden.mkdir(parents=True, exist_ok=True)
        text = json.dumps(to_json(record), ensure_ascii=False, indent=1)
        for suffix in ("failed", "json") if record.state is State.FAILED else ("json",):
            publish(self.file(record.id, suffix), lambda file: file.write_text(text, encoding="utf-8"))

    def finished(self) -> dict[str, Path]:
        """Run folders by the hash of what was asked for, whatever their names are."""
        found = {}
        for file in sorted(self.root.glob("*/run.json")):
            if passing_kind(file.parent.name):  # it is being written, or its writer was killed
                continue
            try:
                request = json.loads(file.read_text(encoding="utf-8"))["request"]
            except (OSError, ValueError, KeyError, TypeError):  # no run of a sweep, or damaged
                continue
            if isinstance(request, str):
                found[request] = file.parent
        return found

    def records(self) -> list[Record]:
        """All records, in the order of data, encoders and layers."""
        done = self.finished()
        records = [record for file in self.hidden.glob("*.json") if (record := self.read(file.stem)) is not None]
        records = [_with_run(record, done) for record in records]
        return sorted(records, key=lambda r: (r.data, r.encoder, r.layer or "", r.id))

    def collect(self) -> list[Record]:
        """Make sweep.json from the records, and give them."""
        records = self.records()
        document = {"schema_version": SCHEMA_VERSION, "pairs": [to_json(record) for record in records]}
        text = json.dumps(document, ensure_ascii=False, indent=1)
        with hold(self.hidden / "sweep.lock"):  # two temporary files at once would do no harm, two orders would
            publish(self.root / "sweep.json", lambda file: file.write_text(text, encoding="utf-8"))
        return records

    def check(self) -> None:
        """Raise DataError unless the folder can be written to: before hours of work, not after."""
        if (above := unwritable(self.root)) is not None:
            raise DataError(f"{self.root} cannot be made: {above} is no folder one can write to; choose another --out")
        if (self.root / "run.json").exists():
            raise DataError(f"{self.root} is the folder of one run; a sweep needs one of its own: choose another --out")


def _with_run(record: Record, done: dict[str, Path]) -> Record:
    """A record as the run folders have it: they are the truth where a process died between the two."""
    folder = None if record.key is None else done.get(record.key)
    if folder is not None:
        return replace(record, state=State.DONE, run=folder.name, error_type=None, error=None, retry=None)
    if record.state is State.DONE:  # its run was removed
        return replace(record, state=State.WAITING, run=None)
    return record
