"""Several runs kept in one folder: finished ones are found again, failed ones are named and do not stop the others.

The folder holds a run folder for each, and `index.json`, which says what each was made of. The same line again makes
only what is missing, or what has other features since.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, pairwise
from pathlib import Path

from ssl_risk_rs._files import passing_kind, publish
from ssl_risk_rs.decomposition.paired import compare
from ssl_risk_rs.errors import EncoderError, ResultError, SslRiskError
from ssl_risk_rs.results.compare import Comparison
from ssl_risk_rs.results.many import Entry, EpochFrom, Failed, corrected_steps
from ssl_risk_rs.results.run import Run, check_target
from ssl_risk_rs.workflow.banks import RunBanks, is_made_of
from ssl_risk_rs.workflow.locks import alone_in

__all__ = ["Item", "Kept", "RunFolder", "kept_of", "paired_steps", "run_each"]

INDEX = "index.json"
#: question of a line whose run is being written
UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One run to be made: `banks` gives its features, encoding what is missing; `stamp_now` is what `stamp` would be if
    it were made now; the rest as in `Entry` and `Kept`."""

    name: str
    model: str
    banks: Callable[[], RunBanks]
    feature: str | None = None
    epoch: float | None = None
    epoch_from: EpochFrom | None = None
    stamp: str = ""
    stamp_now: Callable[[], str] | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A line of the index: the run in `folder` answers `question` (none while it is written) on the features in `bank`,
    with every probe if it is `complete`; `stamp` tells whether the checkpoint is still the file whose epoch this is."""

    folder: str
    model: str
    question: str
    bank: str
    complete: bool = True
    epoch: float | None = None
    epoch_from: EpochFrom | None = None
    stamp: str = ""


class RunFolder:
    """A folder of runs with its index.

    Raises
    ------
    ResultError if the folder cannot be made, or holds something else.
    """

    def __init__(self, path: Path, question: str, *, force: bool) -> None:
        self.path, self.question, self.force = path, question, force
        self.kept: dict[str, Kept] = {}
        file = path / INDEX
        if file.is_file():
            self.kept = _read_index(file)
            others = [name for name, kept in self.kept.items() if kept.question not in (question, UNKNOWN)]
            if others and not force:
                raise ResultError(
                    f"{path} holds runs that were made otherwise (other images, another image size, other probes, "
                    f"settings, groups, twin or control): {', '.join(others[:4])}; choose another folder (--out), or "
                    "give --force (force=True) to make them again"
                )
        elif not (path.is_dir() and all(passing_kind(left.name) for left in path.iterdir())):
            check_target(path, force=False)

    def find(self, name: str, banks: Mapping[str, Path]) -> Run | None:
        """The finished run of these features, its twin's and its control's, None if it has to be made."""
        kept = self.kept.get(name)
        if self.force or kept is None or not kept.complete or kept.question != self.question:
            return None
        try:
            run = Run.load(self.path / kept.folder)
        except ResultError:  # removed or damaged: it is made again
            return None
        return run if is_made_of(run, banks) else None

    def keep(self, item: Item, run: Run, bank: Path, *, complete: bool) -> Run:
        """Write a run folder and the index."""
        self.path.mkdir(parents=True, exist_ok=True)
        with alone_in(self.path):
            self._read_again()
            folder = self.kept[item.name].folder if item.name in self.kept else ""
            if not folder or ((self.path / folder).exists() and not (self.path / folder / "run.json").is_file()):
                folder = self._free(item.name)
            line = Kept(folder, item.model, self.question, str(bank), complete, item.epoch, item.epoch_from, item.stamp)
            # before the run: what a kill leaves, be it this run or one of before, is made again in its place
            self._write(item.name, replace(line, question=UNKNOWN, complete=False))
        saved = replace(run, path=run.save(self.path / folder, force=(self.path / folder).exists()))
        with alone_in(self.path):
            self._read_again()
            self._write(item.name, line)
        return saved

    def refresh(self, item: Item) -> None:
        """Let the line of a finished run say what is known of its encoder now: its epoch may have been written anew."""
        line = self.kept[item.name]
        now = replace(line, model=item.model, epoch=item.epoch, epoch_from=item.epoch_from, stamp=item.stamp)
        if now != line:
            with alone_in(self.path):
                self._read_again()
                self._write(item.name, now)

    def _read_again(self) -> None:
        """Take over what others have written since."""
        if (file := self.path / INDEX).is_file():
            self.kept = _read_index(file)

    def _write(self, name: str, line: Kept) -> None:
        self.kept[name] = line
        text = json.dumps({name: asdict(kept) for name, kept in self.kept.items()}, indent=1, ensure_ascii=False)
        publish(self.path / INDEX, lambda file: file.write_text(text + "\n", encoding="utf-8"))

    def _free(self, name: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip("._")[:60] or "run"
        taken = {kept.folder for kept in self.kept.values()}
        names = (stem if i == 0 else f"{stem}_{i}" for i in count())
        return next(name for name in names if name not in taken and not (self.path / name).exists())


def kept_of(folder: Path) -> Kept | None:
    """The line of the index beside a run folder; None where there is no index that has one."""
    file = folder.parent / INDEX
    try:
        lines = _read_index(file).values() if file.is_file() else ()
    except ResultError:  # another program's
        return None
    return next((line for line in lines if line.folder == folder.name), None)


def paired_steps(entries: Sequence[Entry], say: Callable[[str], None]) -> tuple[Comparison, ...]:
    """Comparisons of consecutive runs, for each probe of the first; those that cannot be paired are said."""
    if len(entries) < 2:
        return ()
    found: list[Comparison] = []
    for probe in entries[0].run.probes:
        try:
            found += corrected_steps([
                compare([one.run, other.run], names=[one.name, other.name], probe=probe)
                for one, other in pairwise(entries)
            ])  # fmt: skip
        except SslRiskError as error:
            say(f"The {probe} probes of consecutive runs are not paired: {error}")
    return tuple(found)


def _read_index(file: Path) -> dict[str, Kept]:
    try:
        return {name: Kept(**line) for name, line in json.loads(file.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ResultError(f"{file} is no index of runs ({error}); choose another --out") from error


def run_each(
    items: Iterable[Item],
    folder: RunFolder,
    evaluate: Callable[[Item, RunBanks], tuple[Run, SslRiskError | None]],
    *,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Entry], list[Failed]]:
    """Make what is missing, in order; an expected failure of one is recorded and the next follows.

    Raises
    ------
    What is no SslRiskError or OSError.
    """
    entries: list[Entry] = []
    failed: list[Failed] = []
    for item in items:
        try:
            banks = item.banks()
            if item.stamp_now is not None and item.stamp_now() != item.stamp:
                raise EncoderError(
                    f"{item.model} was changed while this ran: its epoch is that of the file of before; run again"
                )
            run = folder.find(item.name, banks.paths())
            if run is None:
                if item.name in folder.kept and not folder.force:
                    say(
                        f"{item.name} is run again: its features, its twin or its control have changed, or its run was "
                        "not complete."
                    )
                made, failure = evaluate(item, banks)
                made = replace(made, provenance=replace(made.provenance, command=command))
                run = folder.keep(item, made, banks.encoder.path, complete=failure is None)
                if failure is not None:
                    failed.append(Failed(item.name, str(failure)))
            else:
                folder.refresh(item)
                say(f"{item.name} was finished before: {run.path}.")
        except (SslRiskError, OSError) as error:
            failed.append(Failed(item.name, str(error)))
            say(f"{item.name} failed, the others go on: {error}")
            continue
        entries.append(Entry(item.name, item.model, run, item.feature, item.epoch, item.epoch_from))
    return entries, failed
