"""Do intervals hold where test images are unlike training images? Disjoint draws of Fashion-MNIST, paler and lighter.

Each draw has 80 training and 80 test images of each class, as mean pixels (7 x 7); test pixels are `SCALE x + OFFSET`.
There are 37 disjoint draws of the 60,000 training images, whose spread and mean stand for the truth: no draw shares
an image with another. An interval "covers" if it holds the mean of all draws.

    python bench/coverage_shift.py --out bench/results/coverage_shift.csv      # a minute on two cores
"""

import argparse
import csv
import gzip
from pathlib import Path

import numpy as np
from machine import describe

FOLDER = Path("/usr/share/datasets/fashion-mnist")
QUANTITIES = ("risk_as", "risk_cs", "risk_us", "probe_gen", "enc_gen", "enc_gen_equal_labels")
#: (scale, offset) of test pixels from 0 to 255
SHIFTS = ((1.0, 0.0), (0.8, 15.0), (0.7, 25.0))
EACH = 80  # images of a class in each part of a draw


def load() -> tuple[np.ndarray, np.ndarray]:
    """Mean pixels, float32 (60000, 49), and classes."""

    def values(name: str, header: int) -> np.ndarray:
        return np.frombuffer(gzip.open(FOLDER / name).read(), np.uint8)[header:]

    images = values("train-images-idx3-ubyte.gz", 16).reshape(-1, 7, 4, 7, 4)
    return images.mean((2, 4), dtype=np.float32).reshape(-1, 49), values("train-labels-idx1-ubyte.gz", 8).astype(int)


def draws(y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and test rows of each draw."""
    rng = np.random.default_rng(0)
    of_class = [rng.permutation(np.flatnonzero(y == c)) for c in range(10)]
    return [
        tuple(np.concatenate([rows[k * EACH : (k + 1) * EACH] for rows in of_class]) for k in (2 * draw, 2 * draw + 1))
        for draw in range(min(map(len, of_class)) // (2 * EACH))
    ]


def main() -> None:
    """Decompose every draw, and write a row for each shift, probe and quantity."""
    from ssl_risk_rs import decompose

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", nargs="+", choices=("ridge", "logistic"), default=["ridge", "logistic"])
    parser.add_argument("--out", type=Path, default=Path("bench/results/coverage_shift.csv"))
    args = parser.parse_args()
    x, y = load()
    rows = []
    for probe in args.probes:
        for scale, offset in SHIFTS:
            seen, found = scale * x + np.float32(offset), []
            for train, test in draws(y):
                result = decompose(x[train], y[train], seen[test], y[test], probe=probe)
                found.append([(e.estimate, e.se, e.low, e.high) for e in map(result.estimates.get, QUANTITIES)])
            value, se, low, high = np.moveaxis(np.array(found), 2, 0)
            mean = value.mean(0)
            covered = ((low <= mean) & (mean <= high)).mean(0)
            for j, quantity in enumerate(QUANTITIES):
                rows.append({
                    "scale": scale, "offset": offset, "probe": probe, "quantity": quantity, "draws": len(found),
                    "mean": round(float(mean[j]), 6), "sd": round(float(value[:, j].std(ddof=1)), 6),
                    "median_se": round(float(np.median(se[:, j])), 6), "coverage": round(float(covered[j]), 4),
                    "median_width": round(float(np.median(high[:, j] - low[:, j])), 6),
                })  # fmt: skip
                print(*rows[-1].values(), flush=True)
    with args.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    args.out.with_suffix(".txt").write_text(describe(["numpy", "ssl-risk-rs"]))


if __name__ == "__main__":
    main()
