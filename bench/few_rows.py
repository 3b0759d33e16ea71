"""Decompositions of fewer rows than features: in the span of the rows, by products of features, and by scikit-learn.

The first rows of the problem `few` (2048 features), its 100 classes taken as ten. scikit-learn gets the fits that ours
made, one after the other: as many rows, the same penalty, standardized features, its own tolerance; its error on the
test rows is that of the tuned fit to all rows. Rows fail where a risk differs by more than half a point.

    python bench/few_rows.py --rows 400,1000 --out bench/results/few_rows.csv
"""

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

# the modules beside this file, also when a test loads it from elsewhere
sys.path.insert(0, str(Path(__file__).parent))

import machine
import numpy as np
import problems
from ssl_risk_rs import decompose
from ssl_risk_rs.probes.span_solver import SpanSolver
from ssl_risk_rs.results import Decomposition

PACKAGES = ("ssl-risk-rs", "scikit-learn", "numpy", "scipy")
CLOSE = 0.005


@dataclass(frozen=True, slots=True)
class Row:
    """What one of them took; the risk is R_US."""

    who: str
    probe: str
    rows: int
    features: int
    fits: int
    seconds: float
    ratio: float
    risk_us: float
    status: str


class ByFeatures(SpanSolver):
    """All rows by products of features."""

    def moments(self, rows, labels, n_classes, *, cells=None, precision="auto"):
        """See `SpanSolver`."""
        return self.solver.moments(rows, labels, n_classes, cells=cells, precision=precision)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all, print and write the rows."""
    parser = argparse.ArgumentParser(description="Decompositions of fewer rows than features.")
    parser.add_argument("--problem", default="few", choices=("few", "few-smoke"))
    parser.add_argument("--rows", default="400,1000")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    loaded = problems.load(options.problem)
    rows: list[Row] = []
    for n in map(int, options.rows.split(",")):
        for probe in ("ridge", "logistic"):
            rows += of_size(loaded, n, probe, rivals=not options.no_rivals)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
        options.out.with_suffix(".txt").write_text(machine.describe(PACKAGES))
    return int(any(row.status != "ok" for row in rows))


def of_size(loaded: problems.Loaded, n: int, probe: str, *, rivals: bool) -> list[Row]:
    """Rows of one number of rows."""
    x, y = loaded.x[:n].astype(np.float32), loaded.y[:n] % 10
    test = loaded.x_test.astype(np.float32), loaded.y_test % 10
    took, ours = timed(lambda: decompose(x, y, *test, probe=probe))
    found = [("ours, in the span", took, ours.estimate("risk_us"))]
    road = SpanSolver.moments
    SpanSolver.moments = ByFeatures.moments
    try:
        seconds, slow = timed(lambda: decompose(x, y, *test, probe=probe))
    finally:
        SpanSolver.moments = road
    found.append(("ours, by products of features", seconds, slow.estimate("risk_us")))
    if rivals:
        seconds, error = timed(lambda: fitted_again(ours, x, y, *test))
        found.append(("scikit-learn, the same fits", seconds, error))
    rows = []
    for who, seconds, risk in found:
        status = "ok" if abs(risk - found[0][2]) <= CLOSE else "FAIL"
        rows.append(Row(who, probe, n, x.shape[1], len(ours.fits), seconds, seconds / took, risk, status))
        print(
            f"{who:32} {probe:8} {n} × {x.shape[1]}  {len(ours.fits)} fits  {seconds:7.2f} s  {seconds / took:5.1f} ×  "
            f"R_US {100 * risk:.2f} %  {status}",
            flush=True,
        )
    return rows


def timed(work):
    """Seconds, and what came of it."""
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def fitted_again(ours: Decomposition, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    """The error on test rows of the tuned fit to all rows; the other fits are made, and judged on test rows too."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    error = np.nan
    for fit in ours.fits:
        strength = fit.n * fit.alpha
        model = (
            RidgeClassifier(alpha=strength)
            if fit.probe == "ridge"
            else LogisticRegression(C=1 / strength, max_iter=1000)
        )
        # two rows of each class at least; which ones they are does not matter for the time
        model = make_pipeline(StandardScaler(), model).fit(x[: fit.n], y[: fit.n])
        wrong = float((model.predict(x_test) != y_test).mean())
        if fit.role == "full":
            error = wrong
    return error


if __name__ == "__main__":
    sys.exit(main())
