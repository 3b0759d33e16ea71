"""Coverage of few-shot intervals where classes are of unequal size and draws overlap, by simulation.

Gaussian classes in four dimensions; in every replicate `decompose(..., shots=S)` runs on fresh training and test rows.
The truth of a quantity is its mean over all replicates. `bench/fewshot_coverage.py` has equal classes, and a truth that
does not come from the estimates.

    python bench/fewshot_unequal.py --replicates 300 --out bench/results/fewshot_unequal.csv
"""

import argparse
import csv
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

RISKS = ("risk_as", "risk_us", "probe_gen", "enc_gen")
COLUMNS = (
    "train_rows", "test_rows", "shots", "probe", "quantity", "replicates", "truth", "sd", "se_ratio", "coverage",
    "marked", "draws", "overlap", "overlap_df",
)  # fmt: skip


@dataclass(frozen=True)
class Design:
    """Rows of each class, and shots."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    shots: str


DESIGNS = (
    Design((400, 10), (200, 50), "4"),
    Design((400, 100, 10), (100, 60, 40), "4"),
    Design((400, 20), (200, 50), "5"),
    Design((300, 200, 100, 100, 100, 100, 100, 12, 12, 12), (60,) * 7 + (30,) * 3, "5"),
    Design((200,) * 5 + (14,) * 5, (60,) * 5 + (30,) * 5, "6"),
    Design((60, 60), (60, 60), "10"),
)


def replicate(job: tuple[Design, str, int]) -> np.ndarray:
    """(quantities, 8): estimate, se, low, high, marked, draws, ρ, degrees of freedom of ρ."""
    from ssl_risk_rs import decompose

    warnings.simplefilter("ignore")
    design, probe, index = job
    centres = np.random.default_rng(99).normal(size=(len(design.train), 4))
    rng = np.random.default_rng([index, len(design.train)])

    def rows(counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat(np.arange(len(counts)), counts)
        return (centres[y] + rng.normal(size=(len(y), 4))).astype(np.float32), y

    (x, y), (xt, yt) = rows(design.train), rows(design.test)
    result = decompose(
        *(x, y, xt, yt), probe=probe, shots=design.shots, midpoint=False, seed=index, n_threads=1, device="cpu"
    )
    (shot,) = result.shots
    found = [shot.estimates[name] for name in RISKS]
    of_all = (shot.draws, shot.overlap.share, shot.overlap.df or np.inf)
    return np.array([(e.estimate, e.se, e.low, e.high, e.grade.value != "sound", *of_all) for e in found])


def summaries(design: Design, probe: str, tables: np.ndarray) -> Iterator[dict[str, object]]:
    """A row for each quantity from (replicates, quantities, 8)."""
    for name, values in zip(RISKS, tables.transpose(1, 2, 0), strict=True):
        estimate, se, low, high, marked, draws, share, df = values
        truth, sd = estimate.mean(), estimate.std(ddof=1)
        yield {
            "train_rows": " ".join(map(str, design.train)),
            "test_rows": " ".join(map(str, design.test)),
            "shots": design.shots,
            "probe": probe,
            "quantity": name,
            "replicates": len(estimate),
            "truth": f"{truth:.5f}",
            "sd": f"{sd:.5f}",
            "se_ratio": f"{np.sqrt((se**2).mean()) / sd:.3f}",
            "coverage": f"{((low <= truth) & (truth <= high)).mean():.3f}",
            "marked": f"{marked.mean():.3f}",
            "draws": f"{draws.mean():.1f}",
            "overlap": f"{share.mean():.4f}",
            "overlap_df": f"{df.mean():.2f}",
        }


def main() -> None:
    """Run every design with both probes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--probes", nargs="+", default=["ridge", "logistic"])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with (
        ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool,
        open(given.out, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for probe in given.probes:
            for design in DESIGNS:
                jobs = [(design, probe, i) for i in range(given.replicates)]
                tables = np.stack(list(pool.map(replicate, jobs, chunksize=4)))
                writer.writerows(summaries(design, probe, tables))
                file.flush()


if __name__ == "__main__":
    main()
