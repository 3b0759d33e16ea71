"""Every encoder on every data set: a run for each pair, by lines that each do one encoder on one data set."""

import os
import shlex
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.bank.store import FeatureStore, bank_key
from ssl_risk_rs.errors import SslRiskError
from ssl_risk_rs.events import Event, Report
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.workflow.banks import Ensure, banks_of, ensure_for, others_facts
from ssl_risk_rs.workflow.engines import Change, Engine, Line
from ssl_risk_rs.workflow.evaluate import answer_of
from ssl_risk_rs.workflow.locks import hold, hold_if_free, hold_in_store, holder, is_held
from ssl_risk_rs.workflow.sweep_plan import Job, Pair, Plan, SweepSettings, run_key
from ssl_risk_rs.workflow.sweep_records import Record, State, SweepFolder

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank

__all__ = ["Sweep", "Update", "run_sweep", "unfinished"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Update:
    """A pair, its record as it is now, and where it runs."""

    pair: Pair
    record: Record
    place: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """A plan, how it is done, and where.

    line : the arguments of the program that do one job
    """

    plan: Plan
    asked: SweepSettings
    folder: SweepFolder
    line: Callable[[Job], tuple[str, ...]]
    command: str = ""

    def retry(self, job: Job) -> str:
        """The line that does a job again, to be pasted."""
        return shlex.join(["ssl-risk-rs", *self.line(job)])


def unfinished(sweep: Sweep) -> list[tuple[Job, tuple[Pair, ...]]]:
    """Jobs with pairs that have no run yet, and those pairs."""
    done = sweep.folder.finished()
    found = [(job, tuple(pair for pair in job.pairs if pair.key not in done)) for job in sweep.plan.jobs]
    return [(job, pairs) for job, pairs in found if pairs]


def run_sweep(
    sweep: Sweep,
    engine: Engine,
    *,
    tell: Callable[[Update], None],
    say: Say,
    report: Report | None = None,
) -> list[Record]:
    """Run what is not finished and give the records of all pairs.

    Parameters
    ----------
    tell : called whenever a pair's record changes
    say, report : receive sentences; events, where the only job runs in this process

    Raises
    ------
    KeyboardInterrupt on ^C, when processes have committed what they have. A pair that fails raises nothing: its record
    says so.
    """
    folder = sweep.folder
    left = unfinished(sweep)
    todo = {pair.id for _, pairs in left for pair in pairs}
    done = folder.finished()
    for job in sweep.plan.jobs:
        for pair in job.pairs:
            if pair.id in todo:
                record = _record(job, pair, State.WAITING)
                before = folder.read(pair.id)
                # one whose key is only known with its bank may have been finished by another sweep just now
                finished = before is not None and before.state is State.DONE and pair.key is None
                if not finished and not is_held(folder.file(pair.id, "lock")):
                    folder.write(record)
                tell(Update(pair, record))
            else:
                run = done[pair.key or ""].name
                record = folder.read(pair.id) or _record(job, pair, State.DONE)
                record = replace(
                    record, state=State.DONE, key=pair.key, run=run, error=None, error_type=None, retry=None
                )
                folder.write(record)
                tell(Update(pair, record))
    folder.collect()
    # what another sweep is at work on comes last: by then it may be finished
    left.sort(key=lambda item: any(is_held(folder.file(pair.id, "lock")) for pair in item[1]))
    failed: dict[str, Record] = {}
    try:
        if len(left) == 1 and engine.here:
            _alone(sweep, left[0][0], tell=tell, say=say, report=report)
        elif left:
            failed = _by_lines(sweep, [job for job, _ in left], engine, tell=tell, say=say)
    finally:
        records = {record.id: record for record in folder.collect()}
    for name, record in failed.items():
        if records[name].state is not State.DONE:  # another sweep is to try it once more, or does
            records[name] = record
    return [records[pair.id] for job in sweep.plan.jobs for pair in job.pairs]


def _alone(
    sweep: Sweep,
    job: Job,
    *,
    tell: Callable[[Update], None],
    say: Say,
    report: Report | None,
) -> None:
    for pair in job.pairs:
        tell(Update(pair, work(sweep, job, pair, say=say, report=report)))


def _by_lines(
    sweep: Sweep,
    jobs: Sequence[Job],
    engine: Engine,
    *,
    tell: Callable[[Update], None],
    say: Say,
) -> dict[str, Record]:
    """A line for each job; the failures of this sweep's own lines by pair, whatever others have tried since."""
    folder = sweep.folder
    by_name = {job.pairs[0].id: job for job in jobs}
    before: dict[str, Record | None] = {}  # failures of earlier attempts
    failed: dict[str, Record] = {}
    lines = [Line(name, sweep.line(job), folder.file(name, "log")) for name, job in by_name.items()]
    for job in jobs:
        lock = folder.file(job.pairs[0].id, "lock")
        if (who := holder(lock)) and is_held(lock):
            say(f"{job.encoder} on {job.data_name}: {who}, is at work on it; it comes last here.")

    def changed(change: Change) -> None:
        job = by_name[change.line.name]
        if change.state == "lost":
            say(f"{job.encoder} on {job.data_name}: {change.place} was lost; it is started again elsewhere.")
            return
        done = folder.finished() if change.state == "ended" else {}
        for pair in job.pairs:
            record = folder.read(pair.id) or _record(job, pair, State.WAITING)
            if change.state == "started":
                record = replace(record, state=State.RUNNING)
                before[pair.id] = folder.failure(pair.id)
            elif (record.key or pair.key) in done:
                run = done[record.key or pair.key or ""].name
                record = replace(record, state=State.DONE, run=run, error=None, error_type=None, retry=None)
            elif record.state is not State.FAILED:
                # another sweep has taken the record over, or the process died before it could say why
                failure = folder.failure(pair.id)
                record = (
                    failure
                    if failure is not None and failure != before.get(pair.id)
                    else _died(sweep, job, pair, change)
                )
            if record.state is State.FAILED:
                failed[pair.id] = record
            tell(Update(pair, record, change.place))
        if change.state == "ended":
            folder.collect()

    engine.run(lines, changed)
    return failed


def _died(sweep: Sweep, job: Job, pair: Pair, change: Change) -> Record:
    """The record of a pair whose process died; written unless somebody is at work on the pair."""
    folder = sweep.folder
    record = replace(
        _record(job, pair, State.FAILED), error_type="ProcessDied", error=_death(change), retry=sweep.retry(job)
    )
    with hold_if_free(folder.file(pair.id, "lock")) as free:
        if free:
            folder.write(record)
    return record


def _death(change: Change) -> str:
    how = "its machine died again and again" if change.code is None else f"it ended with status {change.code}"
    if change.code is not None and change.code < 0:
        how = f"it was killed by signal {-change.code}" + (", perhaps for want of memory" if change.code == -9 else "")
    if change.code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        return f"The process on {change.place} was told to end (signal {change.code - 128}): the same line goes on."
    return f"The process on {change.place} gave no reason: {how}. What it said is in {change.line.log}."


# --- one pair, in this process


def work(sweep: Sweep, job: Job, pair: Pair, *, say: Say, report: Report | None) -> Record:
    """Make the run of a pair, unless it is there; the record says how it ended.

    Raises
    ------
    KeyboardInterrupt; what fails otherwise is in the record.
    """
    folder = sweep.folder
    with hold(folder.file(pair.id, "lock"), say):
        began = time.perf_counter()
        before = folder.read(pair.id)
        record = replace(
            _record(job, pair, State.RUNNING),
            key=pair.key or (None if before is None else before.key),  # another sweep may ask for its run meanwhile
            host=socket.gethostname(),
            pid=os.getpid(),
            started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        there = folder.finished().get(pair.key or "")  # another sweep may have made it meanwhile
        if there is not None:
            record = replace(folder.read(pair.id) or record, state=State.DONE, run=there.name, key=pair.key)
            folder.write(record)
            return record
        folder.write(record)
        watch = _Watch(report)
        try:
            record = _evaluate(sweep, job, pair, record, watch, say)
        except KeyboardInterrupt:
            folder.write(replace(record, state=State.WAITING))
            raise
        except Exception as error:
            if not isinstance(error, (SslRiskError, OSError)):
                say(traceback.format_exc())
            record = replace(
                record, state=State.FAILED, error_type=type(error).__name__, error=str(error), retry=sweep.retry(job)
            )
        record = replace(
            record,
            seconds=round(time.perf_counter() - began, 3),
            encoded=watch.encoded,
            images_per_second=watch.rate,
        )
        folder.write(record)
        return record


def _evaluate(sweep: Sweep, job: Job, pair: Pair, record: Record, watch: "_Watch", say: Say) -> Record:
    asked, folder = sweep.asked, sweep.folder
    question = asked.question
    layers = tuple(layer for one in job.pairs if (layer := one.layer) is not None) or None
    encoding = question.encoding.for_encoder(pair.encoder)
    every = replace(encoding, layers=layers)
    own = replace(encoding, layers=None if pair.layer is None else (pair.layer,))
    plain = ensure_for(pair.data, question, store=asked.store, say=say, report=watch)
    ensure = _one_at_a_time(plain, pair.data, FeatureStore(asked.store), say)
    ensure(pair.encoder, every)  # all layers from one pass
    banks = banks_of(pair.encoder, pair.data, question, ensure, encoding=own, say=say)
    key = pair.key
    if key is None:  # only now is it known what the encoders are
        others = others_facts(banks.others.names, banks.others.paths())
        subject = {"bank": banks.encoder.path.name, "layer": pair.layer, **({"others": others} if others else {})}
        key = run_key(subject, asked)
        record = replace(record, key=key)
        if (there := folder.finished().get(key)) is not None:
            return replace(record, state=State.DONE, run=there.name)
    run, failure = answer_of(banks, pair.encoder, pair.data, question, report=watch.report, data_named=asked.data_named)
    request = None if failure is not None else key  # a run that lacks a probe is kept and is not finished
    run = replace(run, provenance=replace(run.provenance, command=sweep.command, request=request))
    target = folder.root / _name(job, pair, key)
    run.save(target, force=True)
    if failure is not None:
        raise failure
    return replace(record, state=State.DONE, run=target.name)


class _Watch:
    """Passes events on, and keeps what encoding reached."""

    def __init__(self, report: Report | None) -> None:
        self.report = report
        self.first: float | None = None
        self.encoded = 0
        self.rate: float | None = None

    def __call__(self, event: Event) -> None:
        if event.stage == "encode":
            self.first = event.done if self.first is None else self.first
            self.encoded = int(event.done - self.first)
            self.rate = round(event.rate, 3) if event.rate and self.encoded else self.rate
        if self.report is not None:
            self.report(event)


def _one_at_a_time(ensure: Ensure, data: str, store: FeatureStore, say: Say) -> Ensure:
    """The same, such that of several processes with the same question one encodes and the others wait: a twin or
    a control belongs to many pairs."""

    def locked(model: str, encoding: Encoding) -> "dict[str, FeatureBank]":
        facts = {"model": model, "data": data, "limit": encoding.limit, "img_size": encoding.img_size}
        with hold_in_store(store.root, bank_key(facts), say):
            return ensure(model, encoding)

    return locked


def _record(job: Job, pair: Pair, state: State) -> Record:
    return Record(pair.id, pair.encoder, pair.data, pair.layer, state, key=pair.key, images=job.n_images)


def _name(job: Job, pair: Pair, key: str) -> str:
    """Name of a run folder: what a person reads, and the beginning of the hash."""
    parts: Iterable[str] = (Path(job.encoder).name, job.data_name, *(() if pair.layer is None else (pair.layer,)))
    words = ("".join(c if c.isalnum() or c in "-_." else "_" for c in part)[:40] for part in parts)
    return "_".join([*words, key[:8]])
