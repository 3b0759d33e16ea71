"""Tuned few-shot probes: ours, all draws of one size side by side, beside scikit-learn's LogisticRegressionCV.

Both get the same draws of the problem `few` (10,000 rows × 2048, 100 classes; five rows of each class a draw),
standardized features and five stratified folds on which the penalty is tuned. Ours goes on as long as penalties get
better; scikit-learn tries the first four of them. A row for each, with the seconds of 1,000 fits and the error on 2,000
test rows. Rows fail where the mean errors of the draws that both saw differ by more than three standard errors of it.

    python bench/fewshot.py --draws 8 --rival-draws 2 --out bench/results/fewshot.csv
"""

import argparse
import csv
import os
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
from ssl_risk_rs.decomposition.decomposing import _method as method_of
from ssl_risk_rs.decomposition.fewshot import _Drawing, plan_shots
from ssl_risk_rs.decomposition.fitting import Fitter
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.shotfits import ALPHAS
from ssl_risk_rs.decomposition.task import make_task

PACKAGES = ("ssl-risk-rs", "scikit-learn", "numpy", "scipy")
FOLDS = 5
#: penalties that scikit-learn tries; ours takes five a draw on average, weaker ones too
TRIED = ALPHAS[:4]
#: its defaults of now, of which it warns where they are not said
SAID = {"l1_ratios": (0.0,), "scoring": "accuracy", "use_legacy_attributes": False}
#: standard errors of a difference of mean errors
CLEAR = 3.0


@dataclass(frozen=True, slots=True)
class Row:
    """What one of them took; errors are shares of the test rows."""

    who: str
    draws: int
    fits: int
    seconds: float
    cpu_seconds: float
    seconds_of_1000: float
    error: float
    error_se: float
    penalties: str
    status: str = "ok"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both, print and write the rows."""
    parser = argparse.ArgumentParser(description="Tuned few-shot probes beside scikit-learn.")
    parser.add_argument("--problem", default="few", choices=("few", "few-smoke"))
    parser.add_argument("--probe", default="logistic", choices=("logistic", "ridge"))
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--rival-draws", type=int, default=2, help="0: ours alone")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    loaded = problems.load(options.problem)
    ours, draws = of_ours(loaded, options.probe, options.shots, options.draws)
    rows = [ours]
    if options.rival_draws and options.probe == "logistic":
        rows.append(of_scikit_learn(loaded, draws[: options.rival_draws]))
    for row in rows:
        print(
            f"{row.who:34} {row.fits:4} fits of {row.draws} draws  {row.seconds_of_1000:7.1f} s for 1,000 "
            f"(CPU {1000 * row.cpu_seconds / row.fits:.1f})  "
            f"error {100 * row.error:.2f} ± {100 * row.error_se:.2f} %  {row.status}"
        )
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
        options.out.with_suffix(".txt").write_text(machine.describe(PACKAGES))
    return int(any(row.status != "ok" for row in rows))


@dataclass(frozen=True, slots=True)
class Drawn:
    """A draw: its rows, and the share of test rows that our probe of it gets wrong."""

    rows: np.ndarray
    error: float


def of_ours(loaded: problems.Loaded, probe: str, shots: int, count: int) -> tuple[Row, list[Drawn]]:
    """All draws side by side, as `fewshot` and `run --shots` fit them."""
    task = make_task(np.asarray(loaded.x), loaded.y, np.asarray(loaded.x_test), loaded.y_test)
    settings = Settings(probe=probe, shots=str(shots), draws=count)
    method = method_of(task, settings)
    plan = plan_shots(task, settings, 0).plans[0]
    drawing = _Drawing(task, plan, method, settings, lambda event: None)
    clock = Clock()
    fits = drawing.fit(range(count))
    seconds, cpu = clock.read()
    judge = Fitter(task.features, task.labels, task.n_classes, method, lambda event: None)
    errors = [float(outcome.wrong.mean()) for outcome in judge.judge([fit.probe for fit in fits], task.test_rows)]
    n_fits = sum(fit.tuning_fits + 1 for fit in fits)
    chosen = " ".join(f"{fit.penalty.value:g}" for fit in fits)
    draws = [Drawn(task.train_rows[rows], error) for rows, error in zip(plan.rows(count), errors, strict=True)]
    return Row(f"ours, {probe}", count, n_fits, seconds, cpu, *of_1000(seconds, n_fits, errors), chosen), draws


def of_scikit_learn(loaded: problems.Loaded, draws: Sequence[Drawn]) -> Row:
    """LogisticRegressionCV on the same draws, all cores for its folds."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    clock = Clock()
    errors, chosen = [], []
    x_test = loaded.x_test.astype(np.float32)
    for draw in draws:
        x, y = loaded.x[draw.rows].astype(np.float32), loaded.y[draw.rows]
        strengths = [1 / (len(x) * alpha) for alpha in TRIED]
        model = LogisticRegressionCV(Cs=strengths, cv=FOLDS, n_jobs=len(os.sched_getaffinity(0)), **SAID)
        fit = make_pipeline(StandardScaler(), model).fit(x, y)
        errors.append(float((fit.predict(x_test) != loaded.y_test).mean()))
        chosen.append(f"{1 / (len(x) * np.ravel(model.C_)[0]):g}")
    seconds, _ = clock.read()
    cpu = float("nan")  # its workers live on, and are not counted before they end
    n_fits = (FOLDS * len(TRIED) + 1) * len(draws)
    difference = np.array([draw.error for draw in draws]) - errors
    n_test = len(loaded.y_test)
    # of rows that one of them alone gets wrong at most
    se = np.sqrt(2 * np.mean(errors) * (1 - np.mean(errors)) / (n_test * len(draws)))
    status = "ok" if abs(difference.mean()) <= CLEAR * se else "FAIL"
    who = "scikit-learn LogisticRegressionCV"
    return Row(who, len(draws), n_fits, seconds, cpu, *of_1000(seconds, n_fits, errors), " ".join(chosen), status)


def of_1000(seconds: float, n_fits: int, errors: Sequence[float]) -> tuple[float, float, float]:
    """Seconds of 1,000 fits; mean error, and its standard error over draws."""
    spread = float(np.std(errors, ddof=1) / np.sqrt(len(errors))) if len(errors) > 1 else float("nan")
    return 1000 * seconds / n_fits, float(np.mean(errors)), spread


class Clock:
    """Seconds since it was made, and the CPU seconds of this process."""

    def __init__(self) -> None:
        self.began, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Both."""
        return time.perf_counter() - self.began, time.process_time() - self.cpu


if __name__ == "__main__":
    sys.exit(main())
