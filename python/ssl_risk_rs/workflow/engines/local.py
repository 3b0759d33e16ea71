"""Lines as processes of this machine, one for each GPU."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Sequence

from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.workflow.engines.engine import Change, Line
from ssl_risk_rs.workflow.engines.process import gpus_here, start, stop

__all__ = ["LocalEngine"]

#: seconds between two looks at the processes
POLL = 0.1


class LocalEngine:
    """See `Engine`; one process for each GPU, or `jobs`, which share the GPUs or the cores."""

    def __init__(self, *, jobs: int | None, device: str) -> None:
        if jobs is not None and jobs < 1:
            raise ParameterError(f"at least one job runs at a time, got {jobs}")
        self.gpus = [] if device == "cpu" or ":" in device else gpus_here()
        self.jobs = jobs or max(1, len(self.gpus))
        self.here = len(self.gpus) < 2

    def describe(self) -> list[str]:
        """See `Engine`."""
        if self.gpus:
            return [f"{self.jobs} processes at a time on the GPUs {', '.join(self.gpus)} of this machine."]
        return [f"{self.jobs} process{'' if self.jobs == 1 else 'es'} at a time on the CPU of this machine (--jobs N)."]

    def run(self, lines: Sequence[Line], tell: Callable[[Change], None]) -> None:
        """See `Engine`."""
        waiting = list(lines)
        running: dict[int, tuple[Line, subprocess.Popen[bytes], str]] = {}
        try:
            while waiting or running:
                for slot in range(self.jobs):
                    if slot not in running and waiting:
                        line = waiting.pop(0)
                        place, environment = self._place(slot)
                        process = start(line, environment)
                        self._pin(process.pid, slot)
                        running[slot] = line, process, place
                        tell(Change(line, "started", place))
                time.sleep(POLL)
                for slot, (line, process, place) in list(running.items()):
                    code = process.poll()
                    if code is not None:
                        del running[slot]
                        tell(Change(line, "ended", place, code))
        finally:
            stop(*(process for _, process, _ in running.values()))

    def _place(self, slot: int) -> tuple[str, dict[str, str]]:
        """Name and environment of a place."""
        if not self.gpus:
            return "CPU", {}
        gpu = self.gpus[slot % len(self.gpus)]
        return f"GPU {gpu}", {"CUDA_VISIBLE_DEVICES": gpu}

    def _pin(self, process: int, slot: int) -> None:
        """Give a process its part of the cores, where several run at a time: each would take all of them."""
        if self.jobs == 1 or not hasattr(os, "sched_setaffinity"):
            return
        cores = sorted(os.sched_getaffinity(0))
        each = len(cores) // self.jobs
        if each:
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.sched_setaffinity(process, cores[slot * each : (slot + 1) * each])
