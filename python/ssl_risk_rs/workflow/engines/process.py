"""A line as a process of its own that does not outlive the one that started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from ssl_risk_rs.workflow.engines.engine import Line

__all__ = ["end_with_parent", "gpus_here", "start", "stop"]

#: what a child runs: it ends when its parent does, and is the program otherwise
_CODE = (
    "from ssl_risk_rs.workflow.engines.process import end_with_parent; end_with_parent({parent}); "
    "from ssl_risk_rs.cli import main; main(prog_name='ssl-risk-rs')"
)


def start(line: Line, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start a line; what it says is added to its log, its result on stdout is not kept."""
    line.log.parent.mkdir(parents=True, exist_ok=True)
    with line.log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", _CODE.format(parent=os.getpid()), *line.arguments],
            cwd=line.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,  # ^C on a terminal is for the process that started it, which passes it on
            env={**os.environ, **(environment or {})},
        )


def end_with_parent(parent: int) -> None:
    """Have this process killed when its parent dies, where the system can (Linux)."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before that
        os.kill(os.getpid(), signal.SIGKILL)


def stop(*processes: "subprocess.Popen[bytes]", patience: float = 10.0) -> None:
    """End processes: as by ^C, which commits what is done, and those that take too long for good."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    end = time.monotonic() + patience
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def gpus_here() -> list[str]:
    """GPUs of this machine as CUDA_VISIBLE_DEVICES names them; torch is not imported."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if listed.returncode != 0:
        return []
    return [str(i) for i, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]
