"""The table of a sweep: it fills while pairs run, and is printed when they have ended."""

import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.errors import SslRiskError
from ssl_risk_rs.workflow.sweep import Update
from ssl_risk_rs.workflow.sweep_plan import Plan
from ssl_risk_rs.workflow.sweep_records import Record, State, SweepFolder
from ssl_risk_rs.workflow.sweep_table import totals

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

__all__ = ["Board", "last_line"]

_COMPONENTS = (
    "approx", "usability", "approx_usability", "probe_gen", "enc_gen", "enc_gen_alt", "probe_gen_alt", "agg_risk",
)  # fmt: skip
#: bytes at the end of a log in which its last line is looked for
_TAIL = 4096


class Board:
    """On a terminal a table that is drawn anew, elsewhere a line for each change; both on stderr."""

    def __init__(self, plan: Plan, folder: SweepFolder, *, live: bool) -> None:
        self.folder = folder
        self.logs = {pair.id: folder.file(job.pairs[0].id, "log") for job in plan.jobs for pair in job.pairs}
        self.names = {pair.id: (job.encoder, job.data_name, pair.layer) for job in plan.jobs for pair in job.pairs}
        self.latest: dict[str, Update] = {}
        self.numbers: dict[str, list[dict[str, Any]]] = {}
        self.since: dict[str, float] = {}
        self.live: Live | None = None
        if live and printing.on_terminal():
            self.live = self._drawn()

    def _drawn(self) -> "Live":
        from rich.console import Console
        from rich.live import Live

        return Live(console=Console(stderr=True), get_renderable=self._table, refresh_per_second=2)

    def tell(self, update: Update) -> None:
        """A pair's record changed."""
        pair, state = update.pair.id, update.record.state
        before = self.latest.get(pair)
        self.latest[pair] = update
        if state is State.RUNNING:
            self.since[pair] = time.monotonic()
        if state is State.DONE:
            self.numbers[pair] = self._numbers(update.record)
        if self.live is None and (before is None or before.record.state is not state) and state is not State.WAITING:
            printing.say(self._line(update))

    def say(self, sentence: str) -> None:
        """A sentence, above the table."""
        if self.live is None:
            printing.say(sentence)
        else:
            self.live.console.print(sentence, markup=False, highlight=False)

    def rows(self, records: list[Record], form: str) -> list[dict[str, Any]]:
        """A row for each pair and probe: in percent for people, as fractions for programs."""
        from ssl_risk_rs.report.numbers import hundred
        from ssl_risk_rs.report.text import between

        every = [
            (record, found)
            for record in records
            for found in (self.numbers.get(record.id) or [{}] if record.state is State.DONE else [{}])
        ]
        shown = [name for name in _COMPONENTS if any(name in found for _, found in every)]
        if form == "table" and "approx" in shown and "approx_usability" in shown:  # some have no twin: show the sum
            shown = [name for name in shown if name not in ("approx", "usability")]
            every = [(record, _with_sum(found)) for record, found in every]
        varies: dict[str, bool] = {
            "data": len({r.data for r in records}) > 1,
            "layer": any(r.layer for r in records),
            "probe": len({found.get("probe") for _, found in every if found}) > 1,
        }
        rows = []
        for record, found in every:
            encoder, data, layer = self.names[record.id]
            head = {"encoder": encoder, "data": data, "layer": layer, "probe": found.get("probe")}
            if form == "table":
                percent = {name: f"{hundred(found[name]):.2f}" if name in found else "" for name in shown}
                interval = between(found["low"], found["high"]) if found else record.state.value
                rows.append({**{k: v for k, v in head.items() if varies.get(k, True)}, **percent, "interval": interval})
            else:
                numbers = {name: found.get(name) for name in (*_COMPONENTS, "low", "high")}
                run = None if record.run is None else str(self.folder.root / record.run)
                rows.append({**head, "state": record.state.value, **numbers, "seconds": record.seconds, "run": run,
                             "error": record.error})  # fmt: skip
        return rows

    def _numbers(self, record: Record) -> list[dict[str, Any]]:
        try:
            return totals(record, self.folder)
        except SslRiskError:  # why, is said at the end
            return []

    def _line(self, update: Update) -> str:
        encoder, data, layer = self.names[update.pair.id]
        ended = sum(u.record.state in (State.DONE, State.FAILED) for u in self.latest.values())
        head = f"{ended} of {len(self.names)}: {encoder} on {data}{f', {layer}' if layer else ''}"
        state = update.record.state
        if state is State.RUNNING:
            return f"{head} runs on {update.place or 'this process'}"
        if state is State.FAILED:
            return f"{head} failed: {update.record.error}"
        errors = ", ".join(f"{n['probe']} error {100 * n['agg_risk']:.2f} %" for n in self.numbers[update.pair.id])
        return f"{head} is done: {errors}" if errors else f"{head} is done, and its run folder cannot be read"

    def _table(self) -> "Table":
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        states = [update.record.state for update in self.latest.values()]
        count = {state: states.count(state) for state in State}
        table = Table("encoder", "data", "", "error", "now", box=SIMPLE_HEAD, pad_edge=False, expand=True,
                      title=f"{count[State.DONE]} of {len(self.names)} done, {count[State.FAILED]} failed, "
                      f"{count[State.RUNNING]} at work", title_justify="left")  # fmt: skip
        order = (State.RUNNING, State.FAILED, State.DONE, State.WAITING)
        height = max(4, shutil.get_terminal_size().lines - 6)
        for update in sorted(self.latest.values(), key=lambda u: order.index(u.record.state))[:height]:
            encoder, data, layer = self.names[update.pair.id]
            found = self.numbers.get(update.pair.id)
            error = ", ".join(f"{100 * n['agg_risk']:.2f} %" for n in found or [])
            table.add_row(
                Text(f"{encoder} {layer or ''}".rstrip()), Text(data), Text(update.record.state.value), Text(error),
                Text(self._now(update), no_wrap=True, overflow="ellipsis"),
            )  # fmt: skip
        return table

    def _now(self, update: Update) -> str:
        record = update.record
        if record.state is State.FAILED:
            return record.error or ""
        if record.state is not State.RUNNING:
            return "" if record.seconds is None else f"{record.seconds:,.0f} s"
        minutes, seconds = divmod(int(time.monotonic() - self.since[update.pair.id]), 60)
        return f"{update.place} {minutes}:{seconds:02} {last_line(self.logs[update.pair.id])}"

    def __enter__(self) -> "Board":
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()


def _with_sum(found: dict[str, Any]) -> dict[str, Any]:
    """Approximation and usability as one."""
    return found if "approx" not in found else {**found, "approx_usability": found["approx"] + found["usability"]}


def last_line(log: Path) -> str:
    """What a process said last."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
