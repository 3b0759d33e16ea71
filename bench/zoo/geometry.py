"""Statistics of the zoo's representations, without a probe: one table, a row for each encoder of `zoo_logistic.csv`.

    python bench/zoo/geometry.py --zoo bench/data/zoo --out bench/zoo/results

Every encoder sees the same 10,000 training images of Fashion-MNIST (drawn with seed 0), and four random views of each
by the zoo's strong augmentations, drawn alike for all. `zoo_statistics.csv` holds the statistics of
`ssl_risk_rs.stats`: those of rows and of classes of the images as they are, those of views of the views. What it holds
is not measured again. How well each ranks the encoders: docs/findings.md, by bench/zoo/findings.py.
"""

import argparse
import csv
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

# the modules beside this file, also when a test loads it from elsewhere
sys.path.insert(0, str(Path(__file__).resolve().parent))

from pack import read_records

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

N_IMAGES = 10_000
N_VIEWS = 4
SEED = 0
CHUNK = 1000


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing; 0 if all is there, 3 if time ran out."""
    options = parse(arguments)
    stop_at = time.time() + 60 * options.minutes
    os.environ["FASHION_ZOO"] = str(options.zoo)
    path = options.out / "zoo_statistics.csv"
    with (options.out / "zoo_logistic.csv").open(newline="", encoding="utf-8") as file:
        names = [row["encoder"] for row in csv.DictReader(file)]
    there = read_table(path)
    missing = [name for name in names if name not in there]
    lost = [name for name in missing if name not in read_records(options.zoo)]
    if lost:
        raise SystemExit(f"{options.zoo} lacks {lost[0]} ({len(lost)} in all); bench/zoo/pretrain.py makes it")
    if missing:
        images, labels = inputs(options.data, options.images, options.threads)
        for name in missing:
            if time.time() > stop_at:
                print(f"{len(names) - len(there)} of {len(names)} encoders are left", flush=True)
                return 3
            began = time.perf_counter()
            there[name] = statistics(name, images, labels)
            write_table(path, [there[name] for name in names if name in there])
            print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
    print(f"{len(names)} encoders are measured")
    return 0


def inputs(data: Path, n: int, threads: int) -> "tuple[list[Tensor], np.ndarray]":
    """The images as they are and their views, as encoders take them, and the labels."""
    import numpy as np
    import torch
    from recipes import VIEWS
    from training import load_images
    from views import normalize, random_views

    torch.set_num_threads(threads)
    train, _ = load_images(data, "cpu", None)
    drawn = torch.from_numpy(np.sort(np.random.default_rng(SEED).permutation(len(train))[:n]))
    pixels = train.pixels[drawn]
    generator = torch.Generator().manual_seed(SEED)
    views = [random_views(pixels, VIEWS["strong"], generator) for _ in range(N_VIEWS)]
    return [normalize(pixels), *views], train.labels[drawn].numpy()


def statistics(name: str, images: "list[Tensor]", labels: "np.ndarray") -> dict[str, str]:
    """A row of the table."""
    import torch
    from encoders import encoder
    from ssl_risk_rs import stats

    module = encoder(name).module
    with torch.inference_mode():
        plain, *views = (torch.cat([module(chunk)["output"] for chunk in part.split(CHUNK)]).numpy() for part in images)
    found = stats(plain, labels, name=name)
    of_views = stats(views[0], views=views[1:], name=name)
    kept = ("alignment", "view_intra_var", "view_inter_var", "view_nc1", "lidar")
    values = {s.name: s.value for s in found.statistics} | {key: of_views.value(key) for key in kept}
    numbers = {key: "" if value != value else repr(value) for key, value in values.items()}
    return {"encoder": name, "n_rows": str(found.n_rows), "n_views": str(of_views.n_views), **numbers}


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """The rows of an earlier call, by encoder."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["encoder"]: row for row in csv.DictReader(file)}


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    """Replace the table."""
    with path.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(path.with_suffix(".part"), path)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="folder of the packs")
    parser.add_argument("--out", type=Path, required=True, help="folder of zoo_logistic.csv and of the new table")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--images", type=int, default=N_IMAGES, help="training images (default 10,000)")
    parser.add_argument("--threads", type=int, default=1, help="of the encoders (default 1)")
    parser.add_argument("--minutes", type=float, default=20, help="no encoder is begun after them (default 20)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
