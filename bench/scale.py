"""What an engine costs, and what more nodes give: a local Ray cluster of one to three nodes against one process.

    python bench/scale.py --out bench/results/scale.csv

Nodes are processes of this machine with one CPU slot each. On fewer cores than nodes nothing can become faster: then
the table shows the cost of the road (processes, sums that travel), not a speed. Every row has the largest difference of
a risk from that of one process. Needs the extra `ray`.
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import polars as pl
import ray
from machine import describe
from ray.cluster_utils import Cluster
from ssl_risk_rs import FeatureBank
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.probes.held_rows import Holder, LocalHolders
from ssl_risk_rs.probes.holders import spans_of
from ssl_risk_rs.probes.parts import PartedFeatures
from ssl_risk_rs.results import Decomposition
from ssl_risk_rs.workflow.engines import Change, Engine, Line
from ssl_risk_rs.workflow.engines.local import LocalEngine
from ssl_risk_rs.workflow.engines.ray import RayEngine, connected
from ssl_risk_rs.workflow.engines.ray_parts import spread_on_ray
from ssl_risk_rs.workflow.features import decompose_features

#: bytes of a node's shared memory
STORE = 200 * 1024 * 1024
LINES = 6


@dataclass
class Row:
    """One measurement; `ratio` is of the median to that of the same job in one process, in the same run."""

    job: str
    who: str
    nodes: int
    seconds_median: float
    seconds_min: float
    seconds_max: float
    repeats: int
    ratio: float
    largest_risk_difference: float | None
    load: float
    note: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--probes", nargs="+", default=["ridge", "logistic"], choices=["ridge", "logistic"])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        bank = make_bank(Path(folder, "bank"), args.rows, args.features, args.classes)
        problem = f"{args.rows} x {args.features} x {args.classes}, float16"
        alone: dict[str, Decomposition] = {}
        for probe in dict.fromkeys(["ridge", *args.probes]):
            seconds, alone[probe] = timed(lambda p=probe: decomposed(bank, p), args.repeats)
            rows.append(row(f"decompose, {probe}", "one process", 0, seconds, seconds, 0.0, problem))
        seconds, found = timed(lambda: decomposed(bank, "ridge", in_threads), args.repeats)
        reference = next(r for r in rows if r.job == "decompose, ridge")
        rows.append(
            row("decompose, ridge", "3 parts in threads", 0, seconds, [reference.seconds_median],
                difference(alone["ridge"], found), f"{sent_mb(bank):.1f} MB of moments from each of 3 parts")
        )  # fmt: skip
        seconds, _ = timed(lambda: run_lines(LocalEngine(jobs=1, device="cpu"), Path(folder)), args.repeats)
        rows.append(row(f"{LINES} lines that do nothing", "local engine, one at a time", 0, seconds, seconds, None, ""))
        began = time.perf_counter()
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False},
        )
        rows.append(row("start the head of a cluster", "Ray", 1, [time.perf_counter() - began], None, None, ""))
        for nodes in args.nodes:
            while len(cluster.worker_nodes) + 1 < nodes:
                cluster.add_node(num_cpus=1, object_store_memory=STORE)
            cluster.wait_for_nodes()
            on_ray(rows, bank, cluster.address, nodes, args.repeats, alone, Path(folder))
            write(rows, args.out)
        cluster.shutdown()
    write(rows, args.out)


def write(rows: list[Row], out: Path) -> None:
    """The table so far, and the machine."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(r) for r in rows)
    out.with_suffix(".txt").write_text(describe(["ssl-risk-rs", "ray", "numpy", "torch", "polars"]))


def on_ray(
    rows: list[Row], bank: FeatureBank, address: str, nodes: int, repeats: int, alone: dict[str, Decomposition],
    folder: Path,
) -> None:  # fmt: skip
    """The jobs on a cluster of so many nodes."""

    def of(job: str) -> list[float]:
        return [next(r for r in rows if r.job == job).seconds_median]

    for probe in alone:
        inside: list[float] = []

        def work(probe: str = probe, inside: list[float] = inside) -> Decomposition:
            with spread_on_ray({"address": address}, parts=nodes, n_threads=1) as spread:
                began = time.perf_counter()
                found = decomposed(bank, probe, spread)
                inside.append(time.perf_counter() - began)
            return found

        seconds, found = timed(work, repeats)
        job = f"decompose, {probe}"
        note = f"of them connected and at work {statistics.median(inside):.2f} s, the start of the actors included"
        rows.append(row(job, f"Ray, {nodes} parts", nodes, seconds, of(job), difference(alone[probe], found), note))
        with connected(address), spread_on_ray({}, parts=nodes, n_threads=1) as spread:
            features = spread(bank)  # a second decomposition meets actors that are there
            seconds, _ = timed(lambda p=probe, f=features: decomposed(bank, p, lambda _: f), repeats + 1)
            seconds = seconds[1:]  # the first one's actors are starting
        rows.append(row(job, f"Ray, {nodes} parts that are there", nodes, seconds, of(job), None, ""))
    job = f"{LINES} lines that do nothing"
    engine = RayEngine({"address": address}, jobs=None, device="cpu")
    seconds, _ = timed(lambda: run_lines(engine, folder), repeats)
    rows.append(row(job, "Ray engine", nodes, seconds, of(job), None, f"{nodes} at a time"))


def row(
    job: str, who: str, nodes: int, seconds: list[float], reference: list[float] | None, worst: float | None, note: str
) -> Row:
    """A measurement, printed as it comes."""
    middle = statistics.median(seconds)
    ratio = float("nan") if reference is None else middle / statistics.median(reference)
    made = Row(job, who, nodes, round(middle, 4), round(min(seconds), 4), round(max(seconds), 4), len(seconds),
               round(ratio, 3), worst, round(os.getloadavg()[0], 1), note)  # fmt: skip
    print(made, flush=True)
    return made


def timed(work: Callable[[], Decomposition | None], repeats: int) -> tuple[list[float], Decomposition | None]:
    """Seconds of each repeat, and the last result."""
    seconds, found = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        found = work()
        seconds.append(time.perf_counter() - began)
    return seconds, found


def decomposed(bank: FeatureBank, probe: str, spread: Callable[[FeatureBank], PartedFeatures] | None = None):
    """A decomposition by one thread; `spread` as in `decompose_features`."""
    settings = Settings(device="cpu", n_threads=1, n_subsets=1, tuning_folds=1, midpoint=False, tol=1e-3)
    run, _ = decompose_features(str(bank.path), probes=(probe,), settings=settings, spread=spread)
    return run.decompositions[0]


def in_threads(bank: FeatureBank) -> PartedFeatures:
    """Three holders in this process."""
    holders = [Holder.of_bank(str(bank.path), span, 1) for span in spans_of(bank.n_rows, 3)]
    return PartedFeatures.of(LocalHolders(holders), bank.n_features, bank.dtype)


def sent_mb(bank: FeatureBank) -> float:
    """Moments of eight cells that a part sends."""
    holder = Holder.of_bank(str(bank.path), (0, bank.n_rows // 3), 1)
    n = bank.n_rows // 3
    rows, k = np.arange(n, dtype=np.uint32), len(bank.class_names)
    cells = (rows % 6).astype(np.uint8)  # five folds and a subset
    labels = bank.labels()[:n].astype(np.uint32)
    shift = np.zeros(bank.n_features, np.float32)
    return len(holder.moments(rows, labels, cells, shift, k, 6, "float64")) / 1e6


def difference(one: Decomposition, other: Decomposition) -> float:
    """The largest between the risks of two decompositions."""
    return max(abs(one.estimate(name) - other.estimate(name)) for name in one.estimates)


def run_lines(engine: Engine, folder: Path) -> None:
    """Lines that start the program and do nothing."""
    lines = [Line(str(i), ("--version",), folder / f"{i}.log") for i in range(LINES)]
    codes: list[Change] = []
    engine.run(lines, codes.append)
    assert [c.code for c in codes if c.state == "ended"] == [0] * LINES


def make_bank(path: Path, n: int, d: int, k: int) -> FeatureBank:
    """Gaussian classes, a sixth of the rows for tests."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, k, n)
    x = (rng.normal(size=(k, d))[y] * 2 / np.sqrt(d) * 2 + rng.normal(size=(n, d))).astype(np.float16)
    train = n * 5 // 6
    samples = pl.DataFrame(
        {
            "row": np.arange(n, dtype=np.uint64),
            "split": ["train"] * train + ["test"] * (n - train),
            "sample_id": [f"s{i}" for i in range(n)],
            "label": y,
        }
    )
    bank = FeatureBank.create(path, {"class_names": [str(c) for c in range(k)]}, samples, n_features=d, dtype="float16")
    with bank.writer() as writer:
        writer.append(np.arange(n, dtype=np.uint64), x)
    return FeatureBank.open(path)


if __name__ == "__main__":
    main()
    ray.shutdown()
