"""Objectives that a solver sees on its way, with the time since it began."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Seconds since it was made, without those spent in `paused`; and what was recorded at which of them."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.began = time.perf_counter()
        self.points: list[tuple[float, float]] = []

    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self.began

    def record(self, objective: float) -> None:
        """Note an objective, now."""
        self.points.append((self.seconds(), float(objective)))

    @property
    def expired(self) -> bool:
        """Whether the limit is over."""
        return self.seconds() > self.limit_s

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        stopped = time.perf_counter()
        yield
        self.began += time.perf_counter() - stopped


@contextmanager
def watched_minimize(clock: Clock, scale: float = 1.0) -> Iterator[None]:
    """`scipy.optimize.minimize` records `scale` · objective at every evaluation and ends at the time limit.

    scikit-learn and daal4py call it through the module, so wrapping it there sees their own objective.
    """
    from scipy import optimize

    original = optimize.minimize

    def minimize(function: Callable[..., Any], *args: Any, callback: Any = None, **kwargs: Any) -> Any:
        def evaluated(*inner: Any) -> Any:
            result = function(*inner)
            clock.record(scale * float(result[0]))
            return result

        def ended(intermediate_result: Any) -> None:
            if clock.expired:
                raise StopIteration

        return original(evaluated, *args, callback=ended, **kwargs)

    optimize.minimize = minimize
    try:
        yield
    finally:
        optimize.minimize = original
