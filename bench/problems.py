"""The data that benchmarks run on: each problem is named once, here.

A made problem is a plain float16 `.npy` (row-major) with labels, for training and test rows, in a folder under
bench/data/ (ignored by git); it is written in chunks, each from its own seed, and reused when it is there. A
prefix of a problem is read from the larger file where that exists; generated alone, it has the same bits.

    python bench/problems.py small            # make it, print what it is

Rows: hierarchical class means and three modes for each class, within-class noise of low rank and of full rank
(both with power-law spectra), rows of unequal spread, ReLU, dead features, and 4 % wrong labels. Every run of
`n_classes` rows holds each class once, so that all prefixes are balanced.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

#: problems that were generated, and optima of them; $SSL_RISK_BENCH_DATA moves them
DATA = Path(os.environ.get("SSL_RISK_BENCH_DATA") or Path(__file__).parent / "data")
#: rises when the same seed gives other numbers; older files are then made anew
GENERATOR = 1
#: rows generated at once: 64 MB of float32 at 2048 features
CHUNK_ROWS = 8192
WRONG_LABELS = 0.04
DEAD_FEATURES = 0.02


@dataclass(frozen=True, slots=True)
class Problem:
    """Sizes and seed of a problem, and the penalties that benchmarks use on it (raw features)."""

    name: str
    n: int
    d: int
    k: int
    n_test: int
    seed: int = 0
    #: distance of the class means in units of the noise; sets the error of a tuned probe
    signal: float = 1.0
    #: channels with values 100 times as large, as some vision transformers have
    outliers: int = 0
    #: problem whose first rows these are
    prefix_of: str | None = None
    ridge_alpha: float = 1e-3
    logistic_alphas: tuple[float, ...] = (1e-3,)


PROBLEMS = {
    p.name: p
    for p in (
        Problem("smoke", 3_000, 64, 10, 1_000, signal=1.1, logistic_alphas=(1e-2, 1e-4)),
        Problem("small", 100_000, 512, 312, 20_000, signal=0.58),
        Problem("outlier", 100_000, 512, 312, 20_000, signal=0.58, outliers=4),
        Problem("full", 1_280_000, 2048, 1000, 50_000, signal=0.52),
        Problem("iterate", 100_000, 2048, 1000, 10_000, signal=0.52, prefix_of="full"),
        # few rows of each class, for many fits on a handful of them
        Problem("few", 10_000, 2048, 100, 2_000, signal=0.52),
        Problem("few-smoke", 1_000, 128, 10, 500, signal=1.1),
        # real features, read from a bank: sizes are those of Fashion-MNIST through EfficientNet-Lite0
        Problem("fashion", 60_000, 1280, 10, 10_000, logistic_alphas=(1e-2, 1e-4)),
    )
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A problem's arrays. x (n, d) and x_test (n_test, d): mapped, read-only; y, y_test: int64."""

    problem: Problem
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def d(self) -> int:
        """Features."""
        return self.x.shape[1]

    @property
    def k(self) -> int:
        """Classes."""
        return int(max(self.y.max(), self.y_test.max())) + 1


def load(name: str, bank: "str | Path | None" = None) -> Loaded:
    """Arrays of a problem; made first if they are not there.

    Parameters
    ----------
    bank : for `fashion`, a feature bank's folder, or a store or any folder above it
    """
    problem = PROBLEMS[name]
    if name == "fashion":
        return _from_bank(problem, bank)
    folder = ready(problem)
    x, y, x_test, y_test = (
        np.load(folder / f"{part}.npy", mmap_mode="r" if part[0] == "x" else None)
        for part in ("x", "y", "x_test", "y_test")
    )
    return Loaded(problem, x[: problem.n], y[: problem.n], x_test[: problem.n_test], y_test[: problem.n_test])


def ready(problem: Problem) -> Path:
    """Folder of a problem's files, or of the problem whose prefix it is; made if it is not there."""
    if problem.prefix_of is not None and _is_made(PROBLEMS[problem.prefix_of]):
        return DATA / problem.prefix_of
    if not _is_made(problem):
        generate(problem)
    return DATA / problem.name


def _description(problem: Problem) -> dict[str, object]:
    """What determines the numbers; penalties do not."""
    fields = asdict(problem)
    return {k: fields[k] for k in ("name", "n", "d", "k", "n_test", "seed", "signal", "outliers")} | {
        "generator": GENERATOR
    }


def _is_made(problem: Problem) -> bool:
    try:
        found = json.loads((DATA / problem.name / "problem.json").read_text())
    except FileNotFoundError:
        return False
    return _description(problem).items() <= found.items()


def generate(problem: Problem) -> None:
    """Write a problem's files; the JSON comes last and marks them as whole."""
    folder = DATA / problem.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "problem.json").unlink(missing_ok=True)
    began = time.perf_counter()
    world = _World(problem)
    zeros = 0
    for part, suffix, n in ((0, "", problem.n), (1, "_test", problem.n_test)):
        x = np.lib.format.open_memmap(folder / f"x{suffix}.npy", "w+", np.float16, (n, problem.d))
        y = np.lib.format.open_memmap(folder / f"y{suffix}.npy", "w+", np.int64, (n,))
        starts = list(world.chunk_starts(n))

        def write(start: int, part: int = part, x: np.ndarray = x, y: np.ndarray = y) -> int:
            features, labels = world.chunk(part, start)
            stop = min(start + len(features), len(x))
            x[start:stop], y[start:stop] = features[: stop - start], labels[: stop - start]
            return int((x[start:stop] == 0).sum())

        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for done, count in enumerate(pool.map(write, starts), 1):
                zeros += count
                if done % 40 == 0:
                    print(f"{problem.name}{suffix}: {done} of {len(starts)} chunks", file=sys.stderr)
        x.flush()
        y.flush()
    made = _description(problem) | {
        "zeros": round(zeros / ((problem.n + problem.n_test) * problem.d), 4),
        "seconds": round(time.perf_counter() - began, 1),
        "numpy": np.__version__,
    }
    scratch = folder / "problem.json.new"
    scratch.write_text(json.dumps(made, indent=1) + "\n")
    scratch.replace(folder / "problem.json")


class _World:
    """The distribution of a problem: fixed by seed and sizes, the same for training and test rows."""

    def __init__(self, problem: Problem) -> None:
        root = PROBLEMS[problem.prefix_of] if problem.prefix_of else problem
        self.problem = root
        d, k = root.d, root.k
        rng = np.random.default_rng([root.seed, d, k])
        # class means and shared noise live in `rank` directions, so that the error depends little on d and k;
        # of the hierarchy's three levels, the finest decides most errors
        rank = max(4, min(d // 4, 128))
        coarse = rng.standard_normal((max(2, k // 50), rank))[rng.integers(0, max(2, k // 50), k)]
        middle = rng.standard_normal((max(2, k // 8), rank))[rng.integers(0, max(2, k // 8), k)]
        fine = rng.standard_normal((k, 1, rank))
        modes = rng.standard_normal((k, 3, rank))
        falling = np.arange(1, rank + 1) ** -0.5
        latent = ((0.8 * coarse + 0.7 * middle)[:, None] + 0.6 * fine + 0.35 * modes) * falling
        self.centres = (root.signal * latent).astype(np.float32)  # (k, 3, rank)
        self.shared = (np.arange(1, rank + 1) ** -0.4).astype(np.float32)
        self.directions = (rng.standard_normal((rank, d)) / np.sqrt((falling**2).sum())).astype(np.float32)
        self.own = (0.5 * np.sqrt(np.sort(rng.pareto(3, d) + 0.3)[::-1])).astype(np.float32)
        scale = np.exp(0.4 * rng.standard_normal(d))
        self.offset = (-0.15 + 0.35 * rng.standard_normal(d)).astype(np.float32)
        self.scale = (0.8 * scale).astype(np.float32)
        self.scale[rng.permutation(d)[: int(DEAD_FEATURES * d)]] = 0
        if root.outliers:
            self.scale[rng.permutation(np.flatnonzero(self.scale))[: root.outliers]] *= 100
        self.chunk_rows = k * max(1, CHUNK_ROWS // k)

    def chunk_starts(self, n: int) -> Iterator[int]:
        """First rows of the chunks."""
        return iter(range(0, n, self.chunk_rows))

    def chunk(self, part: int, start: int) -> tuple[np.ndarray, np.ndarray]:
        """A whole chunk: features float16 (chunk_rows, d), labels int64. `part` is 0 for training, 1 for test."""
        p, m = self.problem, self.chunk_rows
        rng = np.random.default_rng([p.seed, p.d, p.k, part, start // m])
        classes = rng.permuted(np.tile(np.arange(p.k), (m // p.k, 1)), axis=1).ravel()
        spread = np.exp(0.25 * rng.standard_normal((m, 1), np.float32))
        x = rng.standard_normal((m, p.d), np.float32)
        x *= self.own
        latent = rng.standard_normal((m, len(self.shared)), np.float32) * self.shared
        latent += self.centres[classes, rng.integers(0, 3, m)]
        x += latent @ self.directions
        x *= spread
        x += self.offset
        x *= self.scale
        np.maximum(x, 0, out=x)
        wrong = rng.random(m) < WRONG_LABELS
        labels = np.where(wrong, rng.integers(0, p.k, m), classes)
        return np.minimum(x, 60_000, out=x).astype(np.float16), labels


def _from_bank(problem: Problem, path: "str | Path | None") -> Loaded:
    """Training and test rows of a feature bank; its one part is mapped where rows lie in order."""
    from ssl_risk_rs.bank import FeatureBank

    bank = FeatureBank.open(_find_bank(problem, path))
    parts = bank.arrays()
    in_order = len(parts) == 1 and np.array_equal(parts[0].rows, np.arange(bank.n_rows))
    everything = parts[0].features if in_order else bank.read(np.arange(bank.n_rows)).astype(np.float16)
    labels = bank.labels()

    def split(name: str) -> tuple[np.ndarray, np.ndarray]:
        rows = bank.rows(name)
        start, stop = int(rows[0]), int(rows[-1]) + 1
        run = stop - start == len(rows)  # a slice stays mapped, a gather does not
        return everything[start:stop] if run else everything[rows], labels[rows]

    return Loaded(problem, *split("train"), *split("test"))


def _find_bank(problem: Problem, path: "str | Path | None") -> Path:
    """The bank of this problem's sizes in or below `path`, by default bench/data/."""
    from ssl_risk_rs.bank import FeatureBank

    root = Path(path) if path is not None else DATA
    found = []
    for manifest in sorted(root.rglob("bank.json")):
        bank = FeatureBank.open(manifest.parent)
        if path is not None and manifest.parent == root:
            return root
        if (bank.n_features, bank.n_rows) == (problem.d, problem.n + problem.n_test):
            found.append(manifest.parent)
    if not found:
        raise FileNotFoundError(
            f"no bank of {problem.n + problem.n_test} rows and {problem.d} features in {root}: make it with\n"
            "  ssl-risk-rs run -m 'ckpt:FILE@tf_efficientnet_lite0?match=order' --img-size 64 "
            "-d idx:/usr/share/datasets/fashion-mnist --store bench/data/store\n(see bench/fashion_mnist.py), "
            "or give its folder with --bank"
        )
    return found[0]


def main() -> None:
    """Make problems and print what they are."""
    parser = argparse.ArgumentParser(description="Make the data of benchmarks.")
    parser.add_argument("names", nargs="+", choices=sorted(set(PROBLEMS) - {"fashion"}))
    for name in parser.parse_args().names:
        folder = ready(PROBLEMS[name])
        print(name, (folder / "problem.json").read_text().replace("\n", ""), folder)


if __name__ == "__main__":
    main()
