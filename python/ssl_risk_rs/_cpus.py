"""How many CPUs this process may use."""

import os

__all__ = ["count_cpus"]


def count_cpus() -> int:
    """CPUs that the system lets this process run on, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
