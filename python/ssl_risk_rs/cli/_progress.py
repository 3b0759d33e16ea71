"""The events of long jobs on stderr."""

import time
from types import TracebackType
from typing import TYPE_CHECKING

from ssl_risk_rs.cli import _printing as printing
from ssl_risk_rs.events import Event, Stage

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["EventDisplay"]

#: seconds between two lines where stderr is no terminal
LINE_EVERY = 30.0

#: what each stage does, and what it counts
_STAGES: dict[Stage, tuple[str, str]] = {
    "scan": ("looking for corrupt images", "images"),
    "compare": ("looking for test images among the training images", "images"),
    "encode": ("encoding", "images"),
    "import": ("importing", "rows"),
    "moments": ("summing moments", "rows"),
    "tune": ("choosing the penalty", "fits"),
    "fit": ("fitting", "passes"),
    "judge": ("judging", "rows"),
    "intervals": ("computing intervals", "resamples"),
}


class EventDisplay:
    """Call it with each `Event`: a bar with counts, rate, bottleneck and time left on a terminal, a line now and
    then elsewhere. Nothing is shown, and rich not imported, before the first call."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._tasks: dict[Stage, TaskID] = {}
        self._said = time.monotonic()

    def __call__(self, event: Event) -> None:
        if not printing.on_terminal():
            self._line(event)
            return
        if self._bar is None:
            self._bar = _bar()
            self._bar.start()
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bar.add_task(_title(event), total=event.total, rate="", left="")
        self._bar.update(
            self._tasks[event.stage],
            description=_title(event),
            completed=event.done,
            total=event.total,
            rate=_rate(event),
            left="" if event.seconds_left is None else f"{_clock(event.seconds_left)} left",
        )

    def _line(self, event: Event) -> None:
        now = time.monotonic()
        if now - self._said < LINE_EVERY:
            return
        self._said = now
        unit = _STAGES[event.stage][1]
        count = (
            f"{event.done:,.0f} {unit}" if event.total is None else f"{event.done:,.0f} of {event.total:,.0f} {unit}"
        )
        left = "" if event.seconds_left is None else f"{_clock(event.seconds_left)} left"
        printing.say(f"{_title(event)}: {', '.join(filter(None, [count, _rate(event), left]))}")

    def __enter__(self) -> "EventDisplay":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
    )


def _title(event: Event) -> str:
    title = _STAGES[event.stage][0]
    step = f"step {event.step} of {event.steps}: " if event.steps else ""
    return f"{step}{title} ({event.detail})" if event.detail else f"{step}{title}"


def _rate(event: Event) -> str:
    if not event.rate:
        return ""
    text = f"{event.rate:,.0f} {_STAGES[event.stage][1]}/s"
    return f"{text}, waiting for: {event.bottleneck}" if event.bottleneck else text


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
