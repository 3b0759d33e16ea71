"""The authors' table of 169 encoders as one frame, with its known faults mended and listed.

The table itself (`all_results.csv`) and its hyper-parameters (`metadata.yaml`) are no part of this package; their
paths are given. Risks leave as fractions in [0, 1]; the file has percent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from ssl_risk_rs._corrections import OTHER_CHECKPOINT, RISK_AF, unclipped
from ssl_risk_rs._corrections import Correction as WrongCell
from ssl_risk_rs._corrections import corrections as wrong_cells
from ssl_risk_rs.errors import DataError

__all__ = ["EXCLUDED", "Correction", "corrections", "is_published", "load_published"]

#: column with the reason for which a row takes no part in a study; null for all others
EXCLUDED = "excluded"

#: columns of the file → columns of the frame; all other columns keep their names
_RISKS = {
    "approx": "approx",
    "usability": "usability",
    "probe_gen": "probe_gen",
    "enc_gen": "enc_gen",
    "train_test": "agg_risk",
    "train-nperclass-30_test": "agg_risk@30",
    "train-balsbst-ntrain0.01_test": "agg_risk@1%",
    "train-nperclass-5_test": "agg_risk@5",
    "train-nperclass-3_test": "agg_risk@3",
}

#: first cells of the two header rows
_GROUPS, _INDEX = "risk_decomposition", "enc"
_FLAGS = (
    "is_stopgrad",
    "is_ema",
    "projection_same",
    "is_aug_invariant",
    "is_official",
    "is_industry",
    "is_our_extract",
)


@dataclass(frozen=True, slots=True)
class Correction:
    """One cell of the authors' table that is not taken as it stands.

    Attributes
    ----------
    encoder, column : the cell, by the frame's names; for a row that is left out the column is `excluded`
    published : what the file has, as text
    corrected : what the frame has, as text
    reason : why
    kind : "value" (another value), "clipped" (a component that had been set to 0), "excluded" (the row is left out)
    """

    encoder: str
    column: str
    published: str
    corrected: str
    reason: str
    kind: Literal["value", "clipped", "excluded"]


def is_published(path: str | Path) -> bool:
    """Whether a file has the two header rows of the authors' table."""
    try:
        with open(path, encoding="utf-8") as file:
            first, second = file.readline(), file.readline()
    except (OSError, UnicodeDecodeError):
        return False
    return first.startswith(f",{_GROUPS},") and second.startswith(",approx,")


def load_published(
    csv_path: str | Path, yaml_path: str | Path | None = None, *, corrected: bool = True
) -> pl.DataFrame:
    """Read the authors' table as a frame with one row an encoder.

    Parameters
    ----------
    csv_path : the authors' `all_results.csv`
    yaml_path : their `metadata.yaml`; gives the encoders' names in their own spelling (the table has lower case) and
        is checked against the table. Without it names stay in lower case.
    corrected : False leaves every cell as published and excludes no row.

    Returns
    -------
    A frame with `encoder`, `source` ("published"), `excluded` (a reason, or null), the components `approx`,
    `usability`, `probe_gen`, `enc_gen`, `agg_risk`, the few-shot risks `agg_risk@30`, `@1%`, `@5`, `@3` (fractions),
    `risk_af` (R_AF, which all rows have), then hyper-parameters, metadata and statistics under the authors' names.
    `patch_size` is null for encoders that are no ViT unless `corrected` is False (the authors wrote 7 and 4 there).
    `corrections` lists what was changed.

    Raises
    ------
    DataError if a file cannot be read, is not that table, or the two do not belong together.
    """
    frame = _read(csv_path)
    if yaml_path is not None:
        frame = _spelled(frame, yaml_path)
    if corrected:
        found = list(_corrections(frame))
        frame = _apply(frame, found)
        frame = frame.with_columns(pl.when(pl.col("family") == "vit").then("patch_size").alias("patch_size"))
    return frame


def corrections(csv_path: str | Path, yaml_path: str | Path | None = None) -> tuple[Correction, ...]:
    """What `load_published` changes in these files, in the order of the table."""
    frame = _read(csv_path)
    if yaml_path is not None:
        frame = _spelled(frame, yaml_path)
    return tuple(_corrections(frame))


def _read(path: str | Path) -> pl.DataFrame:
    if not Path(path).is_file():
        raise DataError(f"{path} is no file; name the authors' all_results.csv")
    if not is_published(path):
        raise DataError(f"{path} lacks the two header rows of the authors' all_results.csv; name that file")
    with open(path, encoding="utf-8") as file:
        file.readline()
        names = file.readline().rstrip("\n").split(",")
    names[0] = "key"
    frame = pl.read_csv(
        path,
        has_header=False,
        skip_rows=3,
        new_columns=names,
        infer_schema_length=None,
        null_values=["", "???"],
        glob=False,
    )
    if missing := [name for name in (*_RISKS, "objective", "family", "patch_size", "z_dim") if name not in names]:
        raise DataError(f"{path} lacks the columns {', '.join(missing)} of the authors' all_results.csv")
    flags = [
        pl.col(name).cast(pl.String).str.to_lowercase().replace_strict({"true": True, "false": False}, default=None)
        for name in (*_FLAGS, *(n for n in names if n.startswith("is_aug_") and n not in _FLAGS and _is_text(frame, n)))
        if name in names
    ]
    percent = [(pl.col(name).cast(pl.Float64) / 100).alias(new) for name, new in _RISKS.items()]
    rest = [name for name in names if name not in _RISKS and name != "key"]
    # R_AF was never set to 0, but where two components were it is not their rest
    rest_of = pl.col("train_test") - pl.col("probe_gen") - pl.col("enc_gen")
    risk_af = pl.col("key").replace_strict(RISK_AF, default=rest_of, return_dtype=pl.Float64) / 100
    return frame.with_columns(flags).select(
        pl.col("key").alias("encoder"),
        pl.lit("published").alias("source"),
        pl.lit(None, dtype=pl.String).alias(EXCLUDED),
        *percent,
        risk_af.alias("risk_af"),
        *rest,
    )


def _is_text(frame: pl.DataFrame, name: str) -> bool:
    return frame.schema[name] == pl.String


def _spelled(frame: pl.DataFrame, path: str | Path) -> pl.DataFrame:
    """The frame with encoders' names as in the metadata."""
    from ssl_risk_rs.study._extra import require

    yaml = require("yaml")
    try:
        with open(path, encoding="utf-8") as file:
            loaded = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name the authors' metadata.yaml") from error
    except yaml.YAMLError as error:
        raise DataError(f"{path} is no YAML file; name the authors' metadata.yaml") from error
    if not isinstance(loaded, dict):
        raise DataError(f"{path} holds no table of encoders; name the authors' metadata.yaml")
    spelling = {str(name).lower(): str(name) for name in loaded}
    if missing := [name for name in frame["encoder"] if name not in spelling]:
        raise DataError(
            f"{path} lacks {len(missing)} of the {frame.height} encoders of the table (for example {missing[0]}); "
            "the two files belong to different versions"
        )
    return frame.with_columns(pl.col("encoder").replace_strict(spelling))


def _corrections(frame: pl.DataFrame) -> Iterator[Correction]:
    wrong: dict[str, list[WrongCell]] = {}
    for each in wrong_cells():
        wrong.setdefault(each.encoder.lower(), []).append(each)
    for row in frame.iter_rows(named=True):
        name: str = row["encoder"]
        key = name.lower()
        if reason := OTHER_CHECKPOINT.get(key):
            yield Correction(name, EXCLUDED, "", reason, reason, "excluded")
        for known in wrong.get(key, ()):
            if known.column in row and str(row[known.column]) != known.corrected:
                yield Correction(name, known.column, str(row[known.column]), known.corrected, known.reason, "value")
        yield from _clipped(name, row)


def _clipped(name: str, row: dict[str, float | None]) -> Iterator[Correction]:
    """Components that were negative and stand as 0: the aggregated risk tells what they were."""
    names = ("approx", "usability", "probe_gen", "enc_gen")
    parts = {part: 100 * value for part in names if (value := row[part]) is not None}
    total = row["agg_risk"]
    if len(parts) < len(names) or total is None:
        return
    reason = "it had been set to 0; with this value the components sum to the aggregated risk"
    for part, percent in (unclipped(name, parts, 100 * total) or {}).items():
        yield Correction(name, part, "0.0", repr(percent / 100), reason, "clipped")


def _apply(frame: pl.DataFrame, found: list[Correction]) -> pl.DataFrame:
    for each in found:
        dtype = frame.schema[each.column]
        value = pl.lit(each.corrected).cast(dtype)
        frame = frame.with_columns(
            pl.when(pl.col("encoder") == each.encoder).then(value).otherwise(pl.col(each.column)).alias(each.column)
        )
    return frame
