"""Coverage of the 95 % intervals in other metrics than the 0-1 error, in worlds of `coverage_risks.py`.

The truth comes from other draws than those that are counted: R_AF and R_ΦF are means over draws of the risk on the
probe's own training rows, R_AS, R_CS and R_US those of the draws' probes on a large fresh sample. The calibration error
is no mean of rows, and its expectation depends on how many there are: its truths are means over draws of the same size.

Log-loss and calibration error depend on the penalty much more than the 0-1 error does that tunes it, and their
intervals are of the risk at the penalty that was chosen. Their truth is therefore known for each penalty: a replicate
is held against the truth at its own.

    python bench/coverage_metrics.py --replicates 200 --out bench/results/coverage_metrics.csv
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import machine
import numpy as np
from coverage_paired import single as coverage

QUANTITIES, RISKS, WORLDS = coverage.QUANTITIES, coverage.RISKS, coverage.WORLDS
COLUMNS = ("world", "probe", "metric", *coverage.COLUMNS[4:])
KEY = COLUMNS[:4]
#: three classes that are a half, a third and a sixth as large as the first
UNEQUAL = replace(WORLDS["gauss"], name="gauss_unequal", train=(750, 375, 250, 125), test=(200, 100, 67, 33))
#: a class of four test rows, which weighs as much as one of 200
RARE = replace(WORLDS["gauss"], name="gauss_rare", train=(750, 375, 250, 125), test=(200, 100, 67, 4))
OWN_WORLDS = {
    w.name: w for w in (WORLDS["gauss"], UNEQUAL, RARE, *(WORLDS[n] for n in ("shift", "fifty", "groups_40_pure")))
}
Job = tuple[str, str, int, int, tuple[float, ...]]


def metrics_of(world: Any, probe: str) -> tuple[str, ...]:
    """The metrics that make sense there."""
    k = len(world.train) if world.kind == "rows" else world.n_group_classes
    return ("balanced", *(("top5",) if k > 5 else ()), *(("log_loss", "ece") if probe == "logistic" else ()))


def decomposed(train: Any, test: Any, probe: str, metrics: tuple[str, ...], seed: int) -> Any:
    """The package's decomposition in all metrics."""
    from ssl_risk_rs import decompose

    return decompose(
        *(train.x, train.y, test.x, test.y),
        supervised=train.twin,
        supervised_test=test.twin,
        groups=None if train.groups is None else (train.groups, test.groups),
        probe=probe,
        metrics=metrics,
        seed=seed,
        n_threads=1,
    )


def replicate(job: Job) -> tuple[float, np.ndarray]:
    """One draw: its penalty, and (metrics, quantities, 5) of estimate, se, low, high, marked."""
    name, probe, seed, index, _ = job
    world = OWN_WORLDS[name]
    rng = coverage._generator(name, seed, 0, index)
    metrics = metrics_of(world, probe)
    result = decomposed(world.draw(rng, False), world.draw(rng, True), probe, metrics, index)
    tables = []
    for metric in metrics:
        every = [result.metric(metric).estimates[quantity] for quantity in QUANTITIES]
        tables.append([(e.estimate, e.se, e.low, e.high, float(e.grade.value != "sound")) for e in every])
    return result.penalties["tuned"].value, np.array(tables)


def fitted(x: np.ndarray, y: np.ndarray, probe: str, alpha: float) -> Any:
    """A probe that judges rows."""
    from ssl_risk_rs import LogisticProbe, RidgeProbe
    from ssl_risk_rs.results.judgements import Outcome

    made = (
        RidgeProbe(alpha, scaling="standardize", n_threads=1)
        if probe == "ridge"
        else LogisticProbe(alpha, scaling="standardize", tol=1e-5, n_threads=1)
    ).fit(x, y)

    def judge(x: np.ndarray, y: np.ndarray) -> Outcome:
        scores = np.asarray(made.decision_function(x), float)
        rows = np.arange(len(y))
        own, top = scores[rows, y], scores.max(1)
        others = scores.copy()
        others[rows, y] = -np.inf
        return Outcome(
            scores.argmax(1).astype(np.uint32),
            (scores > own[:, None]).sum(1).astype(np.uint32),
            (np.log(np.exp(scores - top[:, None]).sum(1)) + top - own).astype(np.float32),
            (own - others.max(1)).astype(np.float32),
        )

    return judge


def truths(job: Job) -> np.ndarray:
    """Risks (1 + penalties, metrics, 5) of the probes of a draw, apart from the replicates: at its own penalty, then at
    the penalties of the replicates."""
    from ssl_risk_rs.results.metrics import METRICS, risk_of

    name, probe, seed, index, penalties = job
    world = OWN_WORLDS[name]
    metrics = metrics_of(world, probe)
    rng = coverage._generator(name, seed, 1, index)
    train, test = world.draw(rng, False), world.draw(rng, True)
    result = decomposed(train, test, probe, metrics, index)
    subset = result.judgements.subset
    seen, unseen = world.draw(rng, False, fresh=True), world.draw(rng, True, fresh=True)
    k = int(train.y.max()) + 1
    shares = {False: np.bincount(train.y) / len(train.y), True: world.test_shares(unseen.y)}

    def risk(metric: str, outcome: Any, rows: Any, is_test: bool) -> float:
        score = METRICS[metric].score(outcome)
        by_class = np.bincount(rows.y, score, minlength=k) / np.bincount(rows.y, minlength=k)
        return float(by_class.mean() if metric == "balanced" else shares[is_test] @ by_class)

    found = []
    for alpha in (result.penalties["tuned"].value, *penalties):
        full = fitted(train.x, train.y, probe, alpha)
        kept = [subset != j for j in range(int(subset.max()) + 1)]
        parts = [fitted(train.x[rows], train.y[rows], probe, alpha) for rows in kept]
        on_unseen, on_test = full(unseen.x, unseen.y), full(test.x, test.y)
        held = [part(seen.x, seen.y) for part in parts]
        crossed = [part(unseen.x, unseen.y) for part in parts]
        of_alpha = []
        for metric in metrics:
            own = result.metric(metric).estimates
            in_sample = [own["risk_sup"].estimate, own["risk_af"].estimate]
            if metric == "ece":
                ece = METRICS["ece"]
                of_own = [part(train.x[~rows], train.y[~rows]) for part, rows in zip(parts, kept, strict=True)]
                names = ("predicted", "rank", "loss", "margin")
                pooled = type(on_test)(*(np.concatenate([getattr(o, n) for o in of_own]) for n in names))
                labels = np.concatenate([train.y[~rows] for rows in kept])
                of_alpha.append(
                    [
                        *in_sample,
                        risk_of(ece, pooled, labels, k),
                        np.mean([risk_of(ece, part(test.x, test.y), test.y, k) for part in parts]),
                        risk_of(ece, on_test, test.y, k),
                    ]
                )
            else:
                of_alpha.append(
                    [
                        *in_sample,
                        np.mean([risk(metric, outcome, seen, False) for outcome in held]),
                        np.mean([risk(metric, outcome, unseen, True) for outcome in crossed]),
                        risk(metric, on_unseen, unseen, True),
                    ]
                )
        found.append(of_alpha)
    return np.array(found)


def against_own(draws: np.ndarray, chosen: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws (n, quantities, 5) moved by how much the truth at their penalty differs from the mean over replicates, and
    that mean of the truths (draws, penalties, 5); `chosen` is the number of each replicate's penalty."""
    signs = np.array(
        [coverage.COMPONENTS.get(q, tuple(int(risk == q) for risk in RISKS)) for q in QUANTITIES]
    )  # (quantities, risks)
    by_penalty = true.mean(0) @ signs.T  # (penalties, quantities)
    frequency = np.bincount(chosen, minlength=len(by_penalty)) / len(chosen)
    moved = draws.copy()
    moved[:, :, [0, 2, 3]] -= (by_penalty[chosen] - frequency @ by_penalty)[:, :, None]
    return moved, np.einsum("p,npr->nr", frequency, true)


def main() -> None:
    """Run the simulation; the table is written anew after every world and probe."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals in other metrics, by simulation.")
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--worlds", nargs="+", choices=OWN_WORLDS, default=list(OWN_WORLDS))
    parser.add_argument("--probes", nargs="+", choices=("logistic", "ridge"), default=["ridge", "logistic"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench/results/coverage_metrics.csv"))
    options = parser.parse_args()
    if options.replicates < 2:
        parser.error("at least 2 replicates are needed for a standard deviation")
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for world in options.worlds:
            for probe in options.probes:
                started = time.perf_counter()
                jobs: list[Job] = [(world, probe, options.seed, i, ()) for i in range(options.replicates)]
                found = list(pool.map(replicate, jobs, chunksize=5))
                draws = np.stack([table for _, table in found])
                metrics = metrics_of(OWN_WORLDS[world], probe)
                penalties, chosen = np.unique([alpha for alpha, _ in found], return_inverse=True)
                at = tuple(penalties.tolist()) if "log_loss" in metrics else ()
                true = np.stack(list(pool.map(truths, [(*job[:4], at) for job in jobs], chunksize=5)))
                rows: list[dict[str, object]] = []
                for i, metric in enumerate(metrics):
                    labels = {"world": world, "probe": probe, "metric": metric}
                    of_metric, of_truth = draws[:, i], true[:, 0, i]
                    if metric in ("log_loss", "ece"):
                        of_metric, of_truth = against_own(draws[:, i], chosen.ravel(), true[:, 1:, i])
                    rows += list(coverage.summarize(labels, of_metric, of_truth))
                coverage.write_table(options.out, rows, columns=COLUMNS, key=KEY)
                print(f"{world} {probe} {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    with options.out.with_suffix(".txt").open("a") as file:
        file.write(machine.describe(("ssl-risk-rs", "numpy", "scipy")) + "\n")


if __name__ == "__main__":
    main()
