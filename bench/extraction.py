"""Images per second of extraction beside other ways of running the same encoder over the same JPEG files.

Rivals: a plain torch DataLoader loop with its best number of workers, timm's own validation loader
(`timm.data.create_loader`), and SPDL's pipeline with as many threads as there are cores. All of them decode with
Pillow, use the encoder's own transform and the same module, and keep features in memory; ours writes them to a bank as
well.
"bare" is the encoder on tensors that are there already, "decode" our decoding alone. Contenders take turns, so that
other work on the machine meets all of them; rates are medians, counted from the first batch that is done to the last.
CPU time of an image (least of the repeats, whole pass, workers included) says more where the machine is busy.
Each row has the largest difference of the features from ours, relative to their spread: beyond TOLERANCE the run fails.

    python bench/extraction.py --out bench/results/extraction.csv

The second encoder also runs in processes of its own, start-up included.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from machine import describe
from PIL import Image
from ssl_risk_rs.datasets import ImageDataset, create_dataset
from ssl_risk_rs.encoders import Encoder, create_encoder
from ssl_risk_rs.extraction import extract
from ssl_risk_rs.extraction.decoding import Decoder, decode
from ssl_risk_rs.extraction.forward import Forward
from ssl_risk_rs.extraction.rates import read_rates

COLUMNS = (
    "encoder", "contender", "images", "batch_size", "workers", "images_per_s", "min", "max", "ours_over_it",
    "cpu_ms_per_image", "feature_difference", "first_block_s", "write_mb_per_s", "whole_process_s", "repeats",
)  # fmt: skip
#: encoder → images: some seconds each on two cores
PROBLEMS = {"pixels:8": 1000, "random:resnet18": 256, "random:resnet50": 128, "random:vit_base_patch16_224": 96}
#: images of the whole pass from which the batch size is searched; below, `ours_auto` would be `ours`
SEARCHED = 256
BATCH = 8
#: float32 products of other batch sizes and orders, and the float16 in which ours are stored: 2^-11 of a value, and the
#: largest of a hundred thousand are some ten times the spread
TOLERANCE = 5e-3
CORES = len(os.sched_getaffinity(0))


@dataclass
class Measured:
    """One pass: steady images/s, features in row order (None: none), what else is known of it."""

    rate: float
    features: "np.ndarray | None"
    workers: int
    batch_size: int = BATCH
    first_block: float | None = None
    write: float | None = None


def write_images(root: Path, n: int) -> None:
    """JPEGs of 500 × 375: crops of scikit-learn's two sample photographs with noise, 60 to 85 kB each."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    for i in range(n):
        image = sources[i % 2]
        scale = rng.uniform(0.5, 1)
        width, height = int(image.width * scale), int(image.height * scale)
        x, y = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
        crop = image.crop((x, y, x + width, y + height)).resize((500, 375))
        pixels = np.asarray(crop).astype(int) + rng.normal(0, 6, (375, 500, 3))
        path = root / ("test" if i % 5 == 0 else "train") / "ab"[i % 2] / f"{i:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def ours(encoder: Encoder, dataset: ImageDataset, *, batch_size: "int | str" = BATCH) -> Measured:
    """`extract` into a bank of a new store."""
    ends: list[tuple[float, float]] = []

    def note(event: object) -> None:
        if event.stage == "encode" and event.done:  # type: ignore[attr-defined]
            ends.append((time.perf_counter(), event.done))  # type: ignore[attr-defined]

    with tempfile.TemporaryDirectory() as store:
        bank = next(iter(extract(encoder, dataset, store=store, batch_size=batch_size, progress=note).values()))
        features = bank.read(np.arange(bank.n_rows))
        ((run,),) = read_rates(bank.path).values()
    (t0, n0), (t1, n1) = ends[0], ends[-1]
    rate = (n1 - n0) / (t1 - t0) if n1 > n0 else run["images"] / run["seconds"]
    return Measured(
        rate, features, run["workers"], run["batch_size"], run["first_block"], run["bytes"] / run["write"] / 1e6
    )


def encoded(encoder: Encoder, batches: "Iterable[torch.Tensor]") -> tuple[float, np.ndarray]:
    """The loop that people write: rate from the first batch that is done to the last, and features."""
    name, features, ends = encoder.spec.features[0], [], []
    with torch.inference_mode():
        for images in batches:
            features.append(encoder.module(images)[name].float().numpy())
            ends.append(time.perf_counter())
    found = np.concatenate(features)
    return (len(found) - len(features[0])) / (ends[-1] - ends[0]), found


class Files(torch.utils.data.Dataset):
    """Transformed images by row, as a plain loop has them."""

    def __init__(self, encoder: Encoder, dataset: ImageDataset) -> None:
        self.transform = encoder.transform
        self.paths = [dataset.where(row) for row in range(len(dataset))]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        with Image.open(self.paths[row]) as image:
            return self.transform(image.convert("RGB"))


def data_loader(encoder: Encoder, dataset: ImageDataset, *, workers: int) -> Measured:
    loader = torch.utils.data.DataLoader(Files(encoder, dataset), BATCH, num_workers=workers)
    return Measured(*encoded(encoder, loader), workers)


def timm_loader(encoder: Encoder, dataset: ImageDataset, *, workers: int) -> Measured:
    from timm.data import create_loader

    class Labelled(torch.utils.data.Dataset):
        transform = None  # create_loader sets it

        def __init__(self) -> None:
            self.paths = [dataset.where(row) for row in range(len(dataset))]

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
            with Image.open(self.paths[row]) as image:
                return self.transform(image.convert("RGB")), 0

    spec = encoder.spec
    loader = create_loader(
        Labelled(), (3, spec.img_size, spec.img_size), BATCH, use_prefetcher=False, interpolation=spec.interpolation,
        mean=spec.mean, std=spec.std, crop_pct=spec.img_size / spec.resize, num_workers=workers, device="cpu",
    )  # fmt: skip
    return Measured(*encoded(encoder, (images for images, _ in loader)), workers)


def spdl_pipeline(encoder: Encoder, dataset: ImageDataset, *, workers: int) -> Measured:
    from spdl.pipeline import PipelineBuilder

    files = Files(encoder, dataset)
    pipeline = (
        PipelineBuilder()
        .add_source(range(len(files)))
        .pipe(files.__getitem__, concurrency=workers, output_order="input")
        .aggregate(BATCH)
        .pipe(torch.stack)
        .add_sink(4)
        .build(num_threads=workers)
    )
    with pipeline.auto_stop():
        return Measured(*encoded(encoder, pipeline.get_iterator()), workers)


def cpu_seconds() -> float:
    """CPU time of this process and of the workers that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def bare(encoder: Encoder, dataset: ImageDataset) -> Measured:
    files = Files(encoder, dataset)
    batches = [
        torch.stack([files[i] for i in range(a, min(a + BATCH, len(files)))]) for a in range(0, len(files), BATCH)
    ]
    forward = Forward(
        encoder.module, encoder.spec.features[:1], device=torch.device("cpu"), precision="float32", batch_size=BATCH
    )

    ends, counts = [], []
    for images in batches:
        forward([images]).arrays()
        ends.append(time.perf_counter())
        counts.append(len(images))
    return Measured(sum(counts[1:]) / (ends[-1] - ends[0]), None, 0)


def decode_alone(encoder: Encoder, dataset: ImageDataset, *, workers: int) -> Measured:
    decoder = Decoder(dataset, encoder.transform, np.arange(len(dataset), dtype=np.uint64), BATCH)
    ends = [(time.perf_counter(), len(chunk.rows)) for chunk in decode(decoder, workers)]
    return Measured(sum(n for _, n in ends[1:]) / (ends[-1][0] - ends[0][0]), None, workers)


def contenders(encoder: Encoder, workers: int) -> dict[str, Callable[[Encoder, ImageDataset], Measured]]:
    """Name → one pass; `workers` are the DataLoader's best."""
    default = max(min(CORES, 3), CORES // 4)  # ours on a CPU
    found: dict[str, Callable[[Encoder, ImageDataset], Measured]] = {
        "ours": ours,
        "dataloader": lambda e, d: data_loader(e, d, workers=workers),
        "spdl": lambda e, d: spdl_pipeline(e, d, workers=CORES),
        "bare": bare,
        "decode": lambda e, d: decode_alone(e, d, workers=default),
    }
    if PROBLEMS[encoder.spec.name] >= SEARCHED:
        found["ours_auto"] = lambda e, d: ours(e, d, batch_size="auto")
    if encoder.spec.resize:  # timm builds a transform of its own from these numbers
        found["timm"] = lambda e, d: timm_loader(e, d, workers=workers)
    return found


def measure(name: str, root: Path, repeats: int) -> list[dict[str, object]]:
    """Rows of one encoder."""
    encoder = create_encoder(name)
    dataset = create_dataset(f"folder:{root}", limit=None)
    if PROBLEMS[name] < len(dataset):
        dataset = create_dataset(f"folder:{root}", limit=f"{PROBLEMS[name] // 4}/class")
    ours(encoder, dataset)  # the module takes the layout that is faster, for all of them
    best = max((0, CORES), key=lambda workers: data_loader(encoder, dataset, workers=workers).rate)
    found: dict[str, list[Measured]] = {}
    cpu: dict[str, list[float]] = {}
    for _ in range(repeats):
        for contender, run in contenders(encoder, best).items():
            clock = cpu_seconds()
            found.setdefault(contender, []).append(run(encoder, dataset))
            cpu.setdefault(contender, []).append((cpu_seconds() - clock) / len(dataset))
            print(name, contender, f"{found[contender][-1].rate:.1f} images/s", file=sys.stderr, flush=True)
    reference = found["ours"][0].features
    median = {contender: statistics.median(run.rate for run in runs) for contender, runs in found.items()}
    rows = []
    for contender, runs in found.items():
        last, difference = runs[-1], ""
        if last.features is not None:
            apart = np.abs(last.features - reference).max() / reference.std()
            if apart > TOLERANCE:
                raise SystemExit(f"{name}, {contender}: features differ by {apart:.2g} of their spread")
            difference = f"{apart:.1e}"
        rates = [run.rate for run in runs]
        rows.append({
            "encoder": name, "contender": contender, "images": len(dataset), "batch_size": last.batch_size,
            "workers": last.workers, "images_per_s": f"{median[contender]:.1f}", "min": f"{min(rates):.1f}",
            "max": f"{max(rates):.1f}", "ours_over_it": f"{median['ours'] / median[contender]:.3f}",
            "cpu_ms_per_image": f"{1e3 * min(cpu[contender]):.2f}",
            "feature_difference": difference, "repeats": repeats, "whole_process_s": "",
            "first_block_s": "" if last.first_block is None else f"{last.first_block:.2f}",
            "write_mb_per_s": "" if last.write is None else f"{last.write:.1f}",
        })  # fmt: skip
    return rows


def whole_processes(root: Path, rows: list[dict[str, object]], repeats: int) -> None:
    """Seconds of each contender in a process of its own, for the second encoder of PROBLEMS."""
    name = list(PROBLEMS)[1]
    seconds: dict[str, list[float]] = {}
    chosen = [row for row in rows if row["encoder"] == name and row["contender"] not in ("bare", "decode")]
    for _ in range(repeats):
        for row in chosen:
            start = time.perf_counter()
            command = [sys.executable, __file__, "--images", str(root), "--one", name, str(row["contender"])]
            subprocess.run([*command, str(row["workers"])], check=True, stdout=subprocess.DEVNULL)
            seconds.setdefault(str(row["contender"]), []).append(time.perf_counter() - start)
    for row in chosen:
        row["whole_process_s"] = f"{statistics.median(seconds[str(row['contender'])]):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=Path, help="a folder made by an earlier run; default: made anew")
    parser.add_argument("--encoders", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="also in processes of their own, start-up included")
    parser.add_argument("--one", nargs=3, metavar=("ENCODER", "CONTENDER", "WORKERS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as folder:
        root = given.images or Path(folder)
        if not root.is_dir() or not any(root.iterdir()):
            write_images(root, max(PROBLEMS.values()))
        if given.one:
            encoder = create_encoder(given.one[0])
            contenders(encoder, int(given.one[2]))[given.one[1]](encoder, create_dataset(f"folder:{root}"))
            return
        rows: list[dict[str, object]] = []
        for name in given.encoders:
            rows += measure(name, root, given.repeats)
            write(rows, given.out)
        if given.whole and list(PROBLEMS)[1] in given.encoders:
            whole_processes(root, rows, min(2, given.repeats))
            write(rows, given.out)


def write(rows: list[dict[str, object]], path: Path | None) -> None:
    """The table, and beside it the machine; again after each encoder, so that an interruption leaves what is done."""
    out = open(path, "w", newline="", encoding="utf-8") if path else sys.stdout  # noqa: SIM115
    table = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    if path:
        out.close()
        facts = describe(["ssl-risk-rs", "torch", "torchvision", "timm", "pillow", "spdl", "numpy"])
        path.with_suffix(".txt").write_text(facts)


if __name__ == "__main__":
    main()
