"""Encode and decompose the whole zoo: one table of components and design choices a probe.

    python bench/zoo/run.py --zoo bench/data/zoo --out bench/data/zoo_runs
    python bench/zoo/run.py --zoo DIR --out DIR --in-memory --workers 8 --device cuda    # on a machine of its own
    python bench/zoo/run.py --zoo DIR --out DIR --only 'simclr*' --probe ridge

Each encoder becomes a run folder in --out/runs, which `ssl-risk-rs report` and `compare` read, and feature banks in a
store; with --in-memory its representations are computed on the device, decomposed and dropped, several encoders side by
side. Either way it becomes lines of --out/rows.jsonl, and what these name is not made again. From them come the tables:
`zoo_PROBE.csv` (a recipe in each row, for `ssl-risk-rs study`), `planted_PROBE.csv` (encoders with a planted truth, and
the encoders they are held against) and `training_PROBE.csv` (checkpoints along training). Risks are fractions; `_low`
and `_high` are the interval's ends; `agg_risk@30` is the aggregated risk of probes that get 30 labels of each class,
for the encoders of the first table.
"""

import argparse
import csv
import fnmatch
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

# the modules beside this file, also when a test loads it from elsewhere
sys.path.insert(0, str(Path(__file__).resolve().parent))

from pack import Record, read_records

if TYPE_CHECKING:
    import numpy as np
    from ssl_risk_rs import Decomposition, Run

ENCODERS = Path(__file__).resolve().parent / "encoders.py"
DATA = "idx:/usr/share/datasets/fashion-mnist"
PROBES = ("logistic", "ridge")
#: few-shot sizes of the encoders in the table of recipes (1 %, 30, 5 and 3), and what their columns hold
SHOTS = "auto"
OF_SHOTS = ("usability", "probe_gen", "enc_gen", "agg_risk")
#: twins of one encoder that do not fit the data's labels are tried on these objectives
SHUFFLED_TWIN = "shuffled_twin"
TABLES = ("zoo", "planted", "training")
Table = Literal["zoo", "planted", "training"]


@dataclass(frozen=True, slots=True)
class Job:
    """One decomposition to make: an encoder's record, its twin, the name of the run, and the tables that show it."""

    name: str
    encoder: str
    record: Record
    twin: str | None
    tables: tuple[Table, ...]

    @property
    def shots(self) -> str | None:
        """Few-shot sizes to decompose at."""
        return SHOTS if "zoo" in self.tables else None


def main(arguments: list[str] | None = None) -> int:
    """Make what is missing; 0 if all is there, 3 if time ran out, 1 if something failed."""
    options = parse(arguments)
    stop_at = time.time() + 60 * options.minutes
    os.environ["FASHION_ZOO"] = str(options.zoo)
    records = {name: record for name, (_, record) in read_records(options.zoo).items()}
    if not records:
        raise SystemExit(f"{options.zoo} holds no packs; bench/zoo/pretrain.py --out {options.zoo} makes them")
    options.out.mkdir(parents=True, exist_ok=True)
    every = jobs(records)
    chosen = [job for job in every if not options.only or any(fnmatch.fnmatch(job.name, p) for p in options.only)]
    without = [job.name for job in chosen if job.twin is None]
    if without:
        print(f"{len(without)} encoders have no supervised twin in the packs, among them {without[0]}", flush=True)
    probes = tuple(options.probe or PROBES)
    there = {(str(row["encoder"]), str(row["probe"])) for row in read_rows(options.out)}
    missing = [job for job in chosen if any((job.name, probe) not in there for probe in probes)]
    settings = How(
        data=options.data,
        probes=probes,
        threads=options.threads or max(1, cores() // options.workers),
        device=options.device,
        limit=options.limit,
        store=options.store or options.out / "store",
        runs=options.out / "runs",
        in_memory=options.in_memory,
        stop_at=stop_at,
    )
    failed = left = 0
    for job, outcome in outcomes(missing, settings, options.workers):
        left += outcome.out_of_time
        failed += bool(outcome.failure)
        if outcome.failure:
            print(f"FAILED {job.name}: {outcome.failure}", flush=True)
        new = [row for row in outcome.rows if (job.name, str(row["probe"])) not in there]
        with (options.out / "rows.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in new)
        if new:
            risks = ", ".join(f"{row['probe']} {row['agg_risk']:.4f}" for row in new)
            print(f"{job.name}: aggregated risk {risks}; {outcome.seconds:.0f} s", flush=True)
    write_tables(every, options.out)
    print(f"{len(chosen) - left - failed} of {len(chosen)} encoders are decomposed, {left} left, {failed} failed")
    return 1 if failed else 3 if left else 0


@dataclass(frozen=True, slots=True)
class How:
    """How encoders are decomposed: picklable, so that it can be sent to a process.

    Attributes
    ----------
    data : name of the data, `idx:FOLDER`
    threads : of each process's fits
    device : that encodes
    limit : images, as `create_dataset` takes it; None for all
    store, runs : folders of banks and of run folders
    in_memory : no banks are written
    stop_at : `time.time()` after which none is begun
    """

    data: str
    probes: tuple[str, ...]
    threads: int
    device: str
    limit: str | None
    store: Path
    runs: Path
    in_memory: bool
    stop_at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job: a row for each probe, why one is missing, or that there was no time."""

    rows: tuple[Record, ...] = ()
    failure: str = ""
    out_of_time: bool = False
    seconds: float = 0.0


def outcomes(missing: list[Job], how: How, workers: int) -> Iterator[tuple[Job, Outcome]]:
    """What comes of each job, in this process or in several."""
    if workers == 1:
        yield from ((job, attempt(job, how)) for job in missing)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: dict[Future[Outcome], Job] = {pool.submit(attempt, job, how): job for job in missing}
        for future in as_completed(running):
            yield running[future], future.result()


def attempt(job: Job, how: How) -> Outcome:
    """Encode and decompose one encoder."""
    from ssl_risk_rs import SslRiskError

    if time.time() > how.stop_at:
        return Outcome(out_of_time=True)
    began = time.perf_counter()
    try:
        run = in_memory(job, how) if how.in_memory else through_banks(job, how)
        run.save(how.runs / job.name, force=True)
    except SslRiskError as error:
        return Outcome(failure=str(error))
    return Outcome(tuple(row(job, d) for d in run.decompositions), seconds=time.perf_counter() - began)


def through_banks(job: Job, how: How) -> "Run":
    """As `ssl-risk-rs run` does it, by feature banks."""
    from ssl_risk_rs import evaluate
    from ssl_risk_rs.decomposition import Settings
    from ssl_risk_rs.extraction import Encoding

    run, failure = evaluate(
        f"{ENCODERS}:{job.encoder}",
        how.data,
        probes=how.probes,
        supervised="none" if job.twin is None else f"{ENCODERS}:{job.twin}",
        control="none",  # random weights are rows of their own
        store=how.store,
        encoding=Encoding(limit=how.limit),
        settings=Settings(n_threads=how.threads, shots=job.shots),
    )
    if failure is not None:
        raise failure
    return run


def in_memory(job: Job, how: How) -> "Run":
    """The same rows, splits and probes without banks; representations are float32, banks hold float16."""
    from ssl_risk_rs import DataError, Run, decompose
    from ssl_risk_rs.results.provenance import Provenance
    from training import load_images

    scheme, _, folder = how.data.partition(":")
    if scheme != "idx" or (how.limit is not None and not how.limit.isdigit()):
        raise DataError("--in-memory takes idx:FOLDER as --data, and a whole number of images of each part as --limit")
    limit = None if how.limit is None else int(how.limit)
    train, test = load_images(Path(folder), how.device, limit)
    encoder, twin = encode(job.encoder, how, limit), None if job.twin is None else encode(job.twin, how, limit)
    ids = [f"{part}/{i}" for part, images in (("train", train), ("t10k", test)) for i in range(len(images))]
    found = [
        decompose(
            encoder[0],
            train.labels.cpu().numpy(),
            encoder[1],
            test.labels.cpu().numpy(),
            supervised=None if twin is None else twin[0],
            supervised_test=None if twin is None else twin[1],
            sample_ids=ids,
            name=job.name,
            probe=probe,
            n_threads=how.threads,
            shots=job.shots,
        )
        for probe in how.probes
    ]
    return Run.of(*found, provenance=Provenance(encoder=job.name, data=how.data, supervised=job.twin))


def encode(name: str, how: How, limit: int | None) -> "tuple[np.ndarray, np.ndarray]":
    """Representations (n, d) of the training and of the test images."""
    import torch
    from encoders import encoder
    from training import load_images
    from views import normalize

    torch.set_num_threads(how.threads)
    torch.backends.cudnn.allow_tf32 = False  # float32, as a bank of the CPU has it
    module = encoder(name).module.to(how.device)
    with torch.inference_mode():
        train, test = (
            torch.cat([module(normalize(chunk))["output"] for chunk in part.pixels.split(2000)]).cpu().numpy()
            for part in load_images(Path(how.data.partition(":")[2]), how.device, limit)
        )
    return train, test


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


def read_rows(out: Path) -> list[Record]:
    """The rows of earlier calls."""
    path = out / "rows.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_tables(every: list[Job], out: Path) -> None:
    """The tables of all rows that are there, in the order of the jobs."""
    there = read_rows(out)
    rows: dict[tuple[str, str], list[Record]] = {}
    for job in every:
        for one in there:
            if one["encoder"] == job.name:
                for table in job.tables:
                    rows.setdefault((table, str(one["probe"])), []).append(one)
    for (table, probe), found in rows.items():
        columns = list(dict.fromkeys(key for one in found for key in one))
        path = out / f"{table}_{probe}.csv"
        with path.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)
        os.replace(path.with_suffix(".part"), path)


def row(job: Job, decomposition: "Decomposition") -> Record:
    """One row: the design choices, then every quantity with its interval, then how it was computed."""
    record = {key: value for key, value in job.record.items() if key != "name"}
    probe = decomposition.method.probe
    found: Record = {"encoder": job.name, **record, "supervised_twin": job.twin, "probe": probe}
    for name, e in decomposition.estimates.items():
        numbers = {name: e.estimate, f"{name}_se": e.se, f"{name}_low": e.low, f"{name}_high": e.high}
        found |= {key: value if value is not None and math.isfinite(value) else None for key, value in numbers.items()}
    for shot in decomposition.shots:
        for quantity in OF_SHOTS:
            e, name = shot.estimates[quantity], f"{quantity}@{shot.size.name}"
            found |= {name: e.estimate, f"{name}_se": e.se, f"{name}_low": e.low, f"{name}_high": e.high}
    return found | {
        "n_train": decomposition.sizes.train,
        "n_test": decomposition.sizes.test,
        "constant_features": decomposition.sizes.constant_features,
        "alpha": decomposition.penalties["tuned"].value,
        "separable": decomposition.floor.separable,
        "converged": decomposition.converged,
        "decompose_seconds": round(decomposition.seconds, 2),
    }


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="folder of the packs")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and tables")
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--store", type=Path, help="feature store (default: OUT/store)")
    parser.add_argument("--probe", action="append", choices=PROBES, help="default: both")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="names such as 'simclr*_s0'")
    parser.add_argument("--in-memory", action="store_true", help="no feature store: representations are dropped")
    parser.add_argument("--workers", type=int, default=1, help="encoders decomposed side by side (default 1)")
    parser.add_argument("--threads", type=int, help="of each process (default: the cores by the processes)")
    parser.add_argument("--device", default="cpu", help="that encodes with --in-memory (default cpu)")
    parser.add_argument("--limit", help="images (for a trial), as ssl-risk-rs takes them; --in-memory: of each part")
    parser.add_argument("--minutes", type=float, default=math.inf, help="none is begun after so long")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
