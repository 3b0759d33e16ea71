"""Differences between encoders of the zoo on the same rows: `ssl-risk-rs compare` of each pair of the findings.

    python bench/zoo/pairs.py --runs bench/data/zoo_runs/runs --out bench/zoo/results

Needs the run folders that bench/zoo/run.py writes. `pairs_PROBE.csv` has a line for each pair and component: the
difference, its standard error and its interval, as fractions. Pairs: those that differ in one design choice, both seeds
of each recipe, planted truths and what they are held against, and neighbouring checkpoints.
"""

import argparse
import csv
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

# the modules beside this file, also when a test loads it from elsewhere
sys.path.insert(0, str(Path(__file__).resolve().parent))

from findings import NAMES, Contrast, every_contrast

PROBES = ("logistic", "ridge")
Line = tuple[str, str, str, float, float, float, float]
COLUMNS = ("encoder", "base", "quantity", "difference", "se", "low", "high")


def main(arguments: list[str] | None = None) -> int:
    """Write both tables; 1 if a run folder is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="the run folders of bench/zoo/run.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--workers", type=int, default=1, help="bases side by side (default 1)")
    options = parser.parse_args(arguments)
    contrasts = {(c.encoder, c.base): c for c in every_contrast()}
    names = sorted({name for pair in contrasts for name in pair})
    missing = [name for name in names if not (options.runs / name).is_dir()]
    if missing:
        print(f"{options.runs} lacks {missing[0]} ({len(missing)} in all); bench/zoo/run.py makes it")
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    of_base: dict[str, list[Contrast]] = {}
    for contrast in sorted(contrasts.values(), key=lambda c: (c.base, c.encoder)):
        of_base.setdefault(contrast.base, []).append(contrast)
    lines: dict[str, list[Line]] = {probe: [] for probe in PROBES}
    with ProcessPoolExecutor(options.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(differences, of_base.values(), repeat(options.runs)):
            for probe in PROBES:
                lines[probe] += found[probe]
    for probe, of_probe in lines.items():
        path = options.out / f"pairs_{probe}.csv"
        with path.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(of_probe)
        os.replace(path.with_suffix(".part"), path)
    print(f"{len(contrasts)} pairs of {len(names)} encoders are compared")
    return 0


def differences(contrasts: list[Contrast], folder: Path) -> dict[str, list[Line]]:
    """Lines of pairs that have one base, by probe."""
    from ssl_risk_rs import Run, compare

    base = Run.load(folder / contrasts[0].base)
    found: dict[str, list[Line]] = {probe: [] for probe in PROBES}
    for contrast in contrasts:
        encoder = Run.load(folder / contrast.encoder)
        for probe in PROBES:
            compared = compare([base, encoder], names=[contrast.base, contrast.encoder], probe=probe)
            for quantity in NAMES:
                d = compared.difference(contrast.encoder, quantity)
                found[probe].append((contrast.encoder, contrast.base, quantity, d.difference, d.se, d.low, d.high))
    return found


if __name__ == "__main__":
    sys.exit(main())
