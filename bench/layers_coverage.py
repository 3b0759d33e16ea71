"""Coverage of the interval of a feature that was chosen among several: on folds, and by its own test error.

Features of one encoder are drawn as noisy views of the same labels; every replicate draws fresh rows and decomposes
all of them. One is chosen by the errors on held-out folds of its training rows (`run --layers`), one, naively, by the
least test error. For each, the share of replicates in which the 95 % interval holds the expectation of that feature's
quantity, and the mean of estimate less expectation. What is chosen on folds is judged on rows outside them ("folds"),
as `run` prints it, and on all rows. The expectation is the mean over all replicates, in which nothing is chosen.

    python bench/layers_coverage.py --replicates 500 --out bench/results/2026-11-26_layers_coverage_xeon.csv
"""

import argparse
import csv
import time
from pathlib import Path

import machine
import numpy as np
from ssl_risk_rs import Decomposition, decompose
from ssl_risk_rs.results.many import Entry
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow.layers import choose_layer

QUANTITIES = ("agg_risk", "approx_usability", "probe_gen", "enc_gen")
#: world → (share of the noise that all features have in common, strength of the signal of the first and the last)
WORLDS = {"alike": (0.0, 0.9, 0.9), "alike_shared": (0.64, 0.9, 0.9), "graded": (0.0, 0.8, 1.0)}
N_TRAIN, N_TEST, N_CLASSES, N_FEATURES = 400, 200, 4, 10


def draw(world: str, n_layers: int, rng: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
    """X_train, y_train, X_test, y_test of every feature."""
    shared, weak, strong = WORLDS[world]
    means = np.random.default_rng(5).standard_normal((n_layers, N_CLASSES, N_FEATURES))
    means /= np.linalg.norm(means, axis=2, keepdims=True) / 2
    y = [np.arange(n) % N_CLASSES for n in (N_TRAIN, N_TEST)]
    common = [rng.standard_normal((len(labels), N_FEATURES)) for labels in y]
    found = []
    for layer, strength in enumerate(np.linspace(weak, strong, n_layers)):
        x = [
            strength * means[layer][labels]
            + np.sqrt(shared) * noise
            + np.sqrt(1 - shared) * rng.standard_normal(noise.shape)
            for labels, noise in zip(y, common, strict=True)
        ]
        found.append((x[0].astype(np.float32), y[0], x[1].astype(np.float32), y[1]))
    return found


def replicate(world: str, n_layers: int, index: int) -> tuple[list[Decomposition], int, int, Decomposition]:
    """Decompositions of all features; which is chosen on folds, which has the least test error;
    the first of these judged on rows outside the folds."""
    rng = np.random.default_rng([index, *world.encode()])
    results = [decompose(*rows, probe="ridge", seed=index, n_threads=1) for rows in draw(world, n_layers, rng)]
    found = choose_layer([Entry(str(i), "", Run.of(result), str(i)) for i, result in enumerate(results)])
    chosen = int(found.chosen("ridge").name)
    naive = int(np.argmin([result.estimate("agg_risk") for result in results]))
    return results, chosen, naive, found.unseen["ridge"]


def measure(world: str, n_layers: int, replicates: int) -> list[dict[str, object]]:
    """A row for each way of choosing and quantity."""
    every = [replicate(world, n_layers, index) for index in range(replicates)]
    rows: list[dict[str, object]] = []
    for name in QUANTITIES:
        values = np.array([[r.estimate(name) for r in results] for results, *_ in every])
        truth = values.mean(0)  # of each feature: their class directions differ
        for way in ("folds", "folds, all rows", "test error", "first"):
            held, off = [], []
            for results, chosen, naive, unseen in every:
                i = {"test error": naive, "first": 0}.get(way, chosen)
                e = (unseen if way == "folds" else results[i]).estimates[name]
                held.append(e.low <= truth[i] <= e.high)
                off.append(e.estimate - truth[i])
            rows.append(
                {
                    "world": world, "features": n_layers, "chosen_by": way, "quantity": name,
                    "replicates": replicates, "coverage": round(float(np.mean(held)), 4),
                    "coverage_se": round(float(np.std(held) / np.sqrt(replicates)), 4),
                    "bias": round(float(np.mean(off)), 5),
                    "bias_se": round(float(np.std(off) / np.sqrt(replicates)), 5),
                }
            )  # fmt: skip
    return rows


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--features", type=int, default=12)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    began = time.perf_counter()
    rows = [row for world in args.worlds for row in measure(world, args.features, args.replicates)]
    for row in rows:
        print("  ".join(f"{value!s:<16}" for value in row.values()))
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
