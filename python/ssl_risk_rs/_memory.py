"""How much memory a process can still have: of this machine, and of the container that it is in."""

from contextlib import suppress
from pathlib import Path

__all__ = ["free_bytes", "lines_of", "total_bytes"]

_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def total_bytes() -> int | None:
    """All of it; None where the system does not say (not Linux)."""
    return _least(_of_machine("MemTotal"), _limit())


def free_bytes() -> int | None:
    """What is free, with what the system would give back of its cache; None where it does not say (not Linux)."""
    limit, in_container = _limit(), None
    if limit is not None:
        used, cached = _number(_CGROUP / "memory.current"), _cached()
        in_container = max(0, limit - used + cached) if used is not None else limit
    return _least(_of_machine("MemAvailable"), in_container)


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _of_machine(name: str) -> int | None:
    for line in lines_of(_MEMINFO):
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return None


def _limit() -> int | None:
    """Of the container (control groups, version 2); None where there is none, which "max" says."""
    return _number(_CGROUP / "memory.max")


def _cached() -> int:
    """Bytes of files that the container has read and that others may have."""
    for line in lines_of(_CGROUP / "memory.stat"):
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0


def _number(file: Path) -> int | None:
    text = "".join(lines_of(file)).strip()
    return int(text) if text.isdecimal() else None


def lines_of(file: "Path | str") -> list[str]:
    """Lines of a file of the system; none where it has no such file."""
    with suppress(OSError):
        return Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    return []
