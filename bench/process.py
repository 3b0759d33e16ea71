"""Start a method in a process of its own; watch its memory; collect the answer."""

import os
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from contract import Answer, Request
from worker import work

HERE = Path(__file__).parent
#: how often the memory of the child is read; short peaks between two readings are missed
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer, or the reason why there is none. Memory in MB (10⁶ bytes), of a process of its own."""

    answer: Answer | None
    error: str = ""
    #: largest resident set, pages of mapped files included
    peak_mb: float | None = None
    #: largest anonymous part of it: everything beyond mapped files
    anonymous_mb: float | None = None
    #: cores that other processes, or other machines on the same host, used meanwhile
    other_cores: float | None = None


def run_here(adapter: str, method: str, request: Request) -> Outcome:
    """Run `method` in this process: quick, for sizes whose times and memory mean nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fits that the time limit ends
            return Outcome(work(adapter, method, request))
    except SystemExit as refusal:
        return Outcome(None, str(refusal))
    except Exception as error:  # a row of the table, as a crash of the process would be
        return Outcome(None, f"{type(error).__name__}: {error}")


def run(adapter: str, method: str, request: Request, deadline_s: float) -> Outcome:
    """Run `method` of `adapter` on `request` in a process of its own, killed at the deadline."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        request.write(folder / "request.json")
        command = [sys.executable, str(HERE / "worker.py"), adapter, method, scratch]
        before, began = _busy_seconds(), time.perf_counter()
        with open(folder / "stderr", "w+b") as stderr:
            child = subprocess.Popen(command, env=_environment(request.threads), stdout=stderr, stderr=stderr)
            anonymous, timed_out = _watch(child, deadline_s)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            stderr.seek(0)
            last = stderr.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        others = _busy_seconds() - before - usage.ru_utime - usage.ru_stime
        measured = {
            "peak_mb": usage.ru_maxrss * 1024 / 1e6,
            "anonymous_mb": anonymous / 1e6,
            "other_cores": max(0.0, others / (time.perf_counter() - began)),
        }
        if timed_out:
            return Outcome(None, f"killed after {deadline_s:.0f} s", **measured)
        if child.returncode != 0:
            return Outcome(None, f"exit {child.returncode}: {last[0]}", **measured)
        return Outcome(Answer.read(folder), **measured)


def _busy_seconds() -> float:
    """CPU seconds that all cores have worked, stolen ones included, but for those of this process."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    total = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return total - own.user - own.system


def _environment(threads: int) -> dict[str, str]:
    count = str(threads or len(os.sched_getaffinity(0)))
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    return os.environ | dict.fromkeys(names, count) | {"PYTHONWARNINGS": "ignore"}


def _watch(child: "subprocess.Popen[bytes]", limit_s: float) -> tuple[int, bool]:
    """Wait for the child to end, without reaping it: largest anonymous memory in bytes, whether it was killed."""
    largest, deadline = 0, time.monotonic() + limit_s
    status = Path(f"/proc/{child.pid}/status")
    while True:
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        if fields["State"].split()[0] == "Z":
            return largest, False
        if "RssAnon" in fields:
            largest = max(largest, 1024 * int(fields["RssAnon"].split()[0]))
        if time.monotonic() > deadline:
            child.kill()
            return largest, True
        time.sleep(POLL_S)
