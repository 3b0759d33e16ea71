"""A row of a table of measurements, and the table: CSV and print."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

#: what becomes of a row
OK, FAIL = "ok", "FAIL"
NOT_REACHED = "not reached"  # the accuracy asked for
CUT_OFF = "cut off"  # by the time limit: seconds are those of the part done, see the note
NOT_INSTALLED = "not installed"
NOT_RUN = "not run"  # memory or sizes, see the note
UNCHECKED = "unchecked"  # the kernels' own example: its test suite is the check
ERROR = "error"  # of a rival
#: cores used by others from which a line on the terminal says so
BUSY = 0.1


@dataclass
class Row:
    """One measurement; `None` is "not applicable".

    `value` is the accuracy, named by `measure`, and `tolerance` the most it may be. Errors are shares; the
    training error is that of the first 100,000 rows. Memory in MB (10⁶ bytes): the largest resident set, and
    the part of it beyond mapped files. `other_cores`: cores that others used while the process ran; above 0.1,
    times are not to be trusted (OpenMP's barriers then cost up to 50 times as much). `ratio`: seconds by those
    of ours for the same job and goal.
    """

    job: str
    goal: str
    problem: str
    who: str
    threads: int
    seconds_min: float | None = None
    seconds_median: float | None = None
    seconds_max: float | None = None
    repeats: int = 0
    passes: float | None = None
    measure: str = ""
    value: float | None = None
    tolerance: float | None = None
    train_error: float | None = None
    test_error: float | None = None
    peak_mb: float | None = None
    anonymous_mb: float | None = None
    other_cores: float | None = None
    ratio: str = ""
    status: str = NOT_RUN
    note: str = ""
    #: units of work done, where that differs between rows (fits)
    units: float = 1.0

    def timed(self, seconds: list[float]) -> None:
        """Fill in the times of the repeats."""
        if seconds:
            self.seconds_min, self.seconds_max = min(seconds), max(seconds)
            self.seconds_median, self.repeats = median(seconds), len(seconds)

    def judge(self, measure: str, value: float, tolerance: float) -> None:
        """Fill in the accuracy; a value above the tolerance, or NaN, fails the row."""
        self.measure, self.value, self.tolerance = measure, float(value), tolerance
        self.status = OK if value <= tolerance else FAIL

    def add(self, note: str) -> None:
        """Append to the note."""
        self.note = f"{self.note}; {note}" if self.note else note


COLUMNS = tuple(f.name for f in fields(Row) if f.name != "units")


def compare(rows: list[Row]) -> None:
    """Fill in the ratios to ours where it is right; of a row that did not reach its goal, a lower bound."""
    ours = {(r.job, r.goal): r for r in rows if r.who == "ours" and r.seconds_median and r.status == OK}
    for row in rows:
        own = ours.get((row.job, row.goal))
        if own is None or row.seconds_median is None or row.status in (FAIL, ERROR):
            continue
        ratio = (row.seconds_median / row.units) / (own.seconds_median / own.units)  # type: ignore[operator]
        row.ratio = f"{'>' if row.status == NOT_REACHED else ''}{ratio:.2f}"


def write(path: Path, rows: Iterable[Row]) -> None:
    """The table as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()})


def line(row: Row) -> str:
    """A row to read on a terminal."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    ratio = f"{row.ratio}x" if row.ratio else ""
    busy = f"  others used {row.other_cores:.1f} cores;" if (row.other_cores or 0) > BUSY else ""
    return (
        f"{row.job:14} {row.goal:22} {row.who:50} {number(row.seconds_median, '.3f'):>9} s {ratio:>9}  "
        f"{number(row.value, '.2g'):>8} {row.measure:34} test {number(row.test_error, '.4f'):>6} "
        f"{number(row.anonymous_mb, '.0f'):>6} MB  {row.status}{busy}{'  ' + row.note if row.note else ''}"
    )
