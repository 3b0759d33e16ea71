"""Time the package and the libraries beside it, on the same rows in one go, with the accuracy in every row.

    python bench/run.py --size smoke                                        # all jobs, seconds
    python bench/run.py gram pass ridge --size iterate --out bench/results/2026-11-25_iterate.csv
    python bench/run.py logistic --size fashion --bank bench/data/store --limit 20

Every method runs in a process of its own, but for `smoke`, whose times mean nothing. An answer of ours, or a
rival's, that is wrong makes its row FAIL and the exit code 1. Beside the CSV comes a `.txt` of the same name: CPU,
instruction sets, memory, versions, commit. The libraries are the dependency group `bench` (`uv pip install --group
bench`); those that are not there are listed.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

# the modules beside this file, also when a test loads it from elsewhere
sys.path.insert(0, str(Path(__file__).parent))

import jobs
import machine
import rows as table
from rivals import RIVALS

LIMIT_S = 60.0
SMOKE_LIMIT_S = 0.3


def main(arguments: list[str] | None = None) -> int:
    """Run the jobs; the table is written anew after every row."""
    options = parse(arguments)
    context = jobs.Context(
        size=options.size,
        bank=options.bank,
        limit_s=options.limit or (SMOKE_LIMIT_S if options.size == "smoke" else LIMIT_S),
        apart=options.size != "smoke" or options.apart,
        repeats=options.repeats or (1 if options.size == "smoke" else 3),
        threads=options.threads,
        with_kernels=not options.no_kernels,
        with_rivals=not options.no_rivals,
        ours=options.ours,
    )
    done: list[table.Row] = []
    if options.out is not None:
        table.write(options.out, done)
        describe(options)  # now as well: a run that is cut short leaves rows that say what they are of
    began = time.perf_counter()
    for job in options.jobs or jobs.JOBS:
        for row in jobs.JOBS[job](context):
            done.append(row)
            table.compare(done)
            print(table.line(row), flush=True)
            if options.out is not None:
                table.write(options.out, done)
    failed = [row for row in done if row.status == table.FAIL]
    print(f"{len(done)} rows, {len(failed)} failed, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if options.out is not None:
        describe(options)
    return 1 if failed else 0


def describe(options: argparse.Namespace) -> None:
    """Write what the machine is, beside the table."""
    options.out.with_suffix(".txt").write_text(machine.describe(packages(options.ours)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"default all: {', '.join(jobs.JOBS)}")
    parser.add_argument("--size", choices=("smoke", "small", "outlier", "iterate", "full", "fashion"), default="smoke")
    parser.add_argument("--out", type=Path, help="CSV to write; a .txt of the same name comes with it")
    parser.add_argument("--bank", help="of `fashion`: the folder of its feature bank, or one above it")
    parser.add_argument("--limit", type=float, help=f"seconds for an iterative rival (default {LIMIT_S:g})")
    parser.add_argument("--apart", action="store_true", help="own processes at size smoke too: memory is then measured")
    parser.add_argument("--repeats", type=int, help="of short measurements (default 3)")
    parser.add_argument("--threads", type=int, default=0, help="default: all cores")
    parser.add_argument("--no-kernels", action="store_true", help="without the Rust example, which cargo builds")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--ours", default="ours", help="adapter in the place of ours, for tests")
    options = parser.parse_args(arguments)
    unknown = [job for job in options.jobs if job not in jobs.JOBS]
    if unknown:
        parser.error(f"unknown job {unknown[0]!r}; there are {', '.join(jobs.JOBS)}")
    return options


def packages(ours: str) -> list[str]:
    """Packages whose versions belong to the table."""
    return list(dict.fromkeys(p for name in (ours, *RIVALS) for p in importlib.import_module(name).PACKAGES))


if __name__ == "__main__":
    sys.exit(main())
