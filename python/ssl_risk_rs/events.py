"""What a job tells while it runs: one value for all progress, and sentences for the user."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

__all__ = ["Event", "Report", "Stage", "Steps", "once", "torch_is_loading", "within"]

Stage = Literal["scan", "compare", "encode", "import", "moments", "tune", "fit", "judge", "intervals"]


@dataclass(frozen=True, slots=True)
class Event:
    """Where a job stands.

    Attributes
    ----------
    stage : what is being done: "scan" (looking for corrupt images), "compare" (looking for test images among the
        training images), "encode", "import", "moments", "tune", "fit", "judge", "intervals"
    done, total : in units of the stage (images, rows, passes, fits), those of earlier runs included; total is None
        where nobody knows it
    rate : units a second, of this run; None before there is one
    seconds_left : at that rate; None where it cannot be told
    bottleneck : what the others wait for: "decode", "encode" or "write"
    detail : which probe, fit or file; "" where the stage says it all
    step, steps : which of the steps of the whole job this is, from 1; 0 where it has no steps that are known before
    """

    stage: Stage
    done: float = 0.0
    total: float | None = None
    rate: float | None = None
    seconds_left: float | None = None
    bottleneck: Literal["decode", "encode", "write"] | None = None
    detail: str = ""
    step: int = 0
    steps: int = 0


#: receives events
Report: TypeAlias = Callable[[Event], None]


def within(report: Report | None, step: str) -> Report:
    """Receives the events of a step of another job and hands them on with its name before their detail; to nobody where
    `report` is None."""

    def told(event: Event) -> None:
        if report is not None:
            report(replace(event, detail=f"{step}: {event.detail}"))

    return told


class Steps:
    """Receives the events of a job of several steps and hands them on with the one that it is at."""

    def __init__(self, report: Report, steps: int) -> None:
        self.report, self.step, self.steps = report, 1, steps

    def next(self) -> None:
        """The step before has ended."""
        self.step += 1

    def __call__(self, event: Event) -> None:
        self.report(replace(event, step=self.step, steps=self.steps))


def torch_is_loading() -> str:
    """What the first sentence of a job ends with: torch takes up to 20 seconds to load; empty once it is there."""
    return "" if "torch" in sys.modules else "; torch is loading …"


def once(say: Callable[[str], None]) -> Callable[[str], None]:
    """`say` for several jobs that would tell the same, of one encoder or the same images: each sentence once."""
    said: set[str] = set()

    def say_once(sentence: str) -> None:
        if sentence not in said:
            said.add(sentence)
            say(sentence)

    return say_once
