"""Coverage of the 95 % intervals of `compare`, by simulation with known truth.

Two encoders see the same rows: the features and the twin's features of a world of `coverage_risks.py`, whose noise is
partly the same. Each replicate draws rows, decomposes both, compares them and counts whether the interval of each
difference holds the true one, which is known from other draws (as in `coverage_risks.py`). Beside it stand the
intervals that two separate decompositions would give (`unpaired`). In the world `alike` three encoders have the same
distribution, so that every difference is 0: there the share of replicates is counted in which any Holm p is at most
0.05, and in which a rank interval leaves out a tie.

    python bench/coverage_paired.py --replicates 300 --out bench/results/coverage_paired.csv
"""

import argparse
import csv
import importlib.metadata
import importlib.util
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


def _single() -> ModuleType:
    """`coverage_risks.py` beside this file."""
    if "coverage_risks" not in sys.modules:
        spec = importlib.util.spec_from_file_location("coverage_risks", Path(__file__).with_name("coverage_risks.py"))
        if spec is None or spec.loader is None:
            raise ImportError("coverage_risks.py is not beside this file")
        sys.modules["coverage_risks"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["coverage_risks"])
    return sys.modules["coverage_risks"]


single = _single()

COMPONENTS = {
    "approx_usability": {"risk_af": 1},
    "probe_gen": {"risk_as": 1, "risk_af": -1},
    "enc_gen": {"risk_us": 1, "risk_as": -1},
    "enc_gen_equal_labels": {"risk_cs": 1, "risk_as": -1},
    "label_count": {"risk_us": 1, "risk_cs": -1},
    "agg_risk": {"risk_us": 1},
}
RISKS = ("risk_af", "risk_as", "risk_cs", "risk_us")
COLUMNS = (
    "world", "probe", "quantity", "replicates", "truth", "truth_se", "bias", "bias_se", "mean_se", "sd", "se_ratio",
    "coverage", "coverage_se", "median_width", "unpaired_coverage", "unpaired_median_width", "marked", "any_holm",
    "ranks_wrong",
)  # fmt: skip
KEY = COLUMNS[:3]
#: encoders with the same distribution, whose noise is shared by this share of the variance
ALIKE, SHARED = "alike", 0.64
WORLDS = ("gauss", "relu", "wide", "fifty", "scarce", "one_row", "groups_40_pure", "groups_40_mixed", ALIKE)


@dataclass(frozen=True)
class Draw:
    """Rows of one draw as each encoder sees them; classes and groups are the same."""

    encoders: list[Any]  # coverage.Rows


def draw(world: str, rng: np.random.Generator, test: bool, fresh: bool = False) -> Draw:
    """Rows of a world, by encoder."""
    if world != ALIKE:
        rows = single.WORLDS[world].draw(rng, test, fresh)
        return Draw([rows, replace(rows, x=rows.twin)])
    rows = single.WORLDS["gauss"].draw(rng, test, fresh)
    centre = 0.85 * single._means(1, 4, 2, 12)[rows.y, rng.integers(0, 2, len(rows.y))]
    common = rng.standard_normal((len(rows.y), 12))
    every = []
    for _ in range(3):
        noise = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * rng.standard_normal(common.shape)
        every.append(replace(rows, x=(centre + noise).astype(np.float32)))
    return Draw(every)


def _world(name: str) -> Any:
    return single.WORLDS["gauss" if name == ALIKE else name]


def replicate(job: tuple[str, str, int, int]) -> tuple[np.ndarray, float, float]:
    """One draw: (quantities, 6) of difference, se, low, high, half of the unpaired interval, marked, all of the second
    encoder against the first; whether any Holm p is at most 0.05; whether a rank interval leaves out a tie."""
    from ssl_risk_rs import compare, decompose

    world, probe, seed, index = job
    rng = single._generator(world, seed, 10, index)
    train, test = draw(world, rng, False), draw(world, rng, True)
    results = []
    for i, (own, own_test) in enumerate(zip(train.encoders, test.encoders, strict=True)):
        groups = None if own.groups is None else (own.groups, own_test.groups)
        results.append(
            decompose(
                *(own.x, own.y, own_test.x, own_test.y),
                groups=groups,
                probe=probe,
                seed=index,
                n_threads=1,
                name=f"encoder {i}",
            )
        )
    found = compare(results)
    rows = []
    for name in COMPONENTS:
        d = found.difference("encoder 1", name)
        ends = [results[i].estimates[name] for i in (0, 1)]
        half = np.hypot(*((e.high - e.low) / 2 for e in ends))
        rows.append((d.difference, d.se, d.low, d.high, half, float(d.grade.value != "sound")))
    any_holm = min((d.p_holm for d in found.differences if d.p_holm is not None), default=1.0) <= 0.05
    # where encoders are alike every rank is a tie of all of them
    ties_lost = any((r.low, r.high) != (1, len(results)) for r in found.ranks if r.quantity == "agg_risk")
    return np.array(rows), float(any_holm), float(ties_lost)


def true_risks(job: tuple[str, str, int, int]) -> np.ndarray:
    """RISKS of the probes of one draw, apart from the replicates, of the first two encoders: (2, 4)."""
    world, probe, seed, index = job
    rng = single._generator(world, seed, 11, index)
    train, test = draw(world, rng, False), draw(world, rng, True)
    seen, unseen = draw(world, rng, False, fresh=True), draw(world, rng, True, fresh=True)
    estimate, fit = single.ESTIMATORS["package"]
    found = []
    for i in range(2):
        judged = estimate(train.encoders[i], test.encoders[i], probe, index, _world(world).kind != "rows")
        own = dict(zip(single.QUANTITIES, judged.table[:, 0], strict=True))
        expected = single.expected_risks(
            _world(world), train.encoders[i], seen.encoders[i], unseen.encoders[i], judged, probe, fit
        )
        found.append((own["risk_af"], *expected))
    return np.array(found)


def summarize(
    world: str, probe: str, draws: np.ndarray, truths: np.ndarray, any_holm: float, ranks_wrong: float
) -> list[dict[str, object]]:
    """Rows of the table from draws (replicates, quantities, 6) and true risks of other draws (draws, 2, 4)."""
    rows: list[dict[str, object]] = []
    n = len(draws)
    for i, (quantity, weights) in enumerate(COMPONENTS.items()):
        signs = np.array([weights.get(risk, 0) for risk in RISKS])
        of_draw = (truths[:, 1] - truths[:, 0]) @ signs
        truth, truth_se = float(of_draw.mean()), float(of_draw.std(ddof=1) / np.sqrt(len(of_draw)))
        if world == ALIKE:  # known without a draw
            truth, truth_se = 0.0, 0.0
        difference, se, low, high, half, marked = draws[:, i].T
        coverage = float(((low <= truth) & (truth <= high)).mean())
        sd = float(difference.std(ddof=1))
        rows.append({
            "world": world, "probe": probe, "quantity": quantity, "replicates": n, "truth": truth,
            "truth_se": truth_se, "bias": float(difference.mean() - truth),
            "bias_se": float(np.hypot(sd / np.sqrt(n), truth_se)), "mean_se": float(np.sqrt((se**2).mean())), "sd": sd,
            "se_ratio": float(np.sqrt((se**2).mean())) / sd, "coverage": coverage,
            "coverage_se": float(np.sqrt(coverage * (1 - coverage) / n)), "median_width": float(np.median(high - low)),
            "unpaired_coverage": float((np.abs(difference - truth) <= half).mean()),
            "unpaired_median_width": float(np.median(2 * half)), "marked": float(marked.mean()),
            "any_holm": any_holm if world == ALIKE else float("nan"),
            "ranks_wrong": ranks_wrong if world == ALIKE else float("nan"),
        })  # fmt: skip
    return rows


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows, keeping those of the file that have another key."""
    single.write_table(path, rows, columns=COLUMNS, key=KEY)


def markdown(path: Path) -> str:
    """Coverage in percent, a row for each world and probe; in brackets the paired width over the unpaired one."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = ["| world | probe | draws | " + " | ".join(f"`{q}`" for q in COMPONENTS) + " |"]
    lines.append("|---|---|--:|" + "--:|" * len(COMPONENTS))
    order = {name: i for i, name in enumerate(WORLDS)}
    keys = sorted({(r["probe"], r["world"]) for r in rows}, key=lambda k: (k[0] == "logistic", order.get(k[1], -1)))
    for probe, world in keys:
        found = {r["quantity"]: r for r in rows if (r["probe"], r["world"]) == (probe, world)}
        n = int(found["agg_risk"]["replicates"])
        cells = []
        for q in COMPONENTS:
            value = 100 * float(found[q]["coverage"])
            mark = "" if 93 <= round(value, 1) <= 98 else "†" if abs(value - 95) > 200 * np.sqrt(0.0475 / n) else "°"
            ratio = float(found[q]["median_width"]) / float(found[q]["unpaired_median_width"])
            cells.append(f"{value:.1f}{mark} ({ratio:.2f})")
        lines.append(f"| `{world}` | {probe} | {n} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the simulation; the table is written anew after every world and probe."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals of compare, by simulation.")
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--truth", type=int, help="draws for the truth; default: as many as replicates")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=WORLDS)
    parser.add_argument("--probes", nargs="+", choices=("logistic", "ridge"), default=["ridge", "logistic"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench/results/coverage_paired.csv"))
    parser.add_argument("--markdown", action="store_true", help="print the table of --out and run nothing")
    options = parser.parse_args()
    if options.markdown:
        print(markdown(options.out), end="")
        return
    n_truth = options.replicates if options.truth is None else options.truth
    if options.replicates < 2 or n_truth < 2:
        parser.error("at least 2 replicates and 2 draws for the truth are needed for a standard deviation")
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # workers import numpy after this: one thread each
    options.out.parent.mkdir(parents=True, exist_ok=True)
    commit, began = single._commit(), time.perf_counter()
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for world in options.worlds:
            for probe in options.probes:
                started = time.perf_counter()
                jobs = [(world, probe, options.seed, i) for i in range(options.replicates)]
                tables, any_holm, lost = zip(*pool.map(replicate, jobs, chunksize=5), strict=True)
                truth_jobs = [(world, probe, options.seed, i) for i in range(n_truth)]
                truths = np.stack(list(pool.map(true_risks, truth_jobs, chunksize=5)))
                rows = summarize(world, probe, np.stack(tables), truths, float(np.mean(any_holm)), float(np.mean(lost)))
                write_table(options.out, rows)
                print(f"{world} {probe} {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    versions = {name: importlib.metadata.version(name) for name in ("ssl-risk-rs", "numpy", "scikit-learn", "scipy")}
    record = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit,
        "cpu": single._cpu(),
        "processes": options.processes,
        "python": platform.python_version(),
        **versions,
        "seconds": f"{time.perf_counter() - began:.0f}",
    }
    with options.out.with_suffix(".txt").open("a") as file:
        file.write("".join(f"{k}: {v}\n" for k, v in record.items()) + "\n")


if __name__ == "__main__":
    main()
