"""Lines on a Ray cluster: one actor for each GPU, or for each CPU slot where there are none.

An actor is a place: it starts one line after the other as processes of its node. When a node dies, the line that ran
there is started again by another place, and goes on from what was committed.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_risk_rs import _extras
from ssl_risk_rs._limits import whole_number
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.workflow.engines.engine import ATTEMPTS, Change, Line
from ssl_risk_rs.workflow.engines.process import start, stop

__all__ = ["RayEngine", "connected"]

#: seconds until a driver looks again which places are free
POLL = 0.5
#: seconds that a cluster has to answer
CONNECT = 10.0
_OPTIONS = ("address", "cpus")


class RayEngine:
    """See `Engine`.

    options : `address` of a cluster (default: $RAY_ADDRESS, else a cluster of this machine alone), `cpus` of each
        place (default 1)
    """

    here = False

    def __init__(self, options: Mapping[str, str], *, jobs: int | None, device: str) -> None:
        for name in options:
            if name not in _OPTIONS:
                raise ParameterError(f"the ray engine has no option {name!r}; it has {', '.join(_OPTIONS)}")
        cpus = options.get("cpus", "1")
        if not (number := whole_number(cpus)):
            raise ParameterError(f"cpus={cpus}: a place has a whole number of CPUs from 1")
        imported()
        self.address = options.get("address")
        self.cpus = number
        self.jobs = jobs
        self.device = device

    def describe(self) -> list[str]:
        """See `Engine`; asks the cluster."""
        with connected(self.address):
            gpus, places = self._places()
        kind = "a GPU" if gpus else f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}"
        count = f"{places} process{'' if places == 1 else 'es'}"
        return [f"{count} at a time with {kind} each on the Ray cluster {self.address or 'of this machine'}."]

    def _places(self) -> tuple[bool, int]:
        """Whether places have GPUs, and how many there are."""
        ray = imported()
        has = ray.cluster_resources()
        gpus = 0 if self.device == "cpu" else int(has.get("GPU", 0))
        return bool(gpus), max(1, min(self.jobs or 1 << 30, gpus or int(has.get("CPU", 1)) // self.cpus))

    def run(self, lines: Sequence[Line], tell: Callable[[Change], None]) -> None:
        """See `Engine`."""
        with connected(self.address):
            self._run(imported(), lines, tell)

    def _run(self, ray: Any, lines: Sequence[Line], tell: Callable[[Change], None]) -> None:
        gpus, n_places = self._places()
        make = ray.remote(_Place).options(num_gpus=1 if gpus else 0, num_cpus=self.cpus, max_restarts=0)
        waiting = [(line, 1) for line in lines]
        idle: list[Any] = []
        born: dict[Any, Any] = {}  # future of a place's name → place
        running: dict[Any, tuple[Any, str, Line, int]] = {}  # future of a line → place, its name, line, attempt
        try:
            while waiting or running:
                places = len(idle) + len(born) + len(running)
                for _ in range(min(n_places, len(waiting) + len(running)) - places):
                    place = make.remote()
                    born[place.name.remote()] = place
                ready, _ = ray.wait([*born, *running], num_returns=1, timeout=POLL)
                for future in ready:
                    if future in born:
                        place = born.pop(future)
                        try:
                            idle.append((place, ray.get(future)))
                        except ray.exceptions.RayActorError:  # its node went before it was there
                            continue
                    else:
                        place, name, line, attempt = running.pop(future)
                        try:
                            code = ray.get(future)
                        except (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError):
                            if attempt < ATTEMPTS:
                                waiting.insert(0, (line, attempt + 1))
                                tell(Change(line, "lost", name))
                            else:
                                tell(Change(line, "ended", name))
                            continue
                        idle.append((place, name))
                        tell(Change(line, "ended", name, code))
                while idle and waiting:
                    (place, name), (line, attempt) = idle.pop(), waiting.pop(0)
                    future = place.run.remote(line.name, line.arguments, str(line.log), str(line.folder))
                    running[future] = place, name, line, attempt
                    tell(Change(line, "started", name))
        finally:
            for place in [*born.values(), *(p for p, _ in idle), *(p for p, *_ in running.values())]:
                ray.kill(place)


class _Place:
    """A GPU, or some CPUs, of a node."""

    def name(self) -> str:
        """What people call it."""
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return f"{socket.gethostname()}{f' GPU {gpus}' if gpus else f' ({os.getpid()})'}"

    def run(self, name: str, arguments: Sequence[str], log: str, folder: str) -> int:
        """Run a line to its end and give its exit status; Ray has set which GPUs are visible."""
        process = start(Line(name, tuple(arguments), Path(log), Path(folder)))
        try:
            return process.wait()
        finally:
            stop(process)


def imported() -> Any:
    """The package ray.

    Raises
    ------
    ParameterError with the line that installs it.
    """
    return _extras.require("ray", "ray", "--engine ray needs", instead="  (or --engine local)")


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connected to a cluster, unless this process is: that of the address, of $RAY_ADDRESS, or one of this machine.

    Meanwhile what is printed goes to stderr: Ray prints what it wants to say, and stdout is for results.

    Raises
    ------
    ParameterError if there is no cluster.
    """
    ray = imported()
    with contextlib.redirect_stdout(sys.stderr):
        started = not ray.is_initialized()
        if started:
            _connect(ray, address or os.environ.get("RAY_ADDRESS"))
        try:
            yield
        finally:
            if started:
                ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    options = {"log_to_driver": False, "configure_logging": False}
    if not address:
        ray.init(include_dashboard=False, **options)
        return
    host, _, port = address.rpartition(":")
    if port.isdecimal():  # Ray itself tries for minutes, then ends the process
        try:
            socket.create_connection((host.rpartition("/")[2], int(port)), timeout=CONNECT).close()
        except OSError as error:
            raise ParameterError(
                f"there is no Ray cluster at {address} ({error}); ray start --head starts one"
            ) from error
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        raise ParameterError(f"there is no Ray cluster at {address}: {error}; ray start --head starts one") from error
