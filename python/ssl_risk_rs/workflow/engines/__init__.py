"""Where command lines of this program run: here, on a Ray cluster, or as jobs of Slurm.

An engine is given whole lines, each of which does its work and leaves its result in files that all machines see. It
knows nothing of what they do: the same lines can be typed by hand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from ssl_risk_rs.errors import ParameterError

__all__ = ["ATTEMPTS", "Change", "Engine", "Line", "open_engine"]

#: times that a line is started at most where machines die under it
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Line:
    """A line: arguments of the program, the file that gets what it says, and the folder it is run in."""

    name: str
    arguments: tuple[str, ...]
    log: Path
    folder: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True, slots=True)
class Change:
    """A line was started, lost with its machine and will be started again, or has ended.

    code : exit status, negative for a signal; None where its machine died too often
    place : where it runs
    """

    line: Line
    state: Literal["started", "lost", "ended"]
    place: str
    code: int | None = None


class Engine(Protocol):
    """Runs lines, as many at a time as there are places for them."""

    #: whether a single line may as well run in this process
    here: bool

    def describe(self) -> list[str]:
        """Sentences that say where lines would run, and with which parameters."""

    def run(self, lines: Sequence[Line], tell: Callable[[Change], None]) -> None:
        """Run all lines to their end; `tell` is called from this thread.

        A line that fails does not stop the others. KeyboardInterrupt ends those that run.
        """


def open_engine(
    name: Literal["local", "ray", "slurm"],
    options: Mapping[str, str],
    *,
    jobs: int | None = None,
    device: str = "auto",
    folder: Path,
) -> Engine:
    """An engine by its name.

    Parameters
    ----------
    options : of the engine, as typed: `address` of a Ray cluster; parameters of sbatch
    jobs : lines at a time; None for one on each GPU, else one (Ray: one on each free CPU slot)
    device : of the lines; "cpu" leaves GPUs alone
    folder : that all machines see; engines keep files of their own there

    Raises
    ------
    ParameterError for an option that the engine does not have, or a package that is not installed, with the line that
    installs it.
    """
    if name == "local":
        from ssl_risk_rs.workflow.engines.local import LocalEngine

        if options:
            raise ParameterError(f"the local engine has no option {min(options)!r}; --jobs says how many run at a time")
        return LocalEngine(jobs=jobs, device=device)
    if name == "ray":
        from ssl_risk_rs.workflow.engines.ray import RayEngine

        return RayEngine(options, jobs=jobs, device=device)
    from ssl_risk_rs.workflow.engines.slurm import SlurmEngine

    return SlurmEngine(options, jobs=jobs, device=device, folder=folder)
