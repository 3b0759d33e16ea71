"""Coverage of the intervals of nearest neighbours: of the errors on test and held-out rows, and of their gap.

Rows of Gaussian classes are drawn anew in each replicate, alone or in groups that share a part of their noise. The
truth of the test error is that of many fresh rows beside the same neighbours; that of the held-out error its mean over
all replicates; that of the gap 0, since training and test rows are drawn alike.

    python bench/coverage_knn.py --replicates 400 --out bench/results/2026-11-30_coverage_knn_zen3.csv
"""

import argparse
import csv
import time
from dataclasses import dataclass
from pathlib import Path

import machine
import numpy as np
from ssl_risk_rs import knn

FRESH = 20_000


@dataclass(frozen=True)
class World:
    """Rows, features, classes and neighbours; `shift` between class means; rows of a group, 1 for none; training rows
    that are held out, None for a fifth; `shares` of the classes."""

    name: str
    n_train: int
    n_test: int
    d: int
    classes: int
    k: int
    shift: float
    group: int = 1
    held: int | None = None
    spans: bool = False
    shares: tuple[float, ...] | None = None


WORLDS = (
    World("plain", 1000, 400, 16, 5, 20, 1.5),
    World("one neighbour", 1000, 400, 16, 5, 1, 1.5),
    World("few rows", 200, 100, 8, 4, 5, 1.5),
    World("hard, 50 classes", 1500, 1000, 32, 50, 20, 1.2),
    World("nearly no error", 1000, 400, 16, 5, 20, 3.5),
    World("many training rows", 2000, 400, 16, 5, 20, 1.5, held=400),
    World("groups of 5", 1000, 400, 16, 5, 20, 1.5, group=5),
    World("groups of 5 that span classes", 1000, 400, 16, 5, 20, 1.5, group=5, spans=True),
    World("rare classes", 1000, 400, 16, 5, 20, 1.5, shares=(0.7, 0.2, 0.06, 0.03, 0.01)),
)


def draw(world: World, n: int, rng: np.random.Generator, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and groups (numbered from `first`) of n rows."""
    means = np.random.default_rng(7).standard_normal((world.classes, world.d)) * world.shift / np.sqrt(2)
    units = -(-n // world.group)
    y = rng.choice(world.classes, n if world.spans else units, p=world.shares)
    of_row = np.repeat(np.arange(units), world.group)[:n]
    y = y if world.spans else y[of_row]
    common = rng.standard_normal((units, world.d))[of_row] if world.group > 1 else 0.0
    noise = rng.standard_normal((n, world.d))
    noise = noise if world.group == 1 else (common + noise) / np.sqrt(2)
    return (means[y] + 2.0 * noise).astype(np.float32), y, of_row + first


def replicate(world: World, index: int) -> dict[str, tuple[float, float, float, float]]:
    """Of each quantity estimate, low, high and its truth (NaN where it is the mean over replicates)."""
    rng = np.random.default_rng([index, *world.name.encode()])
    (x, y, g), (x_test, y_test, g_test) = draw(world, world.n_train, rng, 0), draw(world, world.n_test, rng, 1 << 20)
    fresh = draw(World(**{**vars(world), "group": 1, "spans": True}), FRESH, rng, 0)
    groups = (g, g_test) if world.group > 1 else None
    found = knn(x, y, x_test, y_test, k=world.k, groups=groups, held_rows=world.held, seed=index, n_threads=1)
    truth = knn(x, y, fresh[0], fresh[1], k=world.k, held_rows=0, n_threads=1).estimate("knn_test")
    truths = {"knn_test": truth, "knn_held": np.nan, "knn_gap": 0.0}
    return {name: (e.estimate, e.low, e.high, truths[name]) for name, e in found.estimates.items()}


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    began = time.perf_counter()
    rows = []
    for world in WORLDS:
        every = [replicate(world, index) for index in range(args.replicates)]
        for name in every[0]:
            found = np.array([one[name] for one in every])
            truth = np.where(np.isnan(found[:, 3]), found[:, 0].mean(), found[:, 3])
            held = (found[:, 1] <= truth) & (truth <= found[:, 2])
            rows.append(
                {
                    "world": world.name, "quantity": name, "replicates": args.replicates,
                    "mean": round(float(found[:, 0].mean()), 5), "bias": round(float((found[:, 0] - truth).mean()), 5),
                    "coverage": round(float(held.mean()), 4),
                    "below": round(float((truth > found[:, 2]).mean()), 4),
                    "length": round(float((found[:, 2] - found[:, 1]).mean()), 5),
                }
            )  # fmt: skip
            print("  ".join(f"{value!s:<12}" for value in rows[-1].values()), flush=True)
    if args.out is not None:
        with args.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        facts = machine.describe(("ssl-risk-rs", "numpy"))
        args.out.with_suffix(".txt").write_text(
            f"{facts}\nseconds: {time.perf_counter() - began:.0f}\nnote: both cores were shared with other work\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
