"""Decompose on the rows that an encoder saw: what a tenth of the images does to encoder generalization.

    python bench/zoo/seen.py --zoo bench/data/zoo --out bench/zoo/results

An encoder that saw a tenth of the training images is a stranger to nine tenths of the probe's rows; encoder
generalization, the difference between test rows and training rows, then shows a tenth of what it memorized. Here
the probe's training rows are those that the encoder saw (`rows_train` of its pack). An encoder that saw all images,
and one with random weights, are decomposed on the same rows beside it. Tables: `seen_PROBE.csv`, columns as in
`zoo_PROBE.csv`.
"""

import argparse
import csv
import os
import sys
from pathlib import Path

# the modules beside this file, also when a test loads it from elsewhere
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from pack import Record, read_records, read_tensors
from run import DATA, PROBES, Job, jobs, row

#: encoders that saw a share, each with those that are decomposed on the same rows
SHARES = {
    f"{share}_s{seed}": tuple(f"{name}_s{seed}" for name in others)
    for seed in (0, 1)
    for share, others in (
        ("supervised_ep60_weak_tenth", ("supervised_ep60_weak", "random")),
        ("simclr_share10", ("simclr",)),
        ("vicreg_share10", ("vicreg",)),
    )
}


def main(arguments: list[str] | None = None) -> int:
    """Write the two tables; 0 if all is there."""
    from ssl_risk_rs import decompose
    from training import load_images

    options = parse(arguments)
    os.environ["FASHION_ZOO"] = str(options.zoo)
    train, test = load_images(options.data, "cpu", options.limit)
    train_labels, test_labels = train.labels.numpy(), test.labels.numpy()
    rows: dict[str, list[Record]] = {probe: [] for probe in PROBES}
    for job, seen in plan(options.zoo):
        assert job.twin is not None, "plan takes encoders with a twin only"
        ids = [f"train/{i}" for i in seen] + [f"t10k/{i}" for i in range(len(test))]
        features = [
            encode(name, part) for name in (job.encoder, job.twin) for part in (train.pixels[seen], test.pixels)
        ]
        for probe in PROBES:
            decomposition = decompose(
                features[0],
                train_labels[seen],
                features[1],
                test_labels,
                supervised=features[2],
                supervised_test=features[3],
                sample_ids=ids,
                name=job.name,
                probe=probe,
            )
            rows[probe].append(row(job, decomposition))
            estimate = decomposition.estimates["enc_gen"].estimate
            print(f"{job.name}: {probe}, encoder generalization {100 * estimate:.2f} points", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    for probe, found in rows.items():
        path = options.out / f"seen_{probe}.csv"
        columns = list(dict.fromkeys(key for one in found for key in one))
        with path.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)
        os.replace(path.with_suffix(".part"), path)
    return 0


def plan(zoo: Path) -> list[tuple[Job, np.ndarray]]:
    """What is decomposed, and on which training rows."""
    records = read_records(zoo)
    by_name = {job.name: job for job in jobs({name: record for name, (_, record) in records.items()})}
    found: list[tuple[Job, np.ndarray]] = []
    for name, others in SHARES.items():
        missing = [n for n in (name, *others) if n not in by_name or by_name[n].twin is None]
        if missing:
            raise SystemExit(f"{zoo} lacks {missing[0]} or its supervised twin; bench/zoo/pretrain.py makes them")
        seen = read_tensors(records[name][0], name)["rows_train"].astype(np.int64)
        found += [(by_name[n], seen) for n in (name, *others)]
    return found


def encode(name: str, pixels: object) -> np.ndarray:
    """Representations (n, d) of uint8 images on the CPU, in float32."""
    import torch
    from encoders import encoder
    from views import normalize

    module = encoder(name).module
    assert isinstance(pixels, torch.Tensor)
    with torch.inference_mode():
        return torch.cat([module(normalize(chunk))["output"] for chunk in pixels.split(1000)]).numpy()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="folder of the packs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--limit", type=int, help="images of each part (for a trial), as the encoders were trained")
    parser.add_argument("--data", type=Path, default=Path(DATA.partition(":")[2]), help="folder of the idx files")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
