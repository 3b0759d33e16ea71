"""Small banks that the tests of this room make; `conftest.py` makes the module known by its name."""

from pathlib import Path

import numpy as np
import polars as pl
from ssl_risk_rs import FeatureBank

HEADER = {"encoder": "tiny", "data": "toy", "class_names": ["a", "b", "c"], "img_size": 32}


def samples_of(n: int, **columns: object) -> pl.DataFrame:
    frame = {
        "row": range(n),
        "split": ["test" if i % 4 == 3 else "train" for i in range(n)],
        "sample_id": [f"s{i}" for i in range(n)],
        "label": [i % 3 for i in range(n)],
    }
    return pl.DataFrame({**frame, **columns})


def features_of(rows, d: int = 5) -> np.ndarray:
    """Exact in float16."""
    return ((np.asarray(rows, dtype=np.int64)[:, None] * 13 + np.arange(d)) % 2048 - 1024).astype(np.float32)


def as_rows(*rows: int) -> np.ndarray:
    return np.array(rows, dtype=np.uint64)


def create(path: Path, n: int = 10, d: int = 5, dtype="float16", **kwargs) -> FeatureBank:
    arguments = {"header": HEADER, "samples": samples_of(n), **kwargs}
    header, samples = arguments["header"], arguments["samples"]
    return FeatureBank.create(path, header, samples, n_features=d, dtype=dtype)


def filled(path: Path, n: int = 10, d: int = 5, dtype="float16", step: int = 4) -> FeatureBank:
    bank = create(path, n, d, dtype)
    rows = bank.missing_rows()
    with bank.writer("a") as writer:
        for start in range(0, n, step):
            writer.append(rows[start : start + step], features_of(rows[start : start + step], d))
    return bank
