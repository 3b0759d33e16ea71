"""Coverage of the 95 % intervals where targets are numbers or several labels a row, by simulation with known truth.

World `numbers`: one number that is linear in 12 features, with normal noise; `heavy`: with noise of Student's t with 5
degrees of freedom; `groups`: the first in groups of 10 rows that are moved together; `labels`: three labels, each a
threshold of a noisy linear score, on 65, 50 and 25 % of the rows. R_AS, R_CS and R_US are true on a large fresh sample,
R_AF in the mean over draws. Squared errors come in units of the training rows' variance, which varies from draw to
draw; true risks are in units of the true one.

    python bench/coverage_targets.py --replicates 300 --out bench/results/coverage_targets.csv
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np
from coverage_paired import single as coverage

#: estimates of `coverage.summarize` but those of a twin
COLUMNS = ("world", *coverage.COLUMNS[4:])
N, M, D, FRESH = 450, 150, 12, 20_000
WORLDS = ("numbers", "heavy", "groups", "labels")
CUTS = (-2, 0, 2)
#: standard deviation of the noise
NOISE = 2.5
WEIGHTS = np.random.default_rng(1).standard_normal((D, 3))
VARIANCE = float((WEIGHTS[:, 0] ** 2).sum() + NOISE**2)


def draw(world: str, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """X (n, D), Y (n, k) and, in `groups`, the group of each row."""
    groups = np.arange(n) // 10 if world == "groups" else None

    def noise(rows: int) -> np.ndarray:
        return rng.standard_t(5, (rows, 3)) / np.sqrt(5 / 3) if world == "heavy" else rng.standard_normal((rows, 3))

    x, own = rng.standard_normal((n, D)), noise(n)
    if groups is not None:  # variances stay: 0.6² + 0.8² = 1
        x = 0.6 * rng.standard_normal((groups.max() + 1, D))[groups] + 0.8 * x
        own = 0.6 * noise(groups.max() + 1)[groups] + 0.8 * own
    y = x @ WEIGHTS + NOISE * own
    y = (y > CUTS).astype(float) if world == "labels" else y[:, :1]
    return x.astype(np.float32), y, groups


def decomposed(world: str, rng: np.random.Generator, seed: int) -> tuple[Any, np.ndarray, np.ndarray, float]:
    """A decomposition, its training rows, and the factor from units of their variance to those of the true one."""
    from ssl_risk_rs import decompose

    (x, y, g), (x_test, y_test, g_test) = draw(world, rng, N), draw(world, rng, M)
    groups = None if g is None or g_test is None else (g, 10_000 + g_test)
    kind: Any = "labels" if world == "labels" else "numbers"
    found = decompose(*(x, y, x_test, y_test), groups=groups, probe="ridge", target_kind=kind, seed=seed, n_threads=1)
    return found, x, y, 1.0 if world == "labels" else float(y.var()) / VARIANCE


def replicate(world: str, seed: int) -> np.ndarray:
    """(quantities, 5): estimate, se, low, high, marked; NaN where there is no twin."""
    found, *_ = decomposed(world, np.random.default_rng([seed, 0]), seed)
    rows = []
    for name in coverage.QUANTITIES:
        if name in found.estimates:
            e = found.estimates[name]
            rows.append([e.estimate, e.se, e.low, e.high, float(e.grade.value != "sound")])
        else:
            rows.append([np.nan] * 5)
    return np.array(rows)


def truth(world: str, seed: int) -> np.ndarray:
    """Risks (5,) of the probes of another draw."""
    from sklearn.linear_model import Ridge
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng([seed, 1])
    found, x, y, unit = decomposed(world, rng, seed)
    fresh_x, fresh_y, _ = draw(world, rng, FRESH)
    alpha, subset = found.penalties["tuned"].value, found.judgements.subset

    def risk(rows: np.ndarray) -> float:
        mean, sd = x[rows].mean(0), x[rows].std(0)
        model = Ridge(alpha=alpha * rows.sum()).fit((x[rows] - mean) / sd, y[rows])
        predicted = model.predict((fresh_x - mean) / sd).reshape(fresh_y.shape)
        if world == "labels":
            return 1 - float(roc_auc_score(fresh_y, predicted))
        return float(((fresh_y - predicted) ** 2).mean()) / VARIANCE

    of_parts = float(np.mean([risk(subset != j) for j in range(int(subset.max()) + 1)]))
    return np.array([np.nan, unit * found.estimate("risk_af"), of_parts, of_parts, risk(subset == subset)])


def main() -> None:
    """Run the simulation."""
    parser = argparse.ArgumentParser(description="Coverage where targets are numbers or labels, by simulation.")
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--out", type=Path, default=Path("bench/results/coverage_targets.csv"))
    options = parser.parse_args()
    if options.replicates < 2:
        parser.error("at least 2 replicates are needed for a standard deviation")
    for world in options.worlds:
        started = time.perf_counter()
        draws = np.stack([replicate(world, seed) for seed in range(options.replicates)])
        true = np.stack([truth(world, seed) for seed in range(options.replicates)])
        rows = [
            row
            for row in coverage.summarize({"world": world}, np.nan_to_num(draws), np.nan_to_num(true))
            if row["quantity"] not in ("risk_sup", "usability")
        ]
        coverage.write_table(options.out, rows, columns=COLUMNS, key=COLUMNS[:2])
        print(f"{world} {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    with options.out.with_suffix(".txt").open("a") as file:
        file.write(machine.describe(("ssl-risk-rs", "numpy", "scipy", "scikit-learn")) + "\n")


if __name__ == "__main__":
    main()
