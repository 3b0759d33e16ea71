"""Coverage of the 95 % intervals of `decompose`, by simulation with known truth.

Features are drawn directly from a known distribution (the encoder is fixed), fresh in every replicate with
the same class counts; the whole strict protocol runs on each draw, tuning and supervised twin included. The
truth of a risk is its mean over the replicates, because the estimand is the expectation over such draws; that
of R_AS stands apart from the package's control variate (`_chance_of_split`). One row of the table for each
setting, probe and quantity; docs/coverage.md explains the columns.

    python bench/coverage.py --replicates 500 --processes 2 --out bench/results/coverage.csv
"""

import argparse
import csv
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from ssl_risk_rs.decomposition import Decomposition, decompose
from ssl_risk_rs.uncertainty import COMPONENTS, RISKS

Draw = Callable[[np.random.Generator, np.ndarray, bool], tuple[np.ndarray, np.ndarray]]

#: in the order of the table; `approx` and `agg_risk` are other names of `risk_sup` and `risk_us`
QUANTITIES = (*RISKS, "usability", "probe_gen", "enc_gen", "enc_gen_equal_labels", "label_count")
COLUMNS = (
    "setting", "probe", "quantity", "replicates", "truth", "truth_se", "mean", "bias", "bias_se", "mean_se",
    "sd", "se_ratio", "coverage", "coverage_se", "below", "above", "mean_width", "conservative",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """Class counts and the distribution that features and twin features of those classes come from."""

    name: str
    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]
    draw: Draw


def _means(seed: int, *shape: int) -> np.ndarray:
    """Fixed centres: part of the distribution, never of a replicate."""
    return np.random.default_rng(seed).standard_normal(shape)


def gauss(rng: np.random.Generator, y: np.ndarray, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping unit Gaussians for each class, 12 features; no difference between train and test."""
    centre = 0.85 * _means(1, 4, 2, 12)[y, rng.integers(0, 2, len(y))]
    noise, own = rng.standard_normal((2, len(y), 12))
    # the twin sees the same row, farther from the other classes, through partly the same noise
    return centre + noise, 1.3 * centre + 0.7 * noise + 0.7 * own


def relu(rng: np.random.Generator, y: np.ndarray, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """16 ReLU features of classes with heavy tails (Student t, 3 degrees of freedom) in 6 dimensions."""
    latent = 1.5 * _means(2, 5, 6)[y]
    noise = rng.standard_t(3, (len(y), 6))
    weights, offset = _means(3, 6, 16), 0.5 * _means(4, 16)
    own = np.maximum(latent @ weights + noise @ weights + offset, 0)
    twin = np.maximum(1.25 * latent @ weights + noise @ weights + offset, 0)
    return own, twin


def shift(rng: np.random.Generator, y: np.ndarray, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """Unequal classes whose rows lie closer together in training than in the test set, 10 features."""
    centre = 0.55 * _means(5, 3, 10)[y]
    noise, own = rng.standard_normal((2, len(y), 10))
    scale = 1.0 if test else 0.8
    return centre + scale * noise, 1.2 * centre + scale * (0.8 * noise + 0.6 * own)


def wide(rng: np.random.Generator, y: np.ndarray, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """48 Laplace features, most of them noise: a probe that pays for its few labels."""
    centre = np.zeros((len(y), 48))
    centre[:, :12] = _means(6, 6, 12)[y]
    noise, own = rng.laplace(size=(2, len(y), 48))
    return centre + noise, 1.2 * centre + 0.7 * noise + 0.7 * own


SETTINGS = {
    s.name: s
    for s in (
        Setting("gauss", (375,) * 4, (100,) * 4, gauss),
        Setting("relu", (320,) * 5, (90,) * 5, relu),
        Setting("shift", (600, 360, 240), (150, 90, 60), shift),
        Setting("wide", (250,) * 6, (75,) * 6, wide),
        # outside the range the intervals are meant for: few rows for each feature, as many test as train
        Setting("crowded", (70,) * 6, (70,) * 6, wide),
    )
}


def replicate(job: tuple[str, str, int, int]) -> np.ndarray:
    """One draw and its decomposition: (quantities + 1, 5) of estimate, se, low, high, conservative.

    The last row is R_AS without the control variate and, after it, the chance of the split.
    """
    name, probe, seed, index = job
    setting = SETTINGS[name]
    # both probes see the same draws
    rng = np.random.default_rng([seed, sorted(SETTINGS).index(name), index])
    y, y_test = (np.repeat(np.arange(len(c)), c) for c in (setting.train_counts, setting.test_counts))
    x, twin = setting.draw(rng, y, False)
    x_test, _ = setting.draw(rng, y_test, True)
    result = decompose(
        *(x.astype(np.float32), y, x_test.astype(np.float32), y_test),
        supervised=twin.astype(np.float32),
        probe=probe,
        seed=index,
        n_threads=1,
    )
    estimates = [result.uncertainty.estimates[q] for q in QUANTITIES]
    rows = [(e.estimate, e.se, e.low, e.high, float(e.conservative)) for e in estimates]
    raw = _raw_risks(result, y, y_test)
    for i, risk in enumerate(RISKS):
        if risk != "risk_as" and abs(raw[risk] - rows[i][0]) > 1e-9:
            raise AssertionError(f"{risk} is {rows[i][0]}, its judged rows give {raw[risk]}")
    chance = _chance_of_split(x, y, np.concatenate([result.outcomes[f"as_{j}_row"] for j in range(3)]))
    return np.array([*rows, (raw["risk_as"], chance, *[np.nan] * 3)])


def _chance_of_split(x: np.ndarray, y: np.ndarray, held: np.ndarray) -> float:
    """How much harder the held-out rows are than all training rows, for a probe that ignores the split.

    A ridge probe at a fixed penalty on all rows: the expectation is exactly zero, since the split is drawn
    apart from the features. Regressed out of R_AS, it lowers the Monte-Carlo error of the truth without bias.
    """
    z = (x - x.mean(0)) / x.std(0)
    targets = np.eye(y.max() + 1)[y] - np.bincount(y) / len(y)
    gram = z.T @ z / len(z) + 1e-2 * np.eye(z.shape[1])
    scores = z @ np.linalg.solve(gram, z.T @ targets / len(z)) + np.bincount(y) / len(y)
    wrong = scores.argmax(1) != y
    differences = [wrong[held][y[held] == c].mean() - wrong[y == c].mean() for c in range(y.max() + 1)]
    return float(np.bincount(y) / len(y) @ differences)


def _raw_risks(result: Decomposition, y: np.ndarray, y_test: np.ndarray) -> dict[str, float]:
    """Risks from the recorded outcomes alone, apart from the package's own formulas."""
    kept = result.outcomes
    wrong = {key[:-5]: value > 0 for key, value in kept.items() if key.endswith("_rank")}
    subsets = [key for key in wrong if key.startswith("as_")]
    held = y[np.concatenate([kept[f"{key}_row"] for key in subsets])]
    held_wrong = np.concatenate([wrong[key] for key in subsets])
    shares = np.bincount(y) / len(y)
    return {
        "risk_sup": wrong["sup"].mean(),
        "risk_af": wrong["af"].mean(),
        "risk_as": float(shares @ [held_wrong[held == c].mean() for c in range(len(shares))]),
        "risk_cs": np.mean([wrong[key.replace("as_", "cs_")].mean() for key in subsets]),
        "risk_us": wrong["us"].mean(),
    }


def summarize(setting: str, probe: str, draws: np.ndarray) -> Iterator[dict[str, object]]:
    """Rows of the table from draws of shape (replicates, quantities + 1, 5)."""
    n = len(draws)
    truths = {q: draws[:, i, 0] for i, q in enumerate(QUANTITIES[: len(RISKS)])}
    raw, chance = draws[:, -1, 0], draws[:, -1, 1]
    slope = np.cov(raw, chance)[0, 1] / chance.var(ddof=1) if chance.any() else 0.0
    truths["risk_as"] = raw - slope * chance
    for i, quantity in enumerate(QUANTITIES):
        estimate, se, low, high, conservative = draws[:, i].T
        if quantity in COMPONENTS:
            parts = zip(COMPONENTS[quantity], RISKS, strict=True)
            unbiased = sum(sign * truths[risk] for sign, risk in parts)
        else:
            unbiased = truths[quantity]
        truth = float(np.mean(unbiased))
        # a mean that includes the replicate lies a little too close to it: 1 − 1/n of the variance
        centre = truth + (estimate - truth) * (1 - np.sqrt(n / (n - 1)))
        below, above = float((high < centre).mean()), float((low > centre).mean())
        coverage = 1 - below - above
        difference = estimate - unbiased
        sd = float(estimate.std(ddof=1))
        yield {
            "setting": setting,
            "probe": probe,
            "quantity": quantity,
            "replicates": n,
            "truth": truth,
            "truth_se": float(np.std(unbiased, ddof=1) / np.sqrt(n)),
            "mean": float(estimate.mean()),
            "bias": float(difference.mean()),
            "bias_se": float(difference.std(ddof=1) / np.sqrt(n)),
            "mean_se": float(np.sqrt((se**2).mean())),
            "sd": sd,
            "se_ratio": float(np.sqrt((se**2).mean()) / sd) if sd > 0 else float("nan"),
            "coverage": coverage,
            "coverage_se": float(np.sqrt(coverage * (1 - coverage) / n)),
            "below": below,
            "above": above,
            "mean_width": float((high - low).mean()),
            "conservative": float(conservative.mean()),
        }
    yield dict.fromkeys(COLUMNS, "") | {
        "setting": setting,
        "probe": probe,
        "quantity": "risk_as_plain",
        "replicates": n,
        "truth": float(raw.mean()),
        "truth_se": float(raw.std(ddof=1) / np.sqrt(n)),
        "mean": float(raw.mean()),
        "sd": float(raw.std(ddof=1)),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _write_table(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def main() -> None:
    """Run the simulation; the table is written anew after every setting and probe."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals of decompose, by simulation.")
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--probes", nargs="+", choices=("logistic", "ridge"), default=["logistic", "ridge"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench/results/coverage.csv"))
    parser.add_argument("--draws", type=Path, help="folder for the estimates of every replicate (.npy)")
    options = parser.parse_args()
    if options.replicates < 2:
        parser.error("at least 2 replicates are needed for a standard deviation")
    # before the workers import numpy: two processes on two cores, not two times all threads
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    rows: list[dict[str, object]] = []
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for setting in options.settings:
            for probe in options.probes:
                jobs = [(setting, probe, options.seed, i) for i in range(options.replicates)]
                draws = []
                for result in pool.map(replicate, jobs, chunksize=5):
                    draws.append(result)
                    if len(draws) % 50 == 0:
                        seconds = time.perf_counter() - began
                        print(f"{setting} {probe} {len(draws)}/{len(jobs)} ({seconds:.0f} s)", file=sys.stderr)
                rows += summarize(setting, probe, np.stack(draws))
                _write_table(options.out, rows)
                if options.draws is not None:
                    options.draws.mkdir(parents=True, exist_ok=True)
                    np.save(options.draws / f"{setting}-{probe}.npy", np.stack(draws))
    versions = {name: importlib.metadata.version(name) for name in ("ssl-risk-rs", "numpy")}
    record = {
        "command": " ".join(["python", *sys.argv]),
        "cpu": _cpu(),
        "processes": options.processes,
        "python": platform.python_version(),
        **versions,
        "seconds": f"{time.perf_counter() - began:.0f}",
    }
    options.out.with_suffix(".txt").write_text("".join(f"{k}: {v}\n" for k, v in record.items()))


if __name__ == "__main__":
    main()
