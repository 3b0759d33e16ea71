"""Pretrain the zoo: some hundred small encoders on Fashion-MNIST, by design choice, with twins and planted truths.

    python bench/zoo/pretrain.py --data /usr/share/datasets/fashion-mnist --out bench/data/zoo
    python bench/zoo/pretrain.py --data DIR --out DIR --minutes 8.5 --resume zoo-00.jsonl    # what it does not name

On a GPU several processes share the card, since one such network does not fill it. What is finished lies in --out as
packs (`zoo-NN.safetensors`, below 15 MiB each) and as lines of `zoo-NN.jsonl`; the same command again trains what is
not there. The first seed of every recipe comes before the second's. Needs torch, timm, safetensors and lightly.
"""

import argparse
import fnmatch
import math
import multiprocessing
import os
import sys
import time
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

# the modules beside this file, also in the processes that are started
sys.path.insert(0, str(Path(__file__).resolve().parent))

from pack import Made, PackWriter, finished
from recipes import Recipe, recipes
from training import OutOfTime, Place, train

#: processes on one GPU: each step is mostly launches of small kernels, which one core issues
GPU_WORKERS = 12


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing; 0 if all that was asked for is there, 3 if time ran out, 1 if something failed."""
    began = time.time()
    options = parse(arguments)
    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = options.workers or (min(GPU_WORKERS, max(1, n_cores - 2)) if device.startswith("cuda") else 1)
    stop_at, threads = began + 60 * options.minutes, options.threads or max(1, n_cores // workers)
    place = Place(
        data=options.data.expanduser().resolve(),
        device=device,
        limit=options.limit,
        max_epochs=options.max_epochs,
        mixed=options.mixed if options.mixed is not None else device.startswith("cuda"),
        threads=threads,
        stop_at=stop_at,
    )
    wanted = choose(options.only, tuple(range(options.seeds)))
    try:
        there = {name: number for place in (options.out, *options.resume) for name, number in finished(place).items()}
    except ValueError as error:
        raise SystemExit(str(error)) from error
    missing = [recipe for recipe in wanted if recipe.name not in there]
    if options.list:
        for recipe in wanted:
            print(f"{recipe.name}{'' if recipe in missing else '  (there)'}")
        return 0
    print(
        f"{len(wanted)} encoders, {len(wanted) - len(missing)} there, {len(missing)} to train on {device}, "
        f"{workers} processes of {place.threads} threads",
        flush=True,
    )
    writer = PackWriter(options.out, first=1 + max(there.values(), default=-1))
    if workers == 1:
        left, failed = in_turn(missing, place, writer, began)
    else:
        left, failed = side_by_side(missing, place, writer, began, workers)
    print(f"{len(missing) - left - failed} trained, {left} left, {failed} failed, {time.time() - began:.0f} s")
    return 1 if failed else 3 if left else 0


def in_turn(missing: list[Recipe], place: Place, writer: PackWriter, began: float) -> tuple[int, int]:
    """Train in this process; how many are left, and how many failed."""
    failed = 0
    for index, recipe in enumerate(missing):
        try:
            store(train(recipe, place), writer, began)
        except OutOfTime:
            return len(missing) - index, failed
        except ValueError as error:
            print(f"FAILED {recipe.name}: {error}", flush=True)
            failed += 1
    return 0, failed


def side_by_side(
    missing: list[Recipe], place: Place, writer: PackWriter, began: float, workers: int
) -> tuple[int, int]:
    """Train in several processes; how many are left, and how many failed."""
    left = failed = 0
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: dict[Future[list[Made]], Recipe] = {pool.submit(train, r, place): r for r in missing}
        waiting = set(running)
        while waiting:
            done, waiting = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    store(future.result(), writer, began)
                except (OutOfTime, CancelledError):
                    left += 1
                except BrokenProcessPool:
                    print("a process died, of memory perhaps: run the command again, with fewer --workers", flush=True)
                    return left + 1 + len(waiting), failed + 1
                except Exception as error:  # one encoder less; the others go on
                    print(f"FAILED {running[future].name}: {type(error).__name__}: {error}", flush=True)
                    failed += 1
            if time.time() > place.stop_at:
                for future in waiting:
                    future.cancel()
    return left, failed


def store(made: list[Made], writer: PackWriter, began: float) -> None:
    """Write an encoder and its checkpoints, and say so."""
    for one in made:
        path = writer.add(one)
    record = made[-1].record
    print(
        f"{time.time() - began:5.0f} s  {record['name']}: loss {record['final_loss']}, ridge check "
        f"{record['check_error']}, {record['seconds']} s → {path.name}",
        flush=True,
    )


def choose(patterns: list[str], seeds: tuple[int, ...]) -> list[Recipe]:
    """The recipes whose names fit a pattern, in order; all without patterns."""
    found = [r for r in recipes(seeds) if not patterns or any(fnmatch.fnmatch(r.name, p) for p in patterns)]
    if not found:
        raise SystemExit(f"no recipe is called {', '.join(patterns)}; --list shows the names")
    return found


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the four idx files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the packs")
    parser.add_argument(
        "--resume",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="packs from before: what they hold is not trained again, and their numbers are not used",
    )
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="names such as 'simclr*_s0'")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--seeds", type=int, default=2, help="of each recipe (default 2)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="nothing is finished after so long")
    parser.add_argument("--device", help="default: cuda where there is one")
    parser.add_argument("--workers", type=int, help=f"processes (default {GPU_WORKERS} on a GPU, else 1)")
    parser.add_argument("--threads", type=int, help="of each process (default: the cores by the processes)")
    parser.add_argument("--mixed", action=argparse.BooleanOptionalAction, help="bfloat16 encoders (default on a GPU)")
    parser.add_argument("--limit", type=int, help="images of each part (for a trial)")
    parser.add_argument("--max-epochs", type=int, help="cut longer recipes (for a trial)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
