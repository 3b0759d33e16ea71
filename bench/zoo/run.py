"""Encode and decompose the whole zoo: one table of components and design choices a probe.

    python bench/zoo/run.py --zoo bench/data/zoo --out bench/data/zoo_runs
    python bench/zoo/run.py --zoo DIR --out DIR --only 'simclr*' --probe ridge --minutes 30

Each encoder becomes a run folder in --out/runs, which `ssl-risk-rs report` and `compare` read; what is there is not
made again. After each, the tables are written anew: `zoo_PROBE.csv` (a recipe in each row, for `ssl-risk-rs study`),
`planted_PROBE.csv` (encoders with a planted truth, and the encoders they are held against) and `training_PROBE.csv`
(checkpoints along training). Risks are fractions; `_low` and `_high` are the interval's ends.
"""

import argparse
import csv
import fnmatch
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

# the modules beside this file, also when a test loads it from elsewhere
sys.path.insert(0, str(Path(__file__).resolve().parent))

from pack import Record, read_records

if TYPE_CHECKING:
    from ssl_risk_rs import Decomposition, Run

ENCODERS = Path(__file__).resolve().parent / "encoders.py"
DATA = "idx:/usr/share/datasets/fashion-mnist"
PROBES = ("logistic", "ridge")
#: twins of one encoder that do not fit the data's labels are tried on these objectives
SHUFFLED_TWIN = "shuffled_twin"
TABLES = ("zoo", "planted", "training")
Table = Literal["zoo", "planted", "training"]


@dataclass(frozen=True, slots=True)
class Job:
    """One decomposition to make: an encoder's record, its twin, and the name of the run."""

    name: str
    encoder: str
    record: Record
    twin: str | None
    tables: tuple[Table, ...]


def main(arguments: list[str] | None = None) -> int:
    """Make the runs that are missing; 0 if all are there, 3 if time ran out, 1 if one failed."""
    options = parse(arguments)
    began, failed, left = time.time(), 0, 0
    os.environ["FASHION_ZOO"] = str(options.zoo)
    records = {name: record for name, (_, record) in read_records(options.zoo).items()}
    if not records:
        raise SystemExit(f"{options.zoo} holds no packs; bench/zoo/pretrain.py --out {options.zoo} makes them")
    every = jobs(records)
    chosen = [job for job in every if not options.only or any(fnmatch.fnmatch(job.name, p) for p in options.only)]
    without = [job.name for job in chosen if job.twin is None]
    if without:
        print(f"{len(without)} encoders have no supervised twin in the packs, among them {without[0]}", flush=True)
    probes = options.probe or list(PROBES)
    for job in chosen:
        folder = options.out / "runs" / job.name
        if (folder / "run.json").is_file():
            continue
        if time.time() - began > 60 * options.minutes:
            left += 1
            continue
        failed += not make(job, folder, probes, options)
        write_tables(every, options.out)
    write_tables(every, options.out)
    print(f"{len(chosen) - left - failed} of {len(chosen)} runs are there, {left} left, {failed} failed")
    return 1 if failed else 3 if left else 0


def make(job: Job, folder: Path, probes: list[str], options: argparse.Namespace) -> bool:
    """Encode and decompose one encoder; False if it failed."""
    from ssl_risk_rs import SslRiskError, evaluate

    began = time.perf_counter()
    extraction = {} if options.limit is None else {"limit": options.limit}
    try:
        run, failure = evaluate(
            f"{ENCODERS}:{job.encoder}",
            options.data,
            probes=probes,
            supervised="none" if job.twin is None else f"{ENCODERS}:{job.twin}",
            control="none",  # random weights are rows of their own
            store=options.store or options.out / "store",
            extraction=extraction,
        )
        if failure is not None:
            raise failure
        run.save(folder)
    except SslRiskError as error:
        print(f"FAILED {job.name}: {error}", flush=True)
        return False
    risks = ", ".join(f"{d.method.probe} {d.estimate('agg_risk'):.4f}" for d in run.decompositions)
    print(f"{job.name}: aggregated risk {risks}; {time.perf_counter() - began:.0f} s", flush=True)
    return True


def jobs(records: dict[str, Record]) -> list[Job]:
    """What is to be decomposed: first seed first, recipes before planted truths before checkpoints."""
    found: list[Job] = []
    with_checkpoints = {record["recipe"] for name, record in records.items() if name != record["recipe"]}
    for name, record in records.items():
        tables: list[Table] = []
        if name != record["recipe"] or name in with_checkpoints:
            tables.append("training")
        if name == record["recipe"]:
            tables.append("planted" if record["planted"] else "zoo")
        if not record["planted"] and any(_held_against(record, other) for other in records.values()):
            tables.append("planted")
        found.append(Job(name, name, record, _twin(record, records), tuple(dict.fromkeys(tables))))
    for name, record in records.items():
        twin = f"supervised_ep60_weak_shuffled_labels_s{record['seed']}"
        if name == f"simclr_s{record['seed']}" and twin in records:
            found.append(Job(f"{name}-{SHUFFLED_TWIN}", name, record, twin, ("planted",)))
    order = {"zoo": 0, "planted": 1, "training": 2}
    return sorted(found, key=lambda job: (str(job.record["seed"]), order[job.tables[0]] if job.tables else 3))


def _held_against(record: Record, planted: Record) -> bool:
    """Whether an honest encoder differs from a planted one in nothing but the truth, the share and the projection."""
    if not planted["planted"] or record["name"] != record["recipe"]:
        return False
    same = ("objective", "architecture", "z_dim", "epochs", "augmentation_strength", "seed")
    honest = record["pretraining_share"] == 1 and record["projection2_arch"] in (planted["projection2_arch"], "mlp")
    return honest and all(record[key] == planted[key] for key in same)


def _twin(record: Record, records: dict[str, Record]) -> str | None:
    """The supervised encoder of the same architecture, dimension and seed that was trained to fit the labels."""
    for name, other in records.items():
        fits = (
            other["objective"] == "supervised" and other["augmentation_strength"] == "weak" and name == other["recipe"]
        )
        if fits and not other["planted"] and all(other[k] == record[k] for k in ("architecture", "z_dim", "seed")):
            return name
    return None


def write_tables(every: list[Job], out: Path) -> None:
    """The tables of all runs that are there."""
    from ssl_risk_rs import Run

    rows: dict[tuple[str, str], list[dict[str, object]]] = {}
    for job in every:
        folder = out / "runs" / job.name
        if not (folder / "run.json").is_file():
            continue
        run = Run.load(folder)
        for decomposition in run.decompositions:
            for table in job.tables:
                rows.setdefault((table, decomposition.method.probe), []).append(row(job, run, decomposition))
    for (table, probe), found in rows.items():
        columns = list(dict.fromkeys(key for one in found for key in one))
        path = out / f"{table}_{probe}.csv"
        with path.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)
        os.replace(path.with_suffix(".part"), path)


def row(job: Job, run: "Run", decomposition: "Decomposition") -> dict[str, object]:
    """One row: the design choices, then every quantity with its interval, then how it was computed."""
    record = {key: value for key, value in job.record.items() if key not in ("name", "pack")}
    found: dict[str, object] = {
        "encoder": job.name,
        **record,
        "supervised_twin": job.twin,
        "probe": decomposition.method.probe,
    }
    for name, e in decomposition.estimates.items():
        found |= {name: e.estimate, f"{name}_se": e.se, f"{name}_low": e.low, f"{name}_high": e.high}
    return found | {
        "n_train": decomposition.sizes.train,
        "n_test": decomposition.sizes.test,
        "alpha": decomposition.penalties["tuned"].value,
        "separable": decomposition.floor.separable,
        "converged": decomposition.converged,
        "decompose_seconds": round(decomposition.seconds, 2),
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="folder of the packs")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and tables")
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--store", type=Path, help="feature store (default: OUT/store)")
    parser.add_argument("--probe", action="append", choices=PROBES, help="default: both")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="names such as 'simclr*_s0'")
    parser.add_argument("--limit", help="images, as ssl-risk-rs takes them (for a trial): N or N/class")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no run is begun after so long")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
