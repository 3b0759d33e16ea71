"""URI → images and labels.

`create_dataset("folder:/path")` gives an `ImageDataset`: a table of samples and a way to decode one. Making
one looks at file names and headers only; images are read by `ImageDataset.load`. To add a scheme, write a
`Source` (sources.py says what that takes) and list it in registry.py.
"""

from ssl_risk_rs.datasets.dataset import ImageDataset
from ssl_risk_rs.datasets.limits import Limit
from ssl_risk_rs.datasets.overlap import Overlap, find_duplicates, find_overlap
from ssl_risk_rs.datasets.registry import DatasetScheme, create_dataset, list_datasets

__all__ = [
    "DatasetScheme",
    "ImageDataset",
    "Limit",
    "Overlap",
    "create_dataset",
    "find_duplicates",
    "find_overlap",
    "list_datasets",
]
