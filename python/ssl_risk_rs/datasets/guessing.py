"""What a path without a scheme probably is, by a look at what lies there: names only, no image and no row."""

import difflib
import os
import re
import shlex
import zipfile
import zlib
from collections.abc import Collection
from itertools import islice
from pathlib import Path

from ssl_risk_rs._tables import CSV_SUFFIXES, PARQUET_SUFFIXES

__all__ = ["benchmark_in", "suggestion"]

#: entries of a folder that are looked at
MOST_ENTRIES = 2000

_WORDNET_ID = re.compile(r"n\d{8}")
_SHARD = re.compile(r"(?P<stem>.*?)(?P<number>\d+)\.tar")
_FEATURES = "ssl-risk-rs decompose --features "
#: scheme → files and folders that it alone has
_BENCHMARKS = {
    "cifar10": {"batches.meta", "batches.meta.txt", "cifar-10-batches-py", "cifar-10-batches-bin"},
    "cifar100": {"fine_label_names.txt", "cifar-100-python", "cifar-100-binary"},
    "stl10": {"train_X.bin", "stl10_binary"},
    "svhn": {"train_32x32.mat"},
}


def suggestion(uri: str, schemes: Collection[str]) -> str:
    """A sentence that says what to write instead of a URI without a known scheme; "" where nothing can be said."""
    if not uri:
        return ""
    scheme, colon, rest = uri.partition(":")
    path = Path(uri).expanduser()
    if path.exists():
        return _meant(_in_folder(path) if path.is_dir() else _in_file(path))
    near = difflib.get_close_matches(scheme.lower(), schemes, n=1)
    if near and (colon or near[0] == "digits"):
        return _meant(f"{near[0]}:{rest}" if colon else near[0])
    if re.fullmatch(r"[\w.-]+/[\w.-]+", uri) and not uri.startswith("."):
        return f"There is no such file or folder here; for a data set of the Hugging Face hub write hf:{uri}."
    return f"There is no file or folder {path}." if not colon else ""


def _meant(line: str | None) -> str:
    if line is None:
        return ""
    command = _FEATURES if line.startswith(_FEATURES) else ""
    return f"Did you mean:  {command}{shlex.quote(line.removeprefix(command))}"  # braces and spaces are the shell's


def _in_file(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return f"npz:{path}" if _holds_images(path) else f"{_FEATURES}{path}"
    if suffix == ".tar":
        return f"wds:{path}"
    if suffix in CSV_SUFFIXES + PARQUET_SUFFIXES:
        from ssl_risk_rs.datasets.manifest import PATHS

        return f"manifest:{path}" if set(_columns(path)) & set(PATHS) else f"{_FEATURES}{path}"
    if suffix in (".npy", ".safetensors", ".pt"):
        return f"{_FEATURES}{path}"
    return None


def _holds_images(path: Path) -> bool:
    """Whether an array of an .npz file has three dimensions or more, by the headers in it."""
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    version = np.lib.format.read_magic(file)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
                        np.lib.format.read_array_header_2_0
                    )  # fmt: skip
                    if len(read(file)[0]) >= 3:
                        return True
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error):
        return True  # `npz:` says what is wrong with it
    return False


def _columns(path: Path) -> list[str]:
    """Names of a table's columns in lower case; none if it cannot be read."""
    import polars as pl

    try:
        if path.suffix.lower() in PARQUET_SUFFIXES:
            return [name.lower() for name in pl.read_parquet_schema(path)]
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return [name.strip().strip('"').lower() for name in re.split(r"[,;\t]", file.readline())]
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return []


def _entries(folder: Path) -> dict[str, bool]:
    """Names in a folder, and whether each is one itself."""
    with os.scandir(folder) as entries:
        return {entry.name: entry.is_dir() for entry in islice(entries, MOST_ENTRIES)}


def _in_folder(path: Path) -> str | None:
    names = _entries(path)
    if {"dataset_dict.json", "state.json"} & names.keys():
        return f"hf:{path}"
    if {"bank.json", "samples.parquet"} <= names.keys():
        return f"{_FEATURES}{path}"
    if benchmark := benchmark_in(path):
        return f"{benchmark}:{path}"
    shards = sorted((match["stem"], match["number"]) for name in names if (match := _SHARD.fullmatch(name)))
    if shards:
        return f"wds:{_patterns(path, shards)}"
    tables = sorted(name for name in names if name.lower().endswith(CSV_SUFFIXES + PARQUET_SUFFIXES))
    if len(tables) == 1 and "train" not in names and (guess := _in_file(path / tables[0])):
        return guess
    if names.get("train") and names.get("val") and _is_imagenet(path / "train"):
        return f"imagenet:{path}"
    return f"folder:{path}" if any(names.values()) else None


def benchmark_in(folder: Path) -> str | None:
    """Scheme of the published data set whose files lie in a folder."""
    names = _entries(folder)
    if any(name.startswith("train-images") and not is_folder for name, is_folder in names.items()):
        return "idx"
    if {"meta", "train", "test"} <= names.keys() and not names["meta"] and not names["train"]:
        return "cifar100"
    if (folder / "val" / "val_annotations.txt").is_file():
        return "tinyimagenet"
    return next((scheme for scheme, files in _BENCHMARKS.items() if files & names.keys()), None)


def _patterns(path: Path, shards: list[tuple[str, str]]) -> str:
    """Numbered shards as patterns, those of the training part first."""
    stems: dict[str, list[str]] = {}
    for stem, number in shards:
        stems.setdefault(stem, []).append(number)
    ordered = sorted(stems, key=lambda stem: (not stem.startswith("train"), stem))[:2]
    return ",".join(f"{path}/{stem}{{{stems[stem][0]}..{stems[stem][-1]}}}.tar" for stem in ordered)


def _is_imagenet(train: Path) -> bool:
    with os.scandir(train) as entries:
        return all(_WORDNET_ID.fullmatch(entry.name) for entry in islice(entries, 20))
