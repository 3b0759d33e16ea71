"""Coverage of the intervals of the alternative order (`decompose(order="both")`), in worlds of `coverage_risks.py`.

R_UF is the error on test rows of a probe that was fitted on training and test rows together, at the floor: its truth
is its expectation over fresh samples of both, as that of R_AF. No world's encoder has seen an image: whatever
`enc_gen_alt` is here, it is not memorization by the encoder.

    python bench/coverage_orders.py --replicates 300 --probes ridge --out bench/results/coverage_orders.csv
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from coverage_risks import (
    WORLDS,
    Judged,
    Probe,
    Rows,
    _commit,
    _cpu,
    _generator,
    expected_risks,
    fit_with_package,
    summarize,
    write_table,
)

RISKS = ("risk_af", "risk_as", "risk_us", "risk_uf")
#: coefficients on RISKS
SIGNS: dict[str, tuple[float, ...]] = {
    "risk_uf": (0, 0, 0, 1),
    "enc_gen_alt": (-1, 0, 0, 1),
    "probe_gen_alt": (0, 0, 1, -1),
    "enc_gen_mean": (-0.5, -0.5, 0.5, 0.5),
    "probe_gen_mean": (-0.5, 0.5, 0.5, -0.5),
    "order_effect": (1, -1, 1, -1),
    # the paper's order beside it, and what the new risk is to be told apart from
    "risk_af": (1, 0, 0, 0),
    "enc_gen": (0, -1, 1, 0),
    "probe_gen": (-1, 1, 0, 0),
}
DEFAULT_WORLDS = ("gauss", "relu", "shift", "wide", "groups_40_pure")


def judged(world: str, probe: Probe, seed: int, stream: int, index: int) -> tuple[Judged, Rows, np.random.Generator]:
    """One draw: (quantities, 5), its training rows, and the generator that fresh rows come from."""
    from ssl_risk_rs import decompose

    of = WORLDS[world]
    rng = _generator(world, seed, stream, index)
    train, test = of.draw(rng, False), of.draw(rng, True)
    groups = None if train.groups is None else (train.groups, test.groups)
    result = decompose(
        *(train.x, train.y, test.x, test.y), groups=groups, probe=probe, order="both", midpoint=False, seed=index,
        n_threads=1,
    )  # fmt: skip
    rows = []
    for quantity in SIGNS:
        e = result.estimates[quantity]
        rows.append((e.estimate, e.se, e.low, e.high, float(e.grade.value != "sound")))
    subset = result.judgements.subset
    held_out = [np.flatnonzero(subset == j) for j in range(result.judgements.n_subsets)]
    return Judged(np.array(rows), result.penalties["tuned"].value, held_out), train, rng


def replicate(job: tuple[str, Probe, int, int]) -> np.ndarray:
    """The intervals of one draw."""
    world, probe, seed, index = job
    return judged(world, probe, seed, 0, index)[0].table


def true_risks(job: tuple[str, Probe, int, int]) -> np.ndarray:
    """The risks (4,) of the probes of another draw: on their own rows, or in the expectation over fresh ones."""
    world, probe, seed, index = job
    found, train, rng = judged(world, probe, seed, 1, index)
    seen, unseen = WORLDS[world].draw(rng, False, fresh=True), WORLDS[world].draw(rng, True, fresh=True)
    risk_as, _, risk_us = expected_risks(WORLDS[world], train, seen, unseen, found, probe, fit_with_package)
    own = dict(zip(SIGNS, found.table[:, 0], strict=True))
    return np.array([own["risk_af"], risk_as, risk_us, own["risk_uf"]])


def main() -> None:
    """Run the simulation; the table is written anew after every world and probe."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals of the alternative order.")
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--truth", type=int, help="draws for the truth; default: as many as replicates")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=DEFAULT_WORLDS)
    parser.add_argument("--probes", nargs="+", choices=("logistic", "ridge"), default=["ridge", "logistic"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench/results/coverage_orders.csv"))
    options = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    n_truth = options.replicates if options.truth is None else options.truth
    commit, began = _commit(), time.perf_counter()
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for world in options.worlds:
            for probe in options.probes:
                jobs = [(world, probe, options.seed, i) for i in range(max(options.replicates, n_truth))]
                draws = np.stack(list(pool.map(replicate, jobs[: options.replicates], chunksize=5)))
                truths = np.stack(list(pool.map(true_risks, jobs[:n_truth], chunksize=5)))
                labels = {"world": world, "probe": probe, "estimator": "package", "intervals": "own"}
                write_table(options.out, list(summarize(labels, draws, truths, SIGNS)))
                print(f"{world} {probe} {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    record = f"command: {' '.join(['python', *sys.argv])}\ncommit: {commit}\ncpu: {_cpu()}\n"
    with options.out.with_suffix(".txt").open("a") as file:
        file.write(f"{record}seconds: {time.perf_counter() - began:.0f}\n\n")


if __name__ == "__main__":
    main()
