"""Many run folders as one frame, and frames for other libraries."""

import glob
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ssl_risk_rs import _extras
from ssl_risk_rs._limits import check_choice
from ssl_risk_rs.errors import ParameterError, ResultError
from ssl_risk_rs.results.digests import refuse_changed
from ssl_risk_rs.results.frames import result_types
from ssl_risk_rs.results.run import SCHEMA_VERSION, Run
from ssl_risk_rs.results.written import read_rows, recorded_rows, typed

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["HasFrame", "frame_of", "read_results", "run_folders", "to_pandas"]


class HasFrame(Protocol):
    """A run, a decomposition in a run, a comparison."""

    def frame(self) -> "pl.DataFrame": ...


def read_results(
    runs: "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]", *, damaged: Literal["refuse", "warn"] = "refuse"
) -> "pl.DataFrame":
    """Every quantity of many runs as one frame, with a row for each.

    Parameters
    ----------
    runs : run folders, folders with run folders below them, patterns (`"runs/**"`, `"runs/2026*"`), or several of
        these. A folder counts as a run if it holds `run.json`; hidden folders are left out
    damaged : "refuse" (default) or "warn": runs that cannot be read are named in an error, or in a warning and left
        out

    Returns
    -------
    frame with the columns of `RESULT_COLUMNS` and their types, in the order of the paths; runs of older schema
    versions are in it with what they recorded

    Raises
    ------
    ResultError if there is no run, or one cannot be read.

    Examples
    --------
    >>> folder = Run.of(decompose(X, y, X_test, y_test, probe="ridge", name="mine")).save(path / "runs" / "a")
    >>> frame = read_results(f"{path}/runs/**")
    >>> frame.filter(quantity="agg_risk").select("encoder", "probe", "n").row(0)[:2]
    ('mine', 'ridge')
    """
    import polars as pl

    check_choice("damaged", damaged, ("refuse", "warn"))
    if not isinstance(runs, (str, os.PathLike, Iterable)):
        raise ParameterError(f"runs are run folders, or patterns of them, not {type(runs).__name__}")
    folders = run_folders([runs] if isinstance(runs, (str, os.PathLike)) else list(runs))
    frames, problems = [], []
    for folder in folders:
        try:
            frames.append(_read(folder))
        except ResultError as error:
            problems.append(str(error))
    if problems:
        said = f"{len(problems)} of {len(folders)} runs cannot be read: {'; '.join(problems)}"
        if damaged == "refuse":
            raise ResultError(f'{said}. damaged="warn" leaves them out')
        warnings.warn(f"{said}. They are left out", stacklevel=2)
    empty = pl.DataFrame(schema=result_types())
    return pl.concat([empty, *frames])


def frame_of(results: "pl.DataFrame | HasFrame | Sequence[HasFrame]") -> "pl.DataFrame":
    """A frame as it is; that of a run or comparison; those of several, one below the other."""
    import polars as pl

    if isinstance(results, pl.DataFrame):
        return results
    if isinstance(results, Sequence):
        return pl.concat([result.frame() for result in results], how="diagonal_relaxed")
    return results.frame()


def to_pandas(results: "pl.DataFrame | HasFrame | Sequence[HasFrame]") -> "pd.DataFrame":
    """A frame, run or comparison for pandas, without pyarrow.

    Whole numbers that are missing somewhere become `Int64`, missing text None.

    Raises
    ------
    ParameterError with the line that installs pandas, where it is not there.
    """
    import polars as pl

    pd = _extras.require("pandas", "pandas", "to_pandas needs")

    frame = frame_of(results)
    columns: dict[str, Any] = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype.is_integer() and column.null_count():
            columns[name] = pd.array(column.to_list(), dtype="Int64")
        elif column.dtype == pl.String:
            columns[name] = pd.Series(column.to_list(), dtype=object)
        else:
            columns[name] = column.to_numpy()
    return pd.DataFrame(columns)


def run_folders(given: "Sequence[str | os.PathLike[str]]") -> list[Path]:
    """The run folders that paths and patterns stand for, as in `read_results`, in the order of their paths.

    Raises
    ------
    ResultError if there is none.
    """
    found: dict[Path, Path] = {}
    for item in given:
        text = os.path.expanduser(os.fspath(item))
        if (Path(text) / "run.json").is_file():
            matches = [text]
        elif Path(text).is_dir():
            matches = glob.glob(os.path.join(glob.escape(text), "**"), recursive=True)
        else:
            matches = glob.glob(text, recursive=True)
        for match in sorted(matches):
            if (Path(match) / "run.json").is_file():
                found.setdefault(Path(match).resolve(), Path(match))
    if not found:
        raise ResultError(f"there is no run folder (with run.json) in {', '.join(map(str, given)) or 'nothing'}")
    return sorted(found.values())


def _read(folder: Path) -> "pl.DataFrame":
    """The rows of one run."""
    import polars as pl

    try:
        document = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        schema, created = document["schema_version"], document["created"]
        recorded = recorded_rows(document) if schema == SCHEMA_VERSION else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ResultError(f"{folder} is damaged: {type(error).__name__} {error}") from error
    # an older version is brought up to date, a later one refused
    rows = read_rows(folder, recorded) if schema == SCHEMA_VERSION else typed(Run.load(folder).frame(), folder)
    refuse_changed(document, folder, outcomes=False)
    rows = rows.with_columns(
        pl.lit(str(folder)).alias("path"), pl.lit(str(created)).alias("created"), pl.lit(schema).alias("schema")
    )
    types = result_types()
    return rows.select(
        [(pl.col(name) if name in rows.columns else pl.lit(None)).cast(types[name]).alias(name) for name in types]
    )
