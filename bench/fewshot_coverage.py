"""Coverage of the 95 % intervals of few-shot results, by simulation with known truth.

Worlds are those of bench/coverage_risks.py. In every replicate `decompose(..., shots="3,5,30,1%")` runs on fresh
training and test rows. The truth of a few-shot risk is its expectation over draws of that many labels: probes of draws
from other training rows, tuned in the same way, judged on about 20,000 fresh rows. Predictions of the label curve are
checked at twice the labels of each size, at twice the training rows, and for the labels that errors need whose answer
is known. Rows of the table are replaced by (world, probe).

    python bench/fewshot_coverage.py --replicates 60 --out bench/results/fewshot_coverage.csv
    python bench/fewshot_coverage.py --markdown --out bench/results/fewshot_coverage.csv
"""

import argparse
import csv
import importlib.metadata
import importlib.util
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


def _load(name: str) -> ModuleType:
    """A module beside this one, under a name that is not that of an installed package."""
    known = f"bench_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


SIZES = ("3", "5", "30", "1%")
RISKS = ("risk_as", "risk_us", "probe_gen", "enc_gen")
WORLDS = ("gauss", "shift", "relu", "wide", "groups_150_pure", "groups_40_mixed")
COLUMNS = (
    "world", "probe", "size", "quantity", "replicates", "truth", "truth_se", "mean", "bias", "bias_se", "mean_se", "sd",
    "se_ratio", "coverage", "rows_only", "draws_only", "below", "above", "median_width", "draws", "overlap",
)  # fmt: skip
#: draws of each training sample of the truth
TRUTH_DRAWS = 10
#: sizes whose doubled error is a target of "labels needed"
TARGETS = ("5", "30")


@dataclass(frozen=True)
class Truth:
    """Expected risks, and their Monte-Carlo errors: size → (risk_as, risk_us), at once and twice the labels."""

    once: dict[str, np.ndarray]
    twice: dict[str, np.ndarray]
    once_se: dict[str, np.ndarray]
    twice_se: dict[str, np.ndarray]
    risk_af: float
    doubled_us: float  # R_US of twice the training rows
    doubled_se: float


# --- truth


def truth_draw(job: tuple[str, str, int, int]) -> tuple[dict[tuple[str, int], np.ndarray], float, float]:
    """Risks of few-shot probes on fresh rows, by (size, times); R_AF of one sample; R_US of twice the training rows."""
    from ssl_risk_rs.decomposition.decomposing import _method, decompose
    from ssl_risk_rs.decomposition.draws import plan_draws
    from ssl_risk_rs.decomposition.fewshot import _Drawing
    from ssl_risk_rs.decomposition.settings import Settings
    from ssl_risk_rs.decomposition.task import make_task
    from ssl_risk_rs.results.fewshot import ShotSize

    name, probe, seed, index = job
    coverage = _load("coverage_risks")
    world = coverage.WORLDS[name]
    doubled = replace(world, train=tuple(2 * n for n in world.train))
    rng = coverage._generator(name, seed, 11, index)
    train, test = doubled.draw(rng, False), doubled.draw(rng, True)
    seen, unseen = world.draw(rng, False, fresh=True), world.draw(rng, True, fresh=True)
    groups = None if train.groups is None else (train.groups, test.groups)
    settings = Settings(probe=probe, shots="3", n_threads=1)  # type: ignore[arg-type]
    task = make_task(train.x, train.y, test.x, test.y, groups=groups)
    method = _method(task, settings)
    k = int(train.y.max()) + 1
    shares = np.bincount(train.y) / len(train.y)
    test_shares = world.test_shares(unseen.y)
    found = {}
    for size in SIZES:
        asked = ShotSize.parse(size)
        for times in (1, 2):  # a share is of the world's own rows, half of those here
            own = (
                ShotSize(shots=asked.shots * times)
                if asked.shots is not None
                else ShotSize(share=(asked.share or 0) * times / 2)
            )
            plan = plan_draws(task, own, index, TRUTH_DRAWS)
            drawing = _Drawing(task, plan, method, settings, lambda _: None)
            risks = []
            for fit in drawing.fit(range(plan.first)):
                risks.append([
                    shares @ _by_class(fit.probe, seen, k), test_shares @ _by_class(fit.probe, unseen, k)
                ])  # fmt: skip
            found[size, times] = np.mean(risks, axis=0)
    once = world.draw(rng, False)
    at_floor = coverage.fit_with_package(once.x, once.y, probe, 1e-5)
    risk_af = float((at_floor(once.x) != once.y).mean())
    full = decompose(
        train.x, train.y, test.x, test.y, probe=probe, groups=groups, n_threads=1, n_subsets=1, midpoint=False
    )
    return found, risk_af, full.estimate("risk_us")


def _by_class(probe: Any, rows: Any, k: int) -> np.ndarray:
    scores = probe.scores(rows.x, np.arange(len(rows.y), dtype=np.uint32), n_threads=1)
    wrong = scores.argmax(1) != rows.y
    return np.asarray(np.bincount(rows.y, wrong, minlength=k) / np.bincount(rows.y, minlength=k))


def truth_of(draws: list[tuple[dict[tuple[str, int], np.ndarray], float, float]]) -> Truth:
    """Means of the truth draws."""

    def of(times: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        every = {size: np.stack([found[size, times] for found, _, _ in draws]) for size in SIZES}
        root = np.sqrt(len(draws))
        return {s: e.mean(0) for s, e in every.items()}, {s: e.std(0, ddof=1) / root for s, e in every.items()}

    (once, once_se), (twice, twice_se) = of(1), of(2)
    doubled = np.array([d[2] for d in draws])
    return Truth(
        once, twice, once_se, twice_se, float(np.mean([d[1] for d in draws])), float(doubled.mean()),
        float(doubled.std(ddof=1) / np.sqrt(len(draws))),
    )  # fmt: skip


# --- replicates


def replicate(job: tuple[str, str, int, int, tuple[float, ...]]) -> dict[str, Any]:
    """One run: by (size, quantity) the estimate and its intervals; doublings, labels needed, back-tests."""
    from scipy.special import stdtrit
    from ssl_risk_rs import decompose

    name, probe, seed, index, targets = job
    coverage = _load("coverage_risks")
    world = coverage.WORLDS[name]
    rng = coverage._generator(name, seed, 10, index)
    train, test = world.draw(rng, False), world.draw(rng, True)
    result = decompose(
        *(train.x, train.y, test.x, test.y),
        groups=None if train.groups is None else (train.groups, test.groups),
        probe=probe,
        shots=",".join(SIZES),
        labels_for=targets,
        midpoint=False,
        seed=index,
        n_threads=1,
    )
    found: dict[str, Any] = {"full_us": result.estimate("risk_us")}
    for shot in result.shots:
        for quantity in RISKS:
            e, v = shot.estimates[quantity], shot.variances[quantity]
            t = float(stdtrit(shot.draws - 1, 0.975))
            found[shot.size.name, quantity] = (
                e.estimate, e.se, e.low, e.high, 1.96 * v.rows**0.5, t * (v.between / shot.draws) ** 0.5,
                shot.draws, shot.overlap.share,
            )  # fmt: skip
    curve = result.label_curve
    if curve is not None:
        found["doublings"] = {d.name: (d.change, d.low, d.high) for d in curve.doublings}
        found["needed"] = [(n.labels, n.low, n.high) for n in curve.needed]
        found["back_tests"] = [t.inside for t in curve.back_tests]
        found["labels"] = {shot.size.name: shot.labels for shot in result.shots}
    return found


def _row(labels: dict[str, object], values: np.ndarray, truth: float, truth_se: float) -> dict[str, object]:
    """A row of the table from draws (n, 8) of estimate, se, low, high, half widths of rows and of draws only, m, ρ."""
    estimate, se, low, high, rows, draws, m, overlap = values.T
    n, sd = len(values), float(estimate.std(ddof=1))
    has = np.isfinite(low)
    below, above = float((high[has] < truth).mean()), float((low[has] > truth).mean())
    mean_se = float(np.sqrt(np.nanmean(se**2)))
    return labels | {
        "replicates": n,
        "truth": truth,
        "truth_se": truth_se,
        "mean": float(estimate.mean()),
        "bias": float(estimate.mean() - truth),
        "bias_se": float(np.hypot(sd / np.sqrt(n), truth_se)),
        "mean_se": mean_se,
        "sd": sd,
        "se_ratio": mean_se / sd if sd > 0 else float("nan"),
        "coverage": 1 - below - above,
        "rows_only": float((np.abs(estimate - truth) <= rows).mean()),
        "draws_only": float((np.abs(estimate - truth) <= draws).mean()),
        "below": below,
        "above": above,
        "median_width": float(np.median((high - low)[has])),
        "draws": float(m.mean()),
        "overlap": float(overlap.mean()),
    }


def summarize(world: str, probe: str, found: list[dict[str, Any]], truth: Truth) -> Iterator[dict[str, object]]:
    """Rows of the table."""
    labels: dict[str, object] = {"world": world, "probe": probe}
    for size in SIZES:
        risk_as, risk_us = truth.once[size]
        se_as, se_us = truth.once_se[size]
        truths = {
            "risk_as": (risk_as, se_as), "risk_us": (risk_us, se_us), "probe_gen": (risk_as - truth.risk_af, se_as),
            "enc_gen": (risk_us - risk_as, float(np.hypot(se_as, se_us)) / 2),
        }  # fmt: skip
        for quantity, (value, se) in truths.items():
            rows = np.array([f[size, quantity] for f in found])
            yield _row({**labels, "size": size, "quantity": quantity}, rows, float(value), float(se))
    full = float(np.mean([f["full_us"] for f in found]))
    titles = {"3": "3 shots", "5": "5 shots", "30": "30 shots", "1%": "1 %"}
    of_doubling = {titles[s]: float(truth.twice[s][1] - truth.once[s][1]) for s in SIZES}
    of_doubling["all rows"] = truth.doubled_us - full
    spread = {titles[s]: float(truth.twice_se[s][1]) for s in SIZES} | {"all rows": truth.doubled_se}
    for title, change in of_doubling.items():
        rows = [f["doublings"][title] for f in found if title in f.get("doublings", {})]
        if len(rows) < 2:  # the size is not part of the curve
            continue
        yield _curve_row({**labels, "size": title, "quantity": "twice the labels"}, rows, change, spread[title])
    for i, size in enumerate((*TARGETS, "all rows")):
        scaled = []
        for f in found:
            if "needed" in f:
                # all in multiples of the answer: 1 is right
                right = 2 * (f["labels"][size] if size != "all rows" else f["n_train"])
                scaled.append([value / right for value in f["needed"][i]])
        title = titles.get(size, size)
        yield _curve_row({**labels, "size": title, "quantity": "labels needed"}, scaled, 1.0, 0.0)
    inside = [ok for f in found for ok in f.get("back_tests", [])]
    yield {**dict.fromkeys(COLUMNS, ""), **labels, "size": "all", "quantity": "back-tests", "replicates": len(inside),
           "coverage": float(np.mean(inside))}  # fmt: skip


def _curve_row(labels: dict[str, object], rows: list[Any], truth: float, truth_se: float) -> dict[str, object]:
    """A row from (value, low, high); a missing low end is 0 and a missing high end infinite."""
    value, low, high = np.array(rows, float).T
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    below, above = float((high < truth).mean()), float((low > truth).mean())
    mean = float(np.nanmean(value))
    return {
        **dict.fromkeys(COLUMNS, ""), **labels, "replicates": len(value), "truth": truth, "truth_se": truth_se,
        "mean": mean, "bias": mean - truth, "sd": float(np.nanstd(value, ddof=1)),
        "coverage": 1 - below - above, "below": below, "above": above, "median_width": float(np.median(high - low)),
    }  # fmt: skip


# --- running and writing


def write_table(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows, keeping those of the file of another world or probe."""
    _load("coverage_risks").write_table(path, rows, columns=COLUMNS, key=("world", "probe"))


def markdown(path: Path) -> str:
    """Coverage in percent; of rows alone and of draws alone in brackets."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))

    def percent(value: str) -> str:
        return f"{100 * float(value):.0f}" if value not in ("", "nan") else "–"

    lines: list[str] = []
    for probe in dict.fromkeys(r["probe"] for r in rows):
        own = [r for r in rows if r["probe"] == probe]
        lines += [f"### {probe}", "", "| world | size | replicates | draws | " + " | ".join(RISKS) + " |"]
        lines.append("|---|---|--:|--:|" + "--:|" * len(RISKS))
        grouped: dict[tuple[str, str], dict[str, dict[str, str]]] = defaultdict(dict)
        for r in own:
            grouped[r["world"], r["size"]][r["quantity"]] = r
        for (world, size), found in grouped.items():
            if "risk_us" not in found:
                continue
            cells = [
                f"{percent(found[q]['coverage'])} ({percent(found[q]['rows_only'])}, {percent(found[q]['draws_only'])})"
                for q in RISKS
            ]
            first = found["risk_us"]
            overlapping = ", overlapping" * (float(first["overlap"]) > 0)
            lines.append(
                f"| `{world}` | {size} | {first['replicates']} | {float(first['draws']):.0f}{overlapping} | "
                + " | ".join(cells)
                + " |"
            )
        lines += ["", "| world | twice the labels: 1 %, 3, 5, 30 shots, all rows | labels needed: at 10, 60 shots, "
                  "twice all rows | back-tests |", "|---|--:|--:|--:|"]  # fmt: skip
        for world in dict.fromkeys(r["world"] for r in own):
            covered = {(r["quantity"], r["size"]): percent(r["coverage"]) for r in own if r["world"] == world}
            doubled, needed, tested = (
                ", ".join(covered.get((quantity, size), "–") for size in sizes)
                for quantity, sizes in (
                    ("twice the labels", ("1 %", "3 shots", "5 shots", "30 shots", "all rows")),
                    ("labels needed", ("5 shots", "30 shots", "all rows")),
                    ("back-tests", ("all",)),
                )
            )
            lines.append(f"| `{world}` | {doubled} | {needed} | {tested} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run the simulation; the table is written anew after every world and probe."""
    parser = argparse.ArgumentParser(description="Coverage of few-shot intervals, by simulation.")
    parser.add_argument("--replicates", type=int, default=60)
    parser.add_argument("--truth", type=int, help="training samples for the truth; default: half the replicates")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS))
    parser.add_argument("--probes", nargs="+", choices=("logistic", "ridge"), default=["ridge", "logistic"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench/results/fewshot_coverage.csv"))
    parser.add_argument("--markdown", action="store_true", help="print the tables of --out and run nothing")
    options = parser.parse_args()
    if options.markdown:
        print(markdown(options.out), end="")
        return
    n_truth = options.truth or max(2, options.replicates // 2)
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    coverage = _load("coverage_risks")
    commit, began = coverage._commit(), time.perf_counter()
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        run: Callable[..., Any] = pool.map
        for world in options.worlds:
            n_train = _training_rows(coverage, world)
            for probe in options.probes:
                started = time.perf_counter()
                samples = [(world, probe, options.seed, i) for i in range(n_truth)]
                truth = truth_of(list(run(truth_draw, samples, chunksize=2)))
                targets = (*(float(truth.twice[size][1]) for size in TARGETS), truth.doubled_us)
                jobs = [(world, probe, options.seed, i, targets) for i in range(options.replicates)]
                found = [f | {"n_train": n_train} for f in run(replicate, jobs, chunksize=2)]
                write_table(options.out, list(summarize(world, probe, found, truth)))
                print(f"{world} {probe} {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    versions = {name: importlib.metadata.version(name) for name in ("ssl-risk-rs", "numpy", "scipy")}
    record = {
        "command": " ".join(["python", *sys.argv]), "commit": commit, "cpu": coverage._cpu(),
        "processes": options.processes, "python": platform.python_version(), **versions,
        "seconds": f"{time.perf_counter() - began:.0f}",
    }  # fmt: skip
    with options.out.with_suffix(".txt").open("a") as file:
        file.write("".join(f"{k}: {v}\n" for k, v in record.items()) + "\n")


def _training_rows(coverage: ModuleType, name: str) -> int:
    world = coverage.WORLDS[name]
    return int(sum(world.train)) if world.kind == "rows" else int(world.train[0]) * int(coverage.GROUP_ROWS)


if __name__ == "__main__":
    main()
