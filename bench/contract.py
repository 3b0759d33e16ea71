"""What the parts of the harness hand to each other: a request, a method that serves it, and its answer.

An adapter is a module with `REQUIRES` (modules it imports), `PACKAGES` (whose versions are recorded), `JOBS`
(job → methods), and `ALONE = True` if it must have a process of its own even where others share one. It imports
its library inside the methods, so that a list of methods costs nothing.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from problems import Loaded


@dataclass(frozen=True, slots=True)
class Request:
    """What to do. Penalties are α of the package's objective on raw features, see `LogisticProbe`."""

    problem: str
    job: str
    goal: str = ""
    alpha: float = 1e-3
    alphas: tuple[float, ...] = ()
    #: relative suboptimalities whose times are asked for, from loose to tight
    targets: tuple[float, ...] = ()
    #: time after which an iterative method stops, or a repeated one does not start again
    limit_s: float = 60.0
    repeats: int = 3
    threads: int = 0
    #: many small fits: how many, and rows of each class
    n_fits: int = 0
    shots: int = 0
    bank: str | None = None

    @classmethod
    def read(cls, path: Path) -> "Request":
        """From JSON."""
        fields = json.loads(path.read_text())
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)))


@dataclass
class Answer:
    """What a method did. `arrays` holds what the check needs: coef (k, d) and intercept (k,), or a matrix."""

    seconds: list[float] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    #: (seconds since fit began, objective) as the solver saw them
    trajectory: list[tuple[float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """As answer.json and arrays.npz."""
        np.savez(folder / "arrays.npz", **self.arrays)
        plain = {k: v for k, v in vars(self).items() if k != "arrays"}
        (folder / "answer.json").write_text(json.dumps(plain, default=float))

    @classmethod
    def read(cls, folder: Path) -> "Answer":
        """From a folder that `write` filled."""
        with np.load(folder / "arrays.npz") as file:
            arrays = dict(file)
        return cls(arrays=arrays, **json.loads((folder / "answer.json").read_text()))


@dataclass(frozen=True, slots=True)
class Method:
    """A way to do a job: its name in the table and the function that does it."""

    name: str
    run: Callable[[Loaded, Request], Answer]
    #: bytes it needs at (n, d, k); a run that cannot fit is listed, not started
    needs: Callable[[int, int, int], float] = lambda n, d, k: 0.0
    #: only for requests with this goal; empty: any
    goal: str = ""


def repeated(request: Request, work: Callable[[], object]) -> tuple[list[float], object]:
    """Seconds of each repeat, and the last result; after `limit_s` no further repeat starts."""
    seconds: list[float] = []
    while len(seconds) < request.repeats and (not seconds or sum(seconds) < request.limit_s):
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
    return seconds, result


def shot_rows(y: np.ndarray, shots: int, fit: int) -> np.ndarray:
    """Rows of the `fit`-th small training set: `shots` of each class, ascending."""
    order = np.random.default_rng([7, fit]).permutation(len(y))
    by_class = order[np.argsort(y[order], kind="stable")]
    starts = np.searchsorted(y[by_class], np.arange(y.max() + 1))
    return np.sort(by_class[(starts[:, None] + np.arange(shots)).ravel()])


def blocks(x: np.ndarray, rows: int = 8192) -> "list[slice]":
    """Slices of `rows` rows that cover x."""
    return [slice(i, min(i + rows, len(x))) for i in range(0, len(x), rows)]


def trial_weights(d: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (d, k) and intercept (k,), float32, at which a pass is timed and checked."""
    rng = np.random.default_rng(11)
    return (rng.standard_normal((d, k)) / d).astype(np.float32), (0.1 * rng.standard_normal(k)).astype(np.float32)
