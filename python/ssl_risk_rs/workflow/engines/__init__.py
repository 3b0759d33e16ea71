"""Where command lines of this program run: here, on a Ray cluster, or as jobs of Slurm.

An engine is given whole lines, each of which does its work and leaves its result in files that all machines see. It
knows nothing of what they do: the same lines can be typed by hand.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.workflow.engines.engine import ATTEMPTS, Change, Engine, Line

__all__ = ["ATTEMPTS", "Change", "Engine", "Line", "open_engine"]


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
