"""An extraction's progress on stderr."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_risk_rs.extraction.settings import Progress

__all__ = ["ExtractionProgress"]

#: seconds between two lines where stderr is no terminal
LINE_EVERY = 30.0

_STAGES = {"scan": "looking for corrupt images", "encode": "encoding"}


class ExtractionProgress:
    """Call it with each `Progress`: a bar with rows, images/s, bottleneck and time left on a terminal, a line
    now and then elsewhere. Nothing is shown, and rich not imported, before the first call."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._said = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        if not sys.stderr.isatty():
            self._line(progress)
            return
        if self._bar is None:
            self._bar = _bar()
            self._bar.start()
        if progress.stage not in self._tasks:
            self._tasks[progress.stage] = self._bar.add_task(
                _STAGES[progress.stage], total=progress.total, rate="", left=""
            )
        self._bar.update(
            self._tasks[progress.stage],
            completed=progress.rows,
            rate=_rate(progress),
            left="" if progress.seconds_left is None else f"{_clock(progress.seconds_left)} left",
        )

    def _line(self, progress: "Progress") -> None:
        now = time.monotonic()
        if now - self._said < LINE_EVERY:
            return
        self._said = now
        left = "" if progress.seconds_left is None else f"{_clock(progress.seconds_left)} left"
        facts = [f"{progress.rows:,} of {progress.total:,} images", _rate(progress), left]
        print(f"{_STAGES[progress.stage]}: {', '.join(filter(None, facts))}", file=sys.stderr, flush=True)

    def __enter__(self) -> "ExtractionProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> Any:
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


def _rate(progress: "Progress") -> str:
    if not progress.images_per_second:
        return ""
    text = f"{progress.images_per_second:,.0f} images/s"
    return f"{text}, waiting for: {progress.bottleneck}" if progress.bottleneck else text


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
