"""The authors' table of 169 encoders as one frame, with its known faults mended and listed.

The table itself (`all_results.csv`) and its hyper-parameters (`metadata.yaml`) are no part of this package; their
paths are given. Risks leave as fractions in [0, 1]; the file has percent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

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

#: sum of the four published components minus the aggregated risk below which nothing was clipped, in percent: sums of
#: doubles near 30 differ by some 1e-14, the smallest clipped amount is 0.09
_CLIPPED = 1e-9


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


@dataclass(frozen=True, slots=True)
class _Known:
    """A correction that is known in advance: lower-case names begin with `prefix`."""

    prefix: str
    column: str
    value: int
    reason: str


#: parameters of the CLIP ResNets without the projection that their features do not use
_CLIP_PARAMETERS = {
    "clip_rn50": 36_218_720,
    "clip_rn101": 55_210_848,
    "clip_rn50x4": 85_498_040,
    "clip_rn50x16": 164_968_848,
    "clip_rn50x64": 416_185_024,
}

_NAMED_EPOCHS = "the name of the checkpoint, and its source, say so"
_KNOWN = (
    _Known("dissl_resnet50_d8192_e800_m8", "epochs", 800, _NAMED_EPOCHS),
    _Known("msn_vitl16_ep600", "epochs", 600, _NAMED_EPOCHS),
    _Known("mugs_vitl16_ep250", "epochs", 250, _NAMED_EPOCHS),
    _Known("clip_rn50x4", "z_dim", 2560, "the evaluated features have 2560 columns; 640 is the removed projection"),
    _Known("ibot_vits16_extracts", "n_parameters", 21_665_664, "it is a ViT-S, as the rows beside it"),
    _Known("dissl_resnet50_dnone_e400_m2", "n_parameters", 23_508_032, "it is a plain ResNet-50"),
    _Known("speccl_resnet50_bs384_ep100", "n_parameters", 23_508_032, "it is a plain ResNet-50"),
    _Known("vicregl_convnexts", "n_parameters", 49_454_688, "the file has a rounded number"),
    _Known("vicregl_convnextb", "n_parameters", 87_566_464, "the file has a rounded number"),
    _Known("vicregl_convnextxl", "n_parameters", 348_147_968, "the file has a rounded number"),
)

#: rows whose design choices are those of another encoder
_EXCLUDED = {
    "deepcluster_rn50_bs512_ep200_mmselfsup": "its address serves a SimCLR checkpoint (batch 4096, 200 epochs): the "
    "risks are SimCLR's, the design choices DeepCluster's",
}

#: components that were both set to 0, so that the aggregated risk alone does not tell them apart, in percent: the
#: authors' unclipped risks
_TWICE_CLIPPED = {"dissl_resnet50_d4096_e100_m2": {"usability": -0.354443, "enc_gen": -0.147998}}
_ENC_GEN = {name: parts["enc_gen"] for name, parts in _TWICE_CLIPPED.items()}


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
        path, has_header=False, skip_rows=3, new_columns=names, infer_schema_length=None, null_values=["", "???"]
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
    enc_gen = pl.col("key").replace_strict(_ENC_GEN, default=pl.col("enc_gen"), return_dtype=pl.Float64)
    risk_af = (pl.col("train_test") - pl.col("probe_gen") - enc_gen) / 100  # R_AF was never clipped
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
    for row in frame.iter_rows(named=True):
        name: str = row["encoder"]
        key = name.lower()
        if key in _EXCLUDED:
            yield Correction(name, EXCLUDED, "", _EXCLUDED[key], _EXCLUDED[key], "excluded")
        for known in _KNOWN:
            if key.startswith(known.prefix) and row[known.column] != known.value:
                old = str(row[known.column])
                yield Correction(name, known.column, old, str(known.value), known.reason, "value")
        if key in _CLIP_PARAMETERS:
            old, new = str(row["n_parameters"]), str(_CLIP_PARAMETERS[key])
            yield Correction(name, "n_parameters", old, new, "the removed projection was counted", "value")
        yield from _clipped(name, row)


def _clipped(name: str, row: dict[str, float | None]) -> Iterator[Correction]:
    """Components that were negative and stand as 0: the aggregated risk tells what they were."""
    parts = {part: row[part] for part in ("approx", "usability", "probe_gen", "enc_gen")}
    values = [value for value in parts.values() if value is not None]
    total = row["agg_risk"]
    if len(values) < len(parts) or total is None or sum(values) - total <= _CLIPPED / 100:
        return
    reason = "it had been set to 0; with this value the components sum to the aggregated risk"
    zero = [part for part in ("usability", "probe_gen", "enc_gen") if parts[part] == 0]  # approximation is an error
    known = _TWICE_CLIPPED.get(name.lower())
    if len(zero) == 1:
        known = {zero[0]: 100 * (total - sum(values))}
    for part, value in (known or {}).items():
        yield Correction(name, part, "0.0", repr(value / 100), reason, "clipped")


def _apply(frame: pl.DataFrame, found: list[Correction]) -> pl.DataFrame:
    for each in found:
        dtype = frame.schema[each.column]
        value = pl.lit(each.corrected).cast(dtype)
        frame = frame.with_columns(
            pl.when(pl.col("encoder") == each.encoder).then(value).otherwise(pl.col(each.column)).alias(each.column)
        )
    return frame
