"""Images per second of extraction beside other ways of running the same encoder over the same JPEG files.

Rivals: a plain torch DataLoader loop with its best number of workers, timm's own validation loader
(`timm.data.create_loader`), and SPDL's pipeline with as many threads as there are cores. All of them decode with
Pillow, use the encoder's own transform and the same module, and keep features in memory; ours writes them to a bank as
well.
"bare" is the encoder on tensors that are there already, "decode" our decoding alone. Contenders take turns, so that
other work on the machine meets all of them; rates are medians, of all images from the start of the workers to the last
feature.
CPU time of an image (least of the repeats, whole pass, workers included) says more where the machine is busy.
Each row has the largest difference of the features from ours, relative to their spread; beyond a tolerance it fails.

    python bench/extraction.py --out bench/results/extraction.csv
    python bench/extraction.py --device cuda --out bench/results/extraction_gpu.csv

On a GPU the encoders are larger, products are in bfloat16 under autocast, the loaders pin their batches and copy them
without waiting. With --whole the second encoder also runs in processes of its own, start-up included.
"""

import argparse
import csv
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from machine import describe
from PIL import Image
from ssl_risk_rs.datasets import ImageDataset, create_dataset
from ssl_risk_rs.encoders import Encoder, create_encoder
from ssl_risk_rs.extraction import extract
from ssl_risk_rs.extraction.decoding import CHUNK, Decoder, decode
from ssl_risk_rs.extraction.forward import Forward
from ssl_risk_rs.extraction.rates import read_rates

COLUMNS = (
    "encoder", "contender", "images", "batch_size", "workers", "images_per_s", "min", "max", "ours_over_it",
    "cpu_ms_per_image", "feature_difference", "first_block_s", "write_mb_per_s", "whole_process_s", "repeats",
)  # fmt: skip
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured on a kind of device.

    images : of each encoder: some seconds on two cores, or on a GPU with sixteen; batch : images at a time
    tolerance : of features, relative to their spread: batches of other sizes and orders, and the float16 in which ours
        are stored (2^-11 of a value, and the largest of a hundred thousand are some ten times the spread), on a GPU
        also the eight bits of bfloat16
    """

    device: torch.device
    images: dict[str, int]
    batch: int
    tolerance: float

    def autocast(self) -> AbstractContextManager[object]:
        """What the encoder runs under."""
        return torch.autocast("cuda", torch.bfloat16) if self.on_gpu else nullcontext()

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


BENCHES = {
    "cpu": Bench(
        torch.device("cpu"),
        {"pixels:8": 1000, "random:resnet18": 1024, "random:resnet50": 512, "random:vit_base_patch16_224": 192},
        8,
        5e-3,
    ),
    "cuda": Bench(
        torch.device("cuda"),
        {
            "random:resnet50": 8192,
            "random:vit_base_patch16_224": 8192,
            "random:vit_large_patch16_224": 8192,
            "random:vit_huge_patch14_224": 16384,
        },
        256,
        0.5,
    ),
}
#: images of the whole pass from which the batch size is searched; below, `ours_auto` would be `ours`
SEARCHED = 256


@dataclass
class Measured:
    """One pass: steady images/s, features in row order (None: none), what else is known of it."""

    rate: float
    features: "np.ndarray | None"
    workers: int
    batch_size: int
    first_block: float | None = None
    write: float | None = None


def write_images(root: Path, n: int) -> None:
    """JPEGs of 500 × 375: crops of scikit-learn's two sample photographs with noise, 60 to 85 kB each."""
    for part in ("train", "test"):
        for name in "ab":
            (root / part / name).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(CORES) as pool:
        list(pool.map(_write_image, [root] * n, range(n), chunksize=16))


def _write_image(root: Path, i: int) -> None:
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(i)
    source = Image.fromarray(load_sample_images().images[i % 2])
    scale = rng.uniform(0.5, 1)
    width, height = int(source.width * scale), int(source.height * scale)
    x, y = rng.integers(0, source.width - width + 1), rng.integers(0, source.height - height + 1)
    crop = source.crop((x, y, x + width, y + height)).resize((500, 375))
    pixels = np.asarray(crop).astype(int) + rng.normal(0, 6, (375, 500, 3))
    path = root / ("test" if i % 5 == 0 else "train") / "ab"[i % 2] / f"{i:05}.jpg"
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def ours(encoder: Encoder, dataset: ImageDataset, bench: Bench, *, search: bool = False) -> Measured:
    """`extract` into a bank of a new store."""
    batch_size, device = "auto" if search else bench.batch, str(bench.device)
    with tempfile.TemporaryDirectory() as store:
        options = {"store": store, "batch_size": batch_size, "device": device}
        bank = next(iter(extract(encoder, dataset, **options).values()))  # type: ignore[arg-type]
        features = bank.read(np.arange(bank.n_rows))
        ((run,),) = read_rates(bank.path).values()
    waits = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in run["waited"].items())
    print(f"ours waited for {waits}, of {run['seconds']:.2f} s", file=sys.stderr)
    return Measured(
        run["images"] / run["seconds"],
        features,
        run["workers"],
        run["batch_size"],
        run["first_block"],
        run["bytes"] / run["write"] / 1e6,
    )


def encoded(encoder: Encoder, batches: "Iterable[torch.Tensor]", bench: Bench) -> tuple[float, np.ndarray]:
    """The loop that people write: its rate, and features."""
    name, features, began = encoder.spec.features[0], [], time.perf_counter()
    with torch.inference_mode(), bench.autocast():
        for images in batches:
            on_device = images.to(bench.device, non_blocking=True)
            features.append(encoder.module(on_device)[name].float().cpu().numpy())
    found = np.concatenate(features)
    return len(found) / (time.perf_counter() - began), found


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


def data_loader(encoder: Encoder, dataset: ImageDataset, bench: Bench, *, workers: int) -> Measured:
    files = Files(encoder, dataset)
    loader = torch.utils.data.DataLoader(files, bench.batch, num_workers=workers, pin_memory=bench.on_gpu)
    return Measured(*encoded(encoder, loader, bench), workers, bench.batch)


def timm_loader(encoder: Encoder, dataset: ImageDataset, bench: Bench, *, workers: int) -> Measured:
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
        Labelled(), (3, spec.img_size, spec.img_size), bench.batch, use_prefetcher=bench.on_gpu,
        interpolation=spec.interpolation, mean=spec.mean, std=spec.std, crop_pct=spec.img_size / spec.resize,
        num_workers=workers, device=bench.device, pin_memory=bench.on_gpu,
    )  # fmt: skip
    return Measured(*encoded(encoder, (images for images, _ in loader), bench), workers, bench.batch)


def spdl_pipeline(encoder: Encoder, dataset: ImageDataset, bench: Bench, *, workers: int) -> Measured:
    from spdl.pipeline import PipelineBuilder

    files = Files(encoder, dataset)
    pipeline = (
        PipelineBuilder()
        .add_source(range(len(files)))
        .pipe(files.__getitem__, concurrency=workers, output_order="input")
        .aggregate(bench.batch)
        .pipe(torch.stack)
        .add_sink(4)
        .build(num_threads=workers)
    )
    with pipeline.auto_stop():
        return Measured(*encoded(encoder, pipeline.get_iterator(), bench), workers, bench.batch)


def cpu_seconds() -> float:
    """CPU time of this process and of the workers that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def bare(encoder: Encoder, dataset: ImageDataset, bench: Bench) -> Measured:
    """The encoder on batches that lie on the device; a few of them in turn where all would be too many."""
    files, n = Files(encoder, dataset), min(len(dataset), 8 * bench.batch)
    kept = [
        torch.stack([files[i] for i in range(a, min(a + bench.batch, n))]).to(bench.device)
        for a in range(0, n, bench.batch)
    ]
    precision = "bfloat16" if bench.on_gpu else "float32"
    forward = Forward(
        encoder.module, encoder.spec.features[:1], device=bench.device, precision=precision, batch_size=bench.batch
    )
    forward([kept[0]]).arrays()
    began, count, last = time.perf_counter(), 0, None
    while count + len(kept[-1]) <= len(dataset):
        for images in kept:
            ahead = forward([images])
            if last is not None:
                last.arrays()
            last = ahead
            count += len(images)
    assert last is not None
    last.arrays()
    return Measured(count / (time.perf_counter() - began), None, 0, bench.batch)


def decode_alone(encoder: Encoder, dataset: ImageDataset, bench: Bench, *, workers: int) -> Measured:
    rows = np.arange(len(dataset), dtype=np.uint64)
    decoder = Decoder(dataset, encoder.transform, rows, min(CHUNK, bench.batch), pin=bench.on_gpu)
    began = time.perf_counter()
    count = sum(len(chunk.rows) for chunk in decode(decoder, workers))
    return Measured(count / (time.perf_counter() - began), None, workers, bench.batch)


Contender = Callable[[Encoder, ImageDataset, Bench], Measured]


def contenders(encoder: Encoder, bench: Bench, workers: int) -> Iterator[tuple[str, Contender]]:
    """Name and one pass of each; `workers` are the DataLoader's best."""
    yield "ours", ours
    yield "dataloader", lambda e, d, b: data_loader(e, d, b, workers=workers)
    if importlib.util.find_spec("spdl") is not None:
        yield "spdl", lambda e, d, b: spdl_pipeline(e, d, b, workers=CORES)
    yield "bare", bare
    ours_by_default = CORES if bench.on_gpu else max(min(CORES, 3), CORES // 4)
    yield "decode", lambda e, d, b: decode_alone(e, d, b, workers=ours_by_default)
    if bench.images[encoder.spec.name] >= SEARCHED:
        yield "ours_auto", lambda e, d, b: ours(e, d, b, search=True)
    if encoder.spec.resize:  # timm builds a transform of its own from these numbers
        yield "timm", lambda e, d, b: timm_loader(e, d, b, workers=workers)


def measure(name: str, root: Path, repeats: int, bench: Bench, without: Sequence[str]) -> list[dict[str, object]]:
    """Rows of one encoder."""
    encoder = create_encoder(name)
    dataset = create_dataset(f"folder:{root}", limit=None)
    if bench.images[name] < len(dataset):
        dataset = create_dataset(f"folder:{root}", limit=f"{bench.images[name] // 4}/class")
    ours(encoder, dataset, bench)  # the module takes the layout that is faster, for all of them
    best = CORES
    if not bench.on_gpu:
        best = max((0, CORES), key=lambda workers: data_loader(encoder, dataset, bench, workers=workers).rate)
    found: dict[str, list[Measured]] = {}
    cpu: dict[str, list[float]] = {}
    for _ in range(repeats):
        for contender, run in contenders(encoder, bench, best):
            if contender in without:
                continue
            clock = cpu_seconds()
            found.setdefault(contender, []).append(run(encoder, dataset, bench))
            cpu.setdefault(contender, []).append((cpu_seconds() - clock) / len(dataset))
            print(name, contender, f"{found[contender][-1].rate:.1f} images/s", file=sys.stderr, flush=True)
    reference = found["ours"][0].features
    median = {contender: statistics.median(run.rate for run in runs) for contender, runs in found.items()}
    rows = []
    for contender, runs in found.items():
        last, difference = runs[-1], ""
        if last.features is not None:
            apart = np.abs(last.features - reference).max() / reference.std()
            if apart > bench.tolerance:
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


def whole_processes(root: Path, rows: list[dict[str, object]], repeats: int, device: str) -> None:
    """Seconds of each contender in a process of its own, for the second encoder."""
    name = list(BENCHES[device].images)[1]
    seconds: dict[str, list[float]] = {}
    chosen = [row for row in rows if row["encoder"] == name and row["contender"] not in ("bare", "decode")]
    for _ in range(repeats):
        for row in chosen:
            start = time.perf_counter()
            command = [sys.executable, __file__, "--device", device, "--images", str(root)]
            command += ["--one", name, str(row["contender"])]
            subprocess.run([*command, str(row["workers"])], check=True, stdout=subprocess.DEVNULL)
            seconds.setdefault(str(row["contender"]), []).append(time.perf_counter() - start)
    for row in chosen:
        row["whole_process_s"] = f"{statistics.median(seconds[str(row['contender'])]):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=Path, help="a folder made by an earlier run; default: made anew")
    parser.add_argument("--device", default="cpu", choices=list(BENCHES))
    parser.add_argument("--encoders", nargs="+", help="default: those of the device")
    parser.add_argument("--without", nargs="*", default=[], help="contenders that are left out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="also in processes of their own, start-up included")
    parser.add_argument("--one", nargs=3, metavar=("ENCODER", "CONTENDER", "WORKERS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    bench = BENCHES[given.device]
    encoders = given.encoders or list(bench.images)
    if unknown := [name for name in encoders if name not in bench.images]:
        parser.error(f"{unknown[0]} is not one of {', '.join(bench.images)}")
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as folder:
        root = given.images or Path(folder)
        if not root.is_dir() or not any(root.iterdir()):
            write_images(root, max(bench.images[name] for name in encoders))
        if given.one:
            encoder = create_encoder(given.one[0])
            chosen = dict(contenders(encoder, bench, int(given.one[2])))[given.one[1]]
            chosen(encoder, create_dataset(f"folder:{root}"), bench)
            return
        rows: list[dict[str, object]] = []
        for name in encoders:
            rows += measure(name, root, given.repeats, bench, given.without)
            write(rows, given.out, bench)
        if given.whole and list(bench.images)[1] in encoders:
            whole_processes(root, rows, min(2, given.repeats), given.device)
            write(rows, given.out, bench)


def write(rows: list[dict[str, object]], path: Path | None, bench: Bench) -> None:
    """The table, and beside it the machine; again after each encoder, so that an interruption leaves what is done."""
    out = open(path, "w", newline="", encoding="utf-8") if path else sys.stdout  # noqa: SIM115
    table = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    if path:
        out.close()
        facts = describe(["ssl-risk-rs", "torch", "torchvision", "timm", "pillow", "spdl", "numpy"])
        gpu = f"gpu: {torch.cuda.get_device_name(bench.device)}\n" if bench.on_gpu else ""
        path.with_suffix(".txt").write_text(gpu + facts)


if __name__ == "__main__":
    main()
