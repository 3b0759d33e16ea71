"""Coverage of paired differences of the class-balanced error, where classes differ in size or are few, by simulation.

Two encoders see the same rows: twelve features, and the first nine of them. The truth of a difference is its mean over
the draws, which `compare` estimates without bias.

    python bench/coverage_paired_metrics.py --replicates 300 --out bench/results/coverage_paired_metrics.csv
"""

import argparse
import csv
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

# the modules beside this file, also when a test loads it from elsewhere
sys.path.insert(0, str(Path(__file__).parent))

import machine
import numpy as np

PACKAGES = ("ssl-risk-rs", "numpy", "scipy")
N_FEATURES, NARROW = 12, 9
METRICS = ("error", "balanced")
QUANTITIES = ("approx_usability", "probe_gen", "enc_gen", "agg_risk")


@dataclass(frozen=True)
class World:
    """Rows of each class, and rows of each group, all of one class; 0 where rows are independent."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    group: int = 0


WORLDS = {
    "equal": World((150,) * 4, (80,) * 4),
    "unequal": World((300, 150, 100, 50), (150, 75, 50, 25)),
    "rare": World((300, 150, 75, 60), (200, 100, 67, 4)),
    "groups": World((200, 200, 200, 100), (120, 120, 120, 40), group=10),
}


def draw(world: World, counts: tuple[int, ...], rng: np.random.Generator, first: int):
    """Rows, labels, and groups from number `first` on."""
    centres = 0.5 * np.random.default_rng(9).normal(size=(len(counts), N_FEATURES))
    y = np.repeat(np.arange(len(counts)), counts)
    x, groups = centres[y] + rng.normal(size=(len(y), N_FEATURES)), None
    if world.group:
        number = np.arange(len(y)) // world.group
        x += 0.6 * rng.normal(size=(number.max() + 1, N_FEATURES))[number]
        groups = first + number
    return x.astype(np.float32), y, groups


def replicate(index: int, *, world: str, probe: str, tune_on: str) -> np.ndarray:
    """Difference, se, low, high and whether it carries a mark: (metrics, quantities, 5)."""
    from ssl_risk_rs import compare, decompose

    of, rng = WORLDS[world], np.random.default_rng([index, 3])
    (x, y, g), (x_test, y_test, g_test) = draw(of, of.train, rng, 0), draw(of, of.test, rng, 10**6)
    options = {
        "probe": probe, "n_threads": 1, "midpoint": False, "groups": None if g is None else (g, g_test),
        "tune_on": tune_on,
    }  # fmt: skip
    results = [
        decompose(
            np.ascontiguousarray(x[:, :d]), y, np.ascontiguousarray(x_test[:, :d]), y_test, name=str(d), **options
        )
        for d in (N_FEATURES, NARROW)
    ]
    found = []
    for metric in METRICS:
        comparison = compare(results, metric=metric)
        every = [comparison.difference(str(NARROW), quantity) for quantity in QUANTITIES]
        found.append([(d.difference, d.se, d.low, d.high, d.grade.value != "sound") for d in every])
    return np.array(found, float)


def main() -> None:
    """Run the simulation, print and write the table."""
    parser = argparse.ArgumentParser(description="Coverage of paired differences in other metrics.")
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--probes", nargs="+", choices=("logistic", "ridge"), default=["ridge"])
    parser.add_argument("--tune-on", choices=METRICS, default="error")
    parser.add_argument("--out", type=Path, default=Path("bench/results/coverage_paired_metrics.csv"))
    options = parser.parse_args()
    table = []
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for world in options.worlds:
            for probe in options.probes:
                one = partial(replicate, world=world, probe=probe, tune_on=options.tune_on)
                draws = np.stack(list(pool.map(one, range(options.replicates), chunksize=5)))
                table += summarize(world, probe, draws)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    options.out.with_suffix(".txt").write_text(machine.describe(PACKAGES))


def summarize(world: str, probe: str, draws: np.ndarray) -> list[dict[str, object]]:
    """A row for each metric and quantity of draws (replicates, metrics, quantities, 5)."""
    rows: list[dict[str, object]] = []
    for i, metric in enumerate(METRICS):
        for j, quantity in enumerate(QUANTITIES):
            value, se, low, high, marked = draws[:, i, j].T
            truth = value.mean()
            row = {
                "world": world, "probe": probe, "metric": metric, "quantity": quantity, "replicates": len(draws),
                "truth": truth, "sd": value.std(ddof=1), "mean_se": np.sqrt((se**2).mean()),
                "coverage": ((low <= truth) & (truth <= high)).mean(), "marked": marked.mean(),
            }  # fmt: skip
            rows.append({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
            print(" ".join(f"{v}" for v in rows[-1].values()), flush=True)
    return rows


if __name__ == "__main__":
    main()
