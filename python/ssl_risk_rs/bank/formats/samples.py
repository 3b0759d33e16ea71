"""samples.parquet of an exported bank → identifiers and further columns of the arrays beside it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs.bank.formats.columns import further_columns
from ssl_risk_rs.bank.formats.rows import as_ids
from ssl_risk_rs.bank.formats.table import FeatureFile, FeatureTable
from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["with_samples"]

_OWN = ("row", "split", "sample_id", "label")


def with_samples(found: FeatureFile, samples: "pl.DataFrame", path: Path) -> FeatureFile:
    """The tables with what samples.parquet says of their rows: those of a split follow each other by `row`.

    Raises
    ------
    DataError if the two do not belong together, as far as number of rows, labels and identifiers tell.
    """
    lacking = [name for name in _OWN if name not in samples.columns]
    if lacking:
        raise DataError(f"{path} has no column {lacking[0]!r}; remove the file, or export the bank again")
    return replace(found, tables=tuple(_joined(table, samples, path) for table in found.tables))


def _joined(table: FeatureTable, samples: "pl.DataFrame", path: Path) -> FeatureTable:
    if isinstance(table.split, str):
        samples = samples.filter(samples["split"] == table.split)
    samples = samples.sort("row")
    if samples.height != len(table.x):
        raise DataError(
            f"{path} has {samples.height} rows for {table.x_name}, which has {len(table.x)}: it belongs to other "
            "arrays; remove it, or export the bank again"
        )
    labels, own = samples["label"].to_numpy(), np.asanyarray(table.y)
    if own.shape == labels.shape and own.dtype.kind in "iu" and (differ := own != labels).any():
        row = int(differ.argmax())
        raise DataError(
            f"{path} has label {labels[row]} where row {row} of {table.y_name} has {own[row]}: it belongs to other "
            "arrays; remove it, or export the bank again"
        )
    ids = as_ids(np.array(samples["sample_id"].to_list(), object), samples.height, f"{path}: column 'sample_id'")
    if table.ids is not None and table.ids != ids:
        raise DataError(f"{path} and the array of identifiers beside it differ; remove one of them")
    columns, _ = further_columns(samples, [name for name in samples.columns if name not in _OWN])
    return replace(table, ids=ids, columns={**columns, **table.columns})
