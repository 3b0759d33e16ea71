"""Nearest rows and statistics of a representation, beside other ways to the same numbers, in one run.

    python bench/geometry.py --size main --out bench/results/geometry.csv

One row for each measurement and way: seconds (median, least and greatest of the repeats), the ratio of its median to
ours, and how far its answer is from ours. Ways take turns within each repeat, so that other work on the machine meets
all of them; all use as many threads. Cosines are compared with float64 products of the rows named. A way whose answer
differs by more than its tolerance ends the run. A way whose package is not installed is left out, and said.

    nearest      each of m query rows → its most similar of n base rows, by cosine: scikit-learn's NearestNeighbors
                 (brute, cosine), faiss-cpu's IndexFlatIP of rows scaled to unit length, numpy by 1,024 queries
    neighbours   each of m query rows → its 20 most similar of n base rows: the same
    ranks        effective rank, rank and RankMe: numpy in float64 (corrcoef and eigvalsh, then an SVD of the rows)
    cka          linear CKA of two representations: numpy in float64, by d × d products of centred copies
    statistics   all statistics of rows and classes together: ours alone
"""

import argparse
import csv
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

COLUMNS = (
    "size", "measurement", "n", "m", "d", "threads", "way", "seconds", "seconds_min", "seconds_max", "ratio_to_ours",
    "repeats", "disagreement", "tolerance", "what_disagrees",
)  # fmt: skip
#: base rows, query rows, features
SIZES = {"smoke": (600, 200, 32), "main": (10_000, 2_000, 512)}
#: float32 products of unit rows, of 16 bits on AMX
COSINE_TOLERANCE = 3e-5
#: neighbours of a row
K = 20
#: float64 in another order; a singular value keeps half of the digits of its square
STATISTIC_TOLERANCE = 1e-6
CLASSES = 20
Way = Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Ways to one answer, ours first, and how far an answer is from ours."""

    name: str
    ways: dict[str, Way]
    distance: Callable[[np.ndarray, np.ndarray], float]
    tolerance: float
    what: str


def main(arguments: list[str] | None = None) -> int:
    """Measure; write the table and the machine's description."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    n, m, d = SIZES[options.size]
    rows = []
    for measurement in measurements(*data(n, m, d), options.threads):
        for row in run(measurement, options.repeats):
            rows.append({"size": options.size, "n": n, "m": m, "d": d, "threads": options.threads, **row})
            print(f"{row['measurement']:11} {row['way']:24} {row['seconds']:8} s  ×{row['ratio_to_ours']}", flush=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    from machine import describe

    packages = ("ssl-risk-rs", "numpy", "scikit-learn", "faiss-cpu")
    options.out.with_suffix(".txt").write_text(describe(packages), encoding="utf-8")
    return 0


def data(n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base rows (n, d), labels, query rows (m, d), float32: classes in a space whose spectrum falls."""
    rng = np.random.default_rng(0)
    scale = np.arange(1, d + 1) ** -0.5
    centres = rng.standard_normal((CLASSES, d))
    y, other = rng.integers(0, CLASSES, n), rng.integers(0, CLASSES, m)
    x, queries = (((centres[c] + rng.standard_normal((len(c), d))) * scale).astype(np.float32) for c in (y, other))
    return x, y, queries


def measurements(x: np.ndarray, y: np.ndarray, queries: np.ndarray, threads: int) -> list[Measurement]:
    """What is measured."""
    from ssl_risk_rs import _core, stats
    from ssl_risk_rs.geometry import SampleRows, linear_cka
    from ssl_risk_rs.probes.features import Features

    all_rows, all_queries = (np.arange(len(v), dtype=np.uint32) for v in (x, queries))
    names = ("effective_rank", "rank_z", "rankme")
    half = x.shape[1] // 2

    def ours_nearest() -> np.ndarray:
        return _core.nearest_rows(queries, all_queries, x, all_rows, n_threads=threads)[0].astype(np.int64)

    def ours_neighbours() -> np.ndarray:
        return _core.k_nearest_rows(queries, all_queries, x, all_rows, K, n_threads=threads)[0].astype(np.int64)

    def ours_ranks() -> np.ndarray:
        found = stats(x, uniformity_rows=2, n_threads=threads)
        return np.array([found.value(name) for name in names])

    parts = [np.ascontiguousarray(part) for part in (x[:, :half], x[:, half:])]

    def ours_cka() -> np.ndarray:
        one, other = (SampleRows(Features.of_arrays(part), all_rows) for part in parts)
        return np.array([linear_cka(one, other, n_threads=threads)])

    def cosine_gap(found: np.ndarray, ours: np.ndarray) -> float:
        places = [each.reshape(len(queries), -1) for each in (found, ours)]
        of_each = [
            np.sort([cosines(queries, x[column]) for column in each.T], axis=0) for each in places
        ]  # in any order
        return float(np.abs(of_each[0] - of_each[1]).max())

    def relative(found: np.ndarray, ours: np.ndarray) -> float:
        return float(np.abs(found / ours - 1).max())

    of_nearest: dict[str, Way] = {
        "ours": ours_nearest,
        "numpy, blocks": lambda: numpy_nearest(queries, x, 1),
        **rivals(queries, x, 1, threads),
    }
    of_neighbours: dict[str, Way] = {
        "ours": ours_neighbours,
        "numpy, blocks": lambda: numpy_nearest(queries, x, K),
        **rivals(queries, x, K, threads),
    }
    return [
        Measurement("nearest", of_nearest, cosine_gap, COSINE_TOLERANCE, "cosine of the row found, largest difference"),
        Measurement(
            "neighbours", of_neighbours, cosine_gap, COSINE_TOLERANCE, "cosines of the rows found, largest difference"
        ),
        Measurement(
            "ranks", {"ours": ours_ranks, "numpy float64": lambda: numpy_ranks(x)}, relative, STATISTIC_TOLERANCE,
            "largest relative difference",
        ),
        Measurement(
            "cka", {"ours": ours_cka, "numpy float64": lambda: numpy_cka(*parts)}, relative, STATISTIC_TOLERANCE,
            "relative difference",
        ),
        Measurement(
            "statistics", {"ours": lambda: np.array([s.value for s in stats(x, y, n_threads=threads).statistics])},
            relative, 0.0, "",
        ),
    ]  # fmt: skip


def run(measurement: Measurement, repeats: int) -> list[dict[str, object]]:
    """A row for each way; ways take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in measurement.ways}
    answers = {}
    for _ in range(repeats):
        for name, way in measurement.ways.items():
            began = time.perf_counter()
            answers[name] = way()
            seconds[name].append(time.perf_counter() - began)
    ours = statistics.median(seconds["ours"])
    rows = []
    for name, times in seconds.items():
        distance = measurement.distance(answers[name], answers["ours"])
        if not distance <= measurement.tolerance:
            raise SystemExit(f"{measurement.name}: the answer of {name} is {distance:.1e} away from ours")
        rows.append(
            {
                "measurement": measurement.name,
                "way": name,
                "seconds": f"{statistics.median(times):.4f}",
                "seconds_min": f"{min(times):.4f}",
                "seconds_max": f"{max(times):.4f}",
                "ratio_to_ours": f"{statistics.median(times) / ours:.2f}",
                "repeats": repeats,
                "disagreement": f"{distance:.2e}",
                "tolerance": measurement.tolerance,
                "what_disagrees": measurement.what,
            }
        )
    return rows


# --- other ways -----------------------------------------------------------------------------------------------


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of rows pair by pair, float64."""
    return np.einsum("ij,ij->i", unit(a.astype(np.float64)), unit(b.astype(np.float64)))


def numpy_nearest(queries: np.ndarray, x: np.ndarray, k: int, block: int = 1024) -> np.ndarray:
    """Positions (m,), or (m, k) in any order."""
    base, rows = unit(x), unit(queries)
    blocks = [rows[i : i + block] @ base.T for i in range(0, len(rows), block)]
    if k == 1:
        return np.concatenate([cosine.argmax(1) for cosine in blocks])
    return np.concatenate([np.argpartition(cosine, -k, axis=1)[:, -k:] for cosine in blocks])


def rivals(queries: np.ndarray, x: np.ndarray, k: int, threads: int) -> dict[str, Way]:
    """Ways of packages that are installed, to the k nearest."""
    found: dict[str, Way] = {}
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError:
        print("scikit-learn is not installed: left out")
    else:

        def sklearn_nearest() -> np.ndarray:
            search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine", n_jobs=threads).fit(x)
            return search.kneighbors(queries, return_distance=False)

        found["scikit-learn brute"] = sklearn_nearest
    try:
        import faiss
    except ImportError:
        print("faiss-cpu is not installed: left out")
    else:
        faiss.omp_set_num_threads(threads)

        def faiss_nearest() -> np.ndarray:
            index = faiss.IndexFlatIP(x.shape[1])
            index.add(unit(x))
            return index.search(unit(queries), k)[1]

        found["faiss-cpu IndexFlatIP"] = faiss_nearest
    return found


def numpy_ranks(x: np.ndarray) -> np.ndarray:
    z = x.astype(np.float64)
    p = np.linalg.eigvalsh(np.corrcoef(z.T))
    p = p[p > 0] / p.sum()
    singular = np.linalg.svd(z, compute_uv=False)
    q = singular / singular.sum() + 1e-7
    rank = (singular > 0.01 * singular.max()).sum()
    return np.array([np.exp(-(p * np.log(p)).sum()), rank, np.exp(-(q * np.log(q)).sum())])


def numpy_cka(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b = (v.astype(np.float64) - v.astype(np.float64).mean(0) for v in (x, y))
    norm = np.linalg.norm
    return np.array([norm(a.T @ b) ** 2 / (norm(a.T @ a) * norm(b.T @ b))])


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        wanted = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv else "2"
        if os.environ.get(variable) != wanted:  # read once, when a library is loaded
            os.environ[variable] = wanted
            os.execv(sys.executable, [sys.executable, *sys.argv])
    sys.exit(main())
