"""Lines as jobs of Slurm, through submitit; `cluster=local` runs the same jobs as processes of this machine."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_risk_rs import _extras
from ssl_risk_rs._limits import whole_number
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.workflow.engines.engine import ATTEMPTS, Change, Line

__all__ = ["SlurmEngine"]

#: seconds between two looks at the jobs; submitit asks the scheduler at most twice a minute
POLL = 1.0
#: what a job gets where nothing else is asked for: a GPU with cores to decode for it, for a day
_DEFAULTS: dict[str, Any] = {"timeout_min": 24 * 60, "cpus_per_task": 8, "gpus_per_node": 1}
#: parameters that submitit knows on every cluster; any other one goes to sbatch as it is
_SHARED = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "nodes", "tasks_per_node", "name")
#: states after which a job is tried again: its machine is to blame, not the line
_LOST = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "TIMEOUT")


class SlurmEngine:
    """See `Engine`; a line is a job with GPUs and cores of its own.

    options : `timeout_min`, `cpus_per_task`, `gpus_per_node`, `mem_gb`; any other parameter of sbatch (`partition`,
        `account`, `qos`, `constraint`); `cluster=local` or `cluster=debug` for submitit's own stand-ins
    jobs : at most so many run at a time
    """

    here = False

    def __init__(self, options: Mapping[str, str], *, jobs: int | None, device: str, folder: Path) -> None:
        _imported()
        given = dict(options)
        self.cluster = given.pop("cluster", "slurm")
        if self.cluster not in ("slurm", "local", "debug"):
            raise ParameterError(f"cluster={self.cluster}: the cluster is slurm, or local or debug for this machine")
        self.folder = folder / "slurm"
        self.jobs = jobs
        self.parameters = {**_DEFAULTS, **({"gpus_per_node": 0} if device == "cpu" else {})}
        for name, value in given.items():
            number = whole_number(value)
            full = name if name in _SHARED or name.startswith("slurm_") else f"slurm_{name}"
            self.parameters[full] = value if number is None else number
        if self.cluster == "local":
            self.parameters["gpus_per_node"] = int(given.get("gpus_per_node", 0))

    def describe(self) -> list[str]:
        """See `Engine`."""
        said = ", ".join(f"{name}={value}" for name, value in sorted(self.parameters.items()))
        at_once = "as many at a time as the scheduler gives" if self.jobs is None else f"{self.jobs} at a time"
        lines = [f"one job of cluster {self.cluster} for each line, {at_once}, with {said}; logs in {self.folder}."]
        if self.cluster == "slurm":
            lines.append("jobs with these lines of sbatch:\n" + "\n".join(self._directives()))
        return lines

    def _directives(self) -> list[str]:
        """The directives that submitit would put at the head of a job's script."""
        from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

        names: Any = SlurmExecutor._equivalence_dict()
        known: dict[str, Any] = {
            names.get(k, k.removeprefix("slurm_")): v for k, v in self.parameters.items() if k != "mem_gb"
        }
        if "mem_gb" in self.parameters:
            known["mem"] = f"{self.parameters['mem_gb']}GB"
        text = _make_sbatch_string(command="LINE", folder=self.folder, **known)
        return [f"  {line}" for line in text.splitlines() if line.startswith("#SBATCH")]

    def run(self, lines: Sequence[Line], tell: Callable[[Change], None]) -> None:
        """See `Engine`; jobs that are left are cancelled on ^C."""
        submitit = _imported()
        if self.cluster == "slurm" and shutil.which("srun") is None:
            raise ParameterError(
                "this machine has no Slurm (no srun on its path): run the line on a node that submits jobs, "
                "or try it here with --engine-option cluster=local"
            )
        executor = submitit.AutoExecutor(folder=self.folder, cluster=self.cluster)
        executor.update_parameters(**self.parameters)
        waiting = [(line, 1) for line in lines]
        running: list[tuple[Any, Line, int]] = []
        started: set[str] = set()
        try:
            while waiting or running:
                while waiting and (self.jobs is None or len(running) < self.jobs):
                    line, attempt = waiting.pop(0)
                    running.append((executor.submit(run_line, line), line, attempt))
                for item in list(running):
                    job, line, attempt = item
                    place = f"job {job.job_id}"
                    if job.done():
                        running.remove(item)
                        code = _code(job)
                        if code is None and job.state in _LOST and attempt < ATTEMPTS:
                            waiting.append((line, attempt + 1))
                            tell(Change(line, "lost", place))
                        else:
                            tell(Change(line, "ended", place, code))
                    elif job.job_id not in started and job.state == "RUNNING":
                        started.add(job.job_id)
                        tell(Change(line, "started", place))
                time.sleep(POLL if running else 0)
        finally:
            for job, *_ in running:
                job.cancel(check=False)


def run_line(line: Line) -> int:
    """Run a line to its end, in a job, and give its exit status."""
    from ssl_risk_rs.workflow.engines.process import start, stop

    process = start(line)
    try:
        return process.wait()
    finally:
        stop(process)


def _code(job: Any) -> int | None:
    """Exit status of a line; None where its job ended without one."""
    submitit = _imported()
    try:
        return int(job.result())
    except submitit.core.utils.UncompletedJobError:
        return None
    except submitit.core.utils.FailedJobError:
        return 1


def _imported() -> Any:
    return _extras.require("submitit", "slurm", "--engine slurm needs", instead="  (or --engine local)")
