"""Back-test of the label curve on published results: each size of each encoder, predicted from its other sizes.

The table is `all_results.csv` of Dubois et al. 2023: errors with 3, 5, 30 shots, 1 % and all of ImageNet. Their
standard errors are not published; 0.8 % of an error is assumed, as one draw of 5,000 rows or more has.

    python bench/label_curve.py all_results.csv
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from ssl_risk_rs.decomposition.labelcurve import Measured, _predict

#: column → labels of ImageNet
SIZES = {
    "train-nperclass-3_test": 3_000,
    "train-nperclass-5_test": 5_000,
    "train-balsbst-ntrain0.01_test": 12_811,
    "train-nperclass-30_test": 30_000,
    "train_test": 1_281_167,
}
NOISE = 0.008
#: sizes that are known → the one that is predicted, by position in SIZES
TASKS = (
    ((1, 2, 3, 4), 0), ((0, 2, 3, 4), 1), ((0, 1, 3, 4), 2), ((0, 1, 2, 4), 3), ((0, 1, 2, 3), 4),
    ((0, 1, 2), 3), ((0, 1, 4), 3), ((0, 4), 2), ((2, 4), 3), ((3, 4), 0), ((0, 1), 4),
)  # fmt: skip


def errors_of(path: Path) -> np.ndarray:
    """Errors (encoders, sizes) of the encoders that have all sizes."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    places = [rows[1].index(column) for column in SIZES]
    found = [[float(row[i]) / 100 for i in places] for row in rows[2:] if all(_is_number(row[i]) for i in places)]
    return np.array(found)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def main() -> None:
    """Print a row for each task."""
    parser = argparse.ArgumentParser(description="Back-test of the label curve on published results.")
    parser.add_argument("table", type=Path)
    errors = errors_of(parser.parse_args().table)
    labels = np.array(list(SIZES.values()), float)
    names = ("3 shots", "5 shots", "1 %", "30 shots", "all")
    print(f"{len(errors)} encoders with all sizes\n")
    print("| known | predicted | RMSE, points | bias, points | 95 % interval covers | median half width, points |")
    print("|---|---|--:|--:|--:|--:|")
    for known, target in TASKS:
        miss, covered, half = [], [], []
        for e in errors:
            measured = Measured(labels, e, np.diag((NOISE * e) ** 2), names, np.zeros(len(e), bool))
            mean, covariance, _ = _predict(measured, np.array(known), labels[[target]], np.zeros(1, bool), 1.0)
            spread = 1.96 * float(np.sqrt(covariance[0, 0] + NOISE**2))
            miss.append(100 * (np.exp(mean[0]) - e[target]))
            covered.append(abs(mean[0] - np.log(e[target])) <= spread)
            half.append(100 * spread * e[target])
        print(
            f"| {', '.join(names[i] for i in known)} | {names[target]} | {np.sqrt(np.mean(np.square(miss))):.2f} | "
            f"{np.mean(miss):+.2f} | {100 * np.mean(covered):.0f} % | {np.median(half):.1f} |"
        )


if __name__ == "__main__":
    main()
