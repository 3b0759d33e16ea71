"""Scheme of a URI → source of images."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from ssl_risk_rs.datasets.dataset import ImageDataset
from ssl_risk_rs.datasets.guessing import suggestion
from ssl_risk_rs.datasets.idx import DEBIAN_FASHION_MNIST
from ssl_risk_rs.datasets.limits import Limit
from ssl_risk_rs.datasets.sources import Source
from ssl_risk_rs.datasets.split_file import SplitFile
from ssl_risk_rs.errors import DataError, ParameterError

__all__ = ["DatasetScheme", "create_dataset", "list_datasets"]


@dataclass(frozen=True, slots=True)
class DatasetScheme:
    """One way to name images: `scheme:path`."""

    scheme: str
    layout: str
    example: str
    source: str  # module:class

    def create(self, location: str) -> Source:
        module, _, name = self.source.partition(":")
        make: Callable[[str], Source] = getattr(import_module(module), name)
        return make(location)


_HERE = "ssl_risk_rs.datasets"
_SCHEMES = (
    DatasetScheme(
        "digits",
        "bundled: 1,797 digits of 8 × 8 pixels (UCI; E. Alpaydin, C. Kaynak), every fifth of a class is test",
        "digits",
        f"{_HERE}.digits:DigitsSource",
    ),
    DatasetScheme(
        "folder",
        "train/CLASS/*.jpg and test/CLASS/*.jpg (or val/), or CLASS/*.jpg; ?classes=nested, ?group=parent, ?group=1",
        "folder:/data/flowers",
        f"{_HERE}.folder:FolderSource",
    ),
    DatasetScheme(
        "imagenet",
        "train/nXXXXXXXX/*.JPEG and val/nXXXXXXXX/*.JPEG, as torchvision lays them out",
        "imagenet:/data/imagenet",
        f"{_HERE}.folder:ImageNetSource",
    ),
    DatasetScheme(
        "manifest",
        "a csv, tsv or parquet file with columns path and label, perhaps split, sample_id, group and others",
        "manifest:/data/rows.csv",
        f"{_HERE}.manifest:ManifestSource",
    ),
    DatasetScheme(
        "hf",
        "a data set of the Hugging Face hub, or a folder of its save_to_disk; ?image=…&label=…&train=…&test=…",
        "hf:ORG/NAME:CONFIG@REVISION",
        f"{_HERE}.hf:HfSource",
    ),
    DatasetScheme(
        "wds",
        "tar shards with KEY.jpg and KEY.cls (or .json, .txt) for each sample: TRAIN[,TEST], patterns with braces",
        "wds:/data/train-{000..099}.tar,/data/val-{00..09}.tar",
        f"{_HERE}.wds:WdsSource",
    ),
    DatasetScheme(
        "idx",
        "the MNIST family's four idx files, .gz or not",
        f"idx:{DEBIAN_FASHION_MNIST}",
        f"{_HERE}.idx:IdxSource",
    ),
    DatasetScheme(
        "cifar10",
        "CIFAR-10's batches for Python, or its records of bytes (.bin)",
        "cifar10:/data/cifar-10-batches-py",
        f"{_HERE}.cifar:Cifar10Source",
    ),
    DatasetScheme(
        "cifar100",
        "CIFAR-100's files for Python, or its records of bytes (.bin); a column superclass",
        "cifar100:/data/cifar-100-python",
        f"{_HERE}.cifar:Cifar100Source",
    ),
    DatasetScheme(
        "stl10",
        "STL-10's train_X.bin, train_y.bin, test_X.bin, test_y.bin",
        "stl10:/data/stl10_binary",
        f"{_HERE}.stl10:Stl10Source",
    ),
    DatasetScheme(
        "svhn",
        "SVHN's train_32x32.mat and test_32x32.mat",
        "svhn:/data/svhn",
        f"{_HERE}.svhn:SvhnSource",
    ),
    DatasetScheme(
        "tinyimagenet",
        "Tiny ImageNet's train/nXXXXXXXX/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt",
        "tinyimagenet:/data/tiny-imagenet-200",
        f"{_HERE}.tiny_imagenet:TinyImageNetSource",
    ),
    DatasetScheme(
        "npz",
        "x_train, y_train, x_test, y_test: uint8 images n × h × w [× c]; groups_train, groups_test",
        "npz:/data/images.npz",
        f"{_HERE}.npz:NpzSource",
    ),
)


def list_datasets() -> list[DatasetScheme]:
    """The schemes that `create_dataset` knows, the bundled one first."""
    return list(_SCHEMES)


def create_dataset(
    uri: "str | os.PathLike[str]",
    *,
    limit: "str | int | Limit | None" = None,
    group: str | None = None,
    split: "str | os.PathLike[str] | None" = None,
    exif_orientation: bool = False,
) -> ImageDataset:
    """Images and labels that a URI names. No image is decoded.

    Parameters
    ----------
    uri : `scheme:path`; `list_datasets()` has the schemes. `digits` is bundled.
    limit : at most N images of each split (`N`) or of each class of each split (`"N/class"`), drawn by sample id:
        the same images in every run.
    group : column of `samples` that holds groups (patients, scenes); a limit, and a test part that is set aside where
        the data tell of none, then keep whole groups
    split : file that tells which images are training and which are test images: csv, tsv or parquet with columns
        sample_id (or path) and split, or .txt with the test images' ids; instead of the data's own parts
    exif_orientation : turn images as their EXIF orientation asks; the default leaves them as stored, like torchvision

    Raises
    ------
    DataError if the scheme is unknown, or the files are missing, empty or laid out differently.
    ParameterError if the limit cannot be read, or the data are not named by text.
    """
    if not isinstance(uri, (str, os.PathLike)):
        raise ParameterError(
            f"data are named by text, as folder:imgs or npz:FILE, not by {type(uri).__name__}: extract takes data sets "
            "and decompose takes arrays of features"
        )
    uri = os.fspath(uri)
    scheme, _, location = uri.partition(":")
    known = {entry.scheme: entry for entry in _SCHEMES}
    if scheme not in known:
        examples = ", ".join(entry.example for entry in _SCHEMES)
        raise DataError(f"data {uri!r} has no known scheme; write one of {examples}. {suggestion(uri, known)}".rstrip())
    dataset = ImageDataset(
        known[scheme].create(location),
        split_file=None if split is None else SplitFile.read(split),
        limit=None if limit is None else Limit.parse(limit),
        group=group,
        exif_orientation=exif_orientation,
    )
    if group is not None or split is not None:
        len(dataset)  # a column or an image that is not there is told now
    return dataset
