"""Lines as processes of this machine, one for each GPU."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence

from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.workflow.engines import Change, Line
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
                        running[slot] = line, start(line, environment), place
                        tell(Change(line, "started", place))
                time.sleep(POLL)
                for slot, (line, process, place) in list(running.items()):
                    code = process.poll()
                    if code is not None:
                        del running[slot]
                        tell(Change(line, "ended", place, code))
        finally:
            for _, process, _ in running.values():
                stop(process)

    def _place(self, slot: int) -> tuple[str, dict[str, str]]:
        """Name and environment of a place: its GPU, and its part of the cores."""
        cores = max(1, (os.cpu_count() or 1) // self.jobs)
        threads = {} if self.jobs == 1 else {"OMP_NUM_THREADS": str(cores), "MKL_NUM_THREADS": str(cores)}
        if not self.gpus:
            return "CPU", threads
        gpu = self.gpus[slot % len(self.gpus)]
        return f"GPU {gpu}", {"CUDA_VISIBLE_DEVICES": gpu, **threads}
