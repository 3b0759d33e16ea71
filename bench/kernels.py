"""The kernels alone: runs the Rust example `kernels` and reads its CSV."""

import csv
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ("--release", "--quiet", "-p", "ssl-risk-core", "--example", "kernels")


def run(n: int, d: int, k: int) -> list[dict[str, str]]:
    """Lines of the example at these sizes: job, kernel, threads, n, d, k, seconds, gflops, and what it adds.

    Built first, so that a build is in no time. Its rows are its own, not those of a problem.

    Raises
    ------
    RuntimeError with cargo's last line if it does not build or run.
    """
    for command in (("cargo", "build", *EXAMPLE), ("cargo", "run", *EXAMPLE, "--", str(n), str(d), str(k))):
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        except FileNotFoundError:
            raise RuntimeError("cargo is not there") from None
        except subprocess.CalledProcessError as error:
            raise RuntimeError((error.stderr.strip().splitlines() or ["no message"])[-1]) from None
    return list(csv.DictReader(done.stdout.splitlines()))
