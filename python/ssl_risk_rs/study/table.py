"""The table of a study: encoders in rows, their risks and design choices in columns, read from any results frame."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ssl_risk_rs._tables import CSV_SUFFIXES, PARQUET_SUFFIXES, read_csv, read_parquet, unreadable
from ssl_risk_rs.errors import DataError, ParameterError
from ssl_risk_rs.study.choices import AUGMENTATIONS, CHOICES, CONFOUNDERS, Choice, choice_of
from ssl_risk_rs.study.published import EXCLUDED, Correction, corrections, is_published, load_published

__all__ = ["COMPONENTS", "StudyTable", "read_table", "study_table"]

#: components of a decomposition and their sum, in the order they are printed
COMPONENTS = ("approx", "usability", "probe_gen", "enc_gen", "agg_risk")
#: how far a total may be from the sum of its components, each of which was rounded to a tenth of a point
ROUNDING_OF_SUMS = 0.003
_FEW_SHOT = re.compile(r"agg_risk@\d+(\.\d+)?%?")
#: columns that identify a row or say where it is from
_IDENTITY = (
    "encoder",
    "source",
    "data_uri",
    "approx_usability",
    "target",
    "metric",
    "protocol",
    "split_seed",
    EXCLUDED,
)
#: columns in which rows of one encoder may differ
_VARIANTS = ("layer", "target", "metric", "protocol", "split_seed", "run")


@dataclass(frozen=True, slots=True)
class StudyTable:
    """Encoders in rows.

    Attributes
    ----------
    frame : columns `encoder`, `source`, components as fractions, design choices; rows left out are not in it
    components : those it has, few-shot risks last
    choices : the design choices to examine
    cluster : column whose values are groups of rows that are not independent; "" if there is none
    corrections : cells of the published table that were changed
    left_out : rows that take no part, as (encoder, reason)
    unknown : columns that are no known design choice and are not examined
    unequal_sums : encoders whose total differs from the sum of their components by more than rounding, and by how much
    """

    frame: pl.DataFrame
    components: tuple[str, ...]
    choices: tuple[Choice, ...]
    cluster: str
    corrections: tuple[Correction, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()
    unequal_sums: tuple[tuple[str, float], ...] = ()

    @property
    def is_published(self) -> bool:
        """Whether every row is of the authors' table."""
        return bool((self.frame["source"] == "published").all())


def study_table(
    frame: pl.DataFrame,
    *,
    choices: Sequence[Choice] = (),
    only: Sequence[str] = (),
    components: Sequence[str] = (),
    cluster: str | None = None,
    found: Iterable[Correction] = (),
) -> StudyTable:
    """Say what the columns of a results frame are.

    Parameters
    ----------
    frame : one row an encoder: components as fractions (`approx`, `usability`, `probe_gen`, `enc_gen`, `agg_risk`,
        `agg_risk@30` …) and design choices. `encoder` and `source` are made where they are missing.
    choices : columns to examine besides those whose names are known
    only : names of the choices to examine, of all that there are
    components : names of the risks to study, of all that there are
    cluster : column of groups that are not independent; by default `objective` where there is one

    Raises
    ------
    DataError if no component or no design choice is there, or risks are no fractions; ParameterError if a named
    column is missing.
    """
    present = [c for c in COMPONENTS if c in frame.columns]
    twins = "usability" in present and not frame["usability"].null_count()
    if "approx_usability" in frame.columns and (not twins or "approx_usability" in components):
        present.insert(0, "approx_usability")  # of encoders without a supervised twin
    present += sorted((c for c in frame.columns if _FEW_SHOT.fullmatch(c)), key=_shots)
    for name in components:
        if name not in present:
            raise ParameterError(f"{name!r} is no risk of the table; it has {_listing(present) or 'none'}")
    studied = tuple(c for c in present if not components or c in components)
    if not present:
        raise DataError(
            f"the table has no column of risks; a study needs one or more of {', '.join(COMPONENTS)} or agg_risk@SHOTS"
        )
    if not frame.height:
        raise DataError("the table has no rows: a study needs encoders, one in each")
    frame = _fractions(frame, [*present, *(("risk_af",) if "risk_af" in frame.columns else ())])
    named = {choice.name: choice for choice in choices}
    for name in (*named, *only, *((cluster,) if cluster else ())):
        if name not in frame.columns:
            raise ParameterError(f"the table has no column {name!r}; it has {_listing(frame.columns)}")
    known = {n: c for n, c in {**CHOICES, **AUGMENTATIONS}.items() if n in frame.columns}
    every = {**known, **named}
    if only:
        for name in only:
            if name not in every and choice_of(name) is None:
                raise ParameterError(f"{name!r} is no known design choice; add it with --choice {name}:KIND")
        every = {name: every.get(name) or _known(name) for name in only}
    if not every:
        raise DataError(
            f"the table has no column of a known design choice; name some with --choice NAME:KIND. It has "
            f"{_listing(frame.columns)}"
        )
    held = {name: c for name in (*CONFOUNDERS, "objective") if name in frame.columns and (c := choice_of(name))}
    frame = _checked(frame, {**held, **every}.values())
    if "encoder" not in frame.columns:
        frame = frame.with_columns(pl.Series("encoder", [f"row {i + 1}" for i in range(frame.height)]))
    if "source" not in frame.columns:
        frame = frame.with_columns(source=pl.lit("table"))
    # two sources may name an encoder alike, as one's own runs of a published one: they are two rows
    both = pl.format("{} ({})", pl.col("encoder").cast(pl.String), pl.col("source"))
    frame = frame.with_columns(
        pl.when(pl.col("encoder").is_duplicated())
        .then(both)
        .otherwise(pl.col("encoder").cast(pl.String))
        .alias("encoder")
    )
    left_out: list[tuple[str, str]] = []
    if EXCLUDED in frame.columns:
        gone = frame.filter(pl.col(EXCLUDED).is_not_null())
        left_out += list(zip(gone["encoder"].to_list(), gone[EXCLUDED].to_list(), strict=True))
        frame = frame.filter(pl.col(EXCLUDED).is_null()).drop(EXCLUDED)
    if cluster is None:
        cluster = "objective" if "objective" in frame.columns else ""
    unknown = tuple(
        name
        for name in frame.columns
        if name not in every and name not in present and name not in _IDENTITY and choice_of(name) is None
    )
    return StudyTable(
        frame, studied, tuple(every.values()), cluster, tuple(found), tuple(left_out), unknown, _unequal_sums(frame)
    )


def read_table(
    paths: Sequence[str | Path],
    *,
    metadata: str | Path | None = None,
    percent: bool = False,
    as_published: bool = False,
    data: str | None = None,
    probe: str | None = None,
) -> tuple[pl.DataFrame, tuple[Correction, ...]]:
    """Read results and join them: csv, parquet or json files, or the authors' `all_results.csv`.

    Parameters
    ----------
    paths : one or more files; `source` says which file a row is from, "published" for the authors' table. A tidy
        table (columns `quantity` and `estimate`) becomes one row an encoder, data set, probe and protocol.
    metadata : the authors' `metadata.yaml`; by default the file of that name beside their table, if it is there
    percent : risks of the files that are not the authors' are percent
    as_published : the authors' table is not corrected
    data : rows of other data sets are left out, where a column `data` says which a row is of
    probe : rows of other probes are left out, where a column `probe` says which a row is of

    Returns
    -------
    The frame, and the corrections of the authors' table.

    Raises
    ------
    DataError if a file cannot be read, if the rows are of several data sets or probes and none is chosen, or if a
    source names an encoder twice.
    """
    frames: list[pl.DataFrame] = []
    found: tuple[Correction, ...] = ()
    for path in map(Path, paths):
        if path.is_file() and is_published(path):
            beside = Path(metadata) if metadata else path.with_name("metadata.yaml")
            yaml = beside if metadata or beside.is_file() else None
            frames.append(load_published(path, yaml, corrected=not as_published))
            if not as_published:
                found = corrections(path, yaml)
        else:
            frames.append(_other(path, percent))
    frame = frames[0] if len(frames) == 1 else _joined(frames)
    frame = _of_one(_of_one(frame, "data", "data set", data), "probe", "probe", probe)
    _refuse_unlike(frame)
    _refuse_encoders_twice(frame)
    return frame, found


def _of_one(frame: pl.DataFrame, column: str, noun: str, chosen: str | None) -> pl.DataFrame:
    """The rows of one data set or probe: errors on different data, or of different probes, are no runs of one design,
    and both probes of one encoder are no two encoders."""
    if column not in frame.columns:
        if chosen is not None:
            raise DataError(f"no row is of the {noun} {chosen!r}; there are no names")
        return frame
    uri = f"{column}_uri"  # tells two apart that tables call the same
    exact = pl.col(uri) if uri in frame.columns else pl.col(column)
    if chosen is not None:
        named = (pl.col(column) == chosen) | (exact == chosen)
        if frame.filter(named).is_empty():
            raise DataError(f"no row is of the {noun} {chosen!r}; there are {', '.join(_distinct(frame, column))}")
        frame = frame.filter(pl.col(column).is_null() | named)
    names = _distinct(frame, column)
    if len(names) == 1 and uri in frame.columns and len(uris := _distinct(frame, uri)) > 1:
        names = uris
    if len(names) > 1:
        raise DataError(f"the rows are of {len(names)} {noun}s ({', '.join(names)}); choose one (--{column})")
    return frame


def _distinct(frame: pl.DataFrame, column: str) -> list[str]:
    return [str(name) for name in frame[column].drop_nulls().unique(maintain_order=True)]


def _refuse_unlike(frame: pl.DataFrame) -> None:
    """Refuse errors of several targets, or in several units: those of one say nothing of the other."""
    for column, of_labels in (("target", "the labels"), ("metric", "error")):
        if column in frame.columns:
            names = frame[column].cast(pl.String).fill_null(of_labels).unique(maintain_order=True).to_list()
            if len(names) > 1:
                raise DataError(f"the rows are of {len(names)} {column}s ({', '.join(names)}); keep the rows of one")


def _refuse_encoders_twice(frame: pl.DataFrame) -> None:
    """Refuse rows that would count one encoder twice."""
    if "encoder" not in frame.columns:
        return
    named = frame.filter(pl.col("encoder").is_not_null())
    twice = named.filter(named.select("encoder", "source").is_duplicated())
    if not twice.height:
        return
    first = twice.row(0, named=True)
    rows = twice.filter(pl.col("encoder") == first["encoder"], pl.col("source") == first["source"])
    differing = [name for name in _VARIANTS if name in rows.columns and rows[name].n_unique() > 1]
    beside = f", which differ in {' and '.join(differing)}" if differing else ""
    raise DataError(
        f"{twice.height} rows name an encoder that another row of the same source names too (for example "
        f"{first['encoder']!r}{beside}), so that it would count more than once; keep one row of each, or give each a "
        "name of its own (a file that is named twice counts twice, too)"
    )


def _other(path: Path, percent: bool) -> pl.DataFrame:
    suffix = path.suffix.lower()
    if suffix in CSV_SUFFIXES:
        frame = read_csv(path, lambda names: [name for name in names if name in ("encoder", "source")])
    elif suffix in PARQUET_SUFFIXES:
        frame = read_parquet(path)
    elif suffix == ".json":
        frame = _read_json(path)
    else:
        raise DataError(f"{path} is no table that is read here; name a .csv, .tsv, .parquet or .json file")
    if {"quantity", "estimate"} <= set(frame.columns):
        frame = _wide(frame, path)
    if percent:
        risks = [
            c
            for c in frame.columns
            if c in COMPONENTS or c in ("risk_af", "approx_usability") or _FEW_SHOT.fullmatch(c)
        ]
        for name in risks:
            if not (frame.schema[name].is_numeric() or frame.schema[name] == pl.Null):
                raise DataError(f"{path}: the column {name!r} holds {frame.schema[name]}; percent are numbers")
        frame = frame.with_columns(pl.col(c).cast(pl.Float64) / 100 for c in risks)
    return frame if "source" in frame.columns else frame.with_columns(source=pl.lit(path.stem))


def _read_json(path: Path) -> pl.DataFrame:
    try:
        return pl.read_json(path)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise unreadable(path, error) from None


def _wide(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """A tidy table of results as one row an encoder; columns that differ between its rows are left out."""
    if "group" in frame.columns:
        frame = frame.filter(pl.col("group") == "all")
    if "metric" in frame.columns:
        frame = frame.filter(pl.col("metric") == "error").drop("metric")
    keys = [k for k in ("run", "encoder", "data", "probe", "protocol") if k in frame.columns]
    if not keys:
        raise DataError(f"{path} has a column quantity but none that says which encoder a row is of (encoder, run)")
    shots = pl.col("shots").cast(pl.String) if "shots" in frame.columns else pl.lit(None, dtype=pl.String)
    names = pl.when(shots.is_null()).then(pl.col("quantity")).otherwise(pl.col("quantity") + "@" + shots)
    frame = frame.with_columns(names.alias("quantity"))
    if frame.select(*keys, "quantity").is_duplicated().any():
        raise DataError(f"{path} names a quantity twice for the same {', '.join(keys)}; keep one row of each")
    rest = [c for c in frame.columns if c not in keys and c not in ("quantity", "estimate")]
    same = [
        c for c in rest if frame.group_by(keys).agg(pl.col(c).n_unique().alias("n"))["n"].max() == 1 and c != "unit"
    ]
    wide = frame.pivot("quantity", index=keys, values="estimate", aggregate_function="first")
    return wide.join(frame.group_by(keys).agg(pl.col(c).first() for c in same), on=keys) if same else wide


def _joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """All rows, with the columns of all; a number and a text under one name become text."""
    types: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for name, dtype in frame.schema.items():
            if dtype != pl.Null:
                types.setdefault(name, set()).add(dtype)
    common: dict[str, pl.DataType | type[pl.DataType]] = {}
    for name, kinds in types.items():
        if len(kinds) == 1:
            common[name] = next(iter(kinds))
        elif all(kind.is_numeric() or kind == pl.Boolean for kind in kinds):
            common[name] = pl.Float64
        else:
            common[name] = pl.String
    return pl.concat([f.cast({n: t for n, t in common.items() if n in f.columns}) for f in frames], how="diagonal")


def _unequal_sums(frame: pl.DataFrame) -> tuple[tuple[str, float], ...]:
    if not set(COMPONENTS) <= set(frame.columns):
        return ()
    *parts, total = COMPONENTS
    off = frame.select("encoder", off=pl.col(total) - pl.sum_horizontal(parts, ignore_nulls=False))
    return tuple(off.filter(pl.col("off").abs() > ROUNDING_OF_SUMS).iter_rows())


def _comma(column: pl.Series) -> str:
    """What is said of numbers that are text for their decimal commas."""
    text = column.drop_nulls().cast(pl.String)
    commas = text.filter(text.str.contains(r"^\s*[-+]?[0-9]+,[0-9]+\s*$"))
    return f", written with a decimal point: {commas[0]!r} has a comma" if len(commas) else ""


def _fractions(frame: pl.DataFrame, components: Sequence[str]) -> pl.DataFrame:
    for name in components:
        if not (frame.schema[name].is_numeric() or frame.schema[name] == pl.Null):
            raise DataError(f"the column {name!r} holds {frame.schema[name]}; a risk is a number{_comma(frame[name])}")
    frame = frame.with_columns(pl.col(c).cast(pl.Float64).fill_nan(None) for c in components)
    for name in components:
        if (largest := frame[name].abs().max()) is not None and float(str(largest)) > 1:
            raise DataError(
                f"the column {name!r} has values up to {float(str(largest)):g}; a risk is a fraction in [0, 1] "
                "(--percent converts percent)"
            )
        if frame[name].is_infinite().any():
            raise DataError(f"the column {name!r} has infinite values; a risk is a fraction in [0, 1]")
    return frame


def _checked(frame: pl.DataFrame, choices: Iterable[Choice]) -> pl.DataFrame:
    for choice in choices:
        dtype = frame.schema[choice.name]
        if dtype.is_nested():
            raise DataError(f"the column {choice.name!r} holds {dtype}; a design choice is one value a row")
        if choice.kind != "category" and frame[choice.name].null_count() == frame.height:
            frame = frame.with_columns(pl.col(choice.name).cast(pl.Float64))  # a csv has no type for what is empty
            continue
        if choice.kind != "category" and not (dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)):
            raise DataError(
                f"the column {choice.name!r} holds {dtype}, and is examined as a {choice.kind}; "
                f"say --choice {choice.name}:category, give numbers, or remove the column"
            )
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    return frame.with_columns(pl.col(name).fill_nan(None) for name in floats)


def _known(name: str) -> Choice:
    choice = choice_of(name)
    assert choice is not None  # checked before
    return choice


def _shots(name: str) -> tuple[bool, float]:
    shots = name.partition("@")[2]
    return shots.endswith("%"), float(shots.rstrip("%"))


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
