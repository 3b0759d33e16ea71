"""OUT/sweep.csv: what the runs of a sweep found, and the design choices of their encoders, as `study` takes them."""

import shlex
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_risk_rs._files import publish
from ssl_risk_rs._names import counted
from ssl_risk_rs._tables import read_csv, refuse_repeated
from ssl_risk_rs.encoders import describe_encoder
from ssl_risk_rs.encoders.catalogue import catalogue, published_entry
from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.encoders.weights.epochs import epoch_of
from ssl_risk_rs.errors import DataError, ResultError, SslRiskError
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow.sweep_records import Record, State, SweepFolder

if TYPE_CHECKING:
    pass

__all__ = ["Written", "totals", "write_table"]

TABLE, DESIGN, BEFORE = "sweep.csv", "design.csv", "sweep.csv.before"

#: columns that say which run a row is of; `img_size` is that of the images its encoder saw
_RUN = (
    "encoder", "data", "data_uri", "layer", "img_size", "target", "metric", "probe", "protocol", "split_seed", "low",
    "high", "train_rows", "test_rows", "z_dim",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Written:
    """unread : pair → why its run folder cannot be read, so that it is not in the table, and what to do
    notes : what else there is to say"""

    unread: dict[str, str]
    notes: tuple[str, ...]


def totals(record: Record, folder: SweepFolder) -> list[dict[str, Any]]:
    """A row for each probe of a finished pair: what it predicts and how, its components, fractions, and the size of the
    images that its encoder saw; none where its run cannot be read."""
    if record.run is None:
        return []
    run = Run.load(folder.root / record.run)
    bank = run.provenance.banks.get("encoder")
    seen = {} if bank is None or bank.img_size is None else {"img_size": str(bank.img_size)}
    rows = []
    for d in run.decompositions:
        total = d.estimates["agg_risk"]
        rows.append(
            {
                **seen,
                "data": run.provenance.data,
                "target": run.provenance.target,
                "metric": d.method.metric,
                "probe": d.method.probe,
                "protocol": d.method.protocol,
                "split_seed": d.method.seed,
                **{name: d.estimate(name) for name in d.component_names},
                "agg_risk": total.estimate,
                "low": total.low,
                "high": total.high,
                **({"risk_af": d.estimate("risk_af")} if "risk_af" in d.estimates else {}),
                **{f"agg_risk@{shot.size.name}": shot.estimate("agg_risk") for shot in d.shots},
                "train_rows": d.sizes.train,
                "test_rows": d.sizes.test,
                "z_dim": d.sizes.features,
            }
        )
    return rows


def write_table(records: Sequence[Record], folder: SweepFolder) -> Written:
    """Write OUT/sweep.csv: risks of each finished run and probe, and the design choices of its encoder.

    The choices are the paper's columns for encoders of its table, as `study` takes them, what is known of others, and
    what OUT/design.csv says, which has a row for each encoder and is never written. A table with columns or choices of
    somebody else's is kept beside the new one.

    Raises
    ------
    DataError for an OUT/design.csv that is none.
    """
    import polars as pl

    design = _design(folder.root / DESIGN)
    rows: list[dict[str, Any]] = []
    unread: dict[str, str] = {}
    choices: dict[str, dict[str, Any]] = {}
    for record in records:
        head = {"encoder": record.encoder, "data": "", "data_uri": record.data, "layer": record.layer}
        own = _choices(record.encoder) if record.state is State.DONE else {}
        choices[record.encoder] = own | design.get(record.encoder, {})
        try:
            rows += [{**head, **choices[record.encoder], **found} for found in totals(record, folder)]
        except ResultError as error:
            run = shlex.quote(str(folder.root / (record.run or "")))
            unread[record.id] = (
                f"{error}\nIf it cannot be mended, remove it, and the line that made it makes it anew:  rm -r {run}"
            )
    target = folder.root / TABLE
    folder.root.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame({"encoder": []})
    notes = _kept_edits(target, choices, {name for own in design.values() for name in own})
    if others := [name for name in design if name not in choices]:
        notes.append(f"{DESIGN} has {counted(len(others), 'encoder')} that no run is of, for example {others[0]}.")
    publish(target, frame.write_csv)
    return Written(unread, tuple(notes))


def _design(path: Path) -> dict[str, dict[str, Any]]:
    """encoder → its choices in OUT/design.csv, as text; empty where there is none."""
    if not path.is_file():
        return {}
    frame = read_csv(path, lambda columns: columns)
    if "encoder" not in frame.columns or len(frame.columns) < 2:
        raise DataError(f"{path} needs a column `encoder`, named as in {TABLE}, and a column for each design choice")
    if ours := [name for name in frame.columns if name != "encoder" and _is_ours(name)]:
        raise DataError(f"{path}: {ours[0]} is what runs are measured by: give the choice another name")
    refuse_repeated(frame["encoder"].to_list(), path, "encoders")
    return {row.pop("encoder"): {k: v for k, v in row.items() if v is not None} for row in frame.to_dicts()}


def _is_ours(column: str) -> bool:
    return column in _RUN or column.partition("@")[0] in QUANTITIES


def _kept_edits(path: Path, choices: Mapping[str, Mapping[str, Any]], designed: Collection[str]) -> list[str]:
    """Keep a table that somebody has written into, and say so: columns that are not the sweep's, and choices of other
    values, but for those that OUT/design.csv names."""
    if not path.is_file():
        return []
    try:
        old = read_csv(path, lambda columns: columns)
    except DataError:  # nothing that could be told apart
        return []
    known = {name for own in choices.values() for name in own}
    edited = [name for name in old.columns if not _is_ours(name) and name not in known]
    for row in old.to_dicts():
        own = choices.get(row.get("encoder") or "", {})
        theirs = [name for name in own if name in row and not _is_ours(name) and name not in designed]
        edited += [name for name in theirs if (row[name] or "") != _text(own[name])]
    if not edited:
        return []
    shutil.copyfile(path, path.with_name(BEFORE))
    return [
        f"{TABLE} held values of {', '.join(dict.fromkeys(edited))} that the sweep did not write: that table is kept "
        f"as {BEFORE}. Write such design choices into {path.with_name(DESIGN)}, a row for each encoder (column "
        "`encoder`)."
    ]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _choices(encoder: str) -> dict[str, str | int | None]:
    """Design choices under the names of the published table."""
    row = published_entry(encoder)
    if row is not None and row.name in catalogue().published:
        return {name: value for name, value in catalogue().corrected(row.name).items() if name != "name"}
    try:
        spec = describe_encoder(encoder)
    except SslRiskError:  # its file has gone meanwhile
        return {}
    names = ("architecture", "objective", "pretraining_data", "epochs", "batch_size", "img_size")
    known: dict[str, str | int | None] = {
        name: None if (value := getattr(spec, name)) is None else str(value) for name in names
    }
    parsed = parse_name(encoder)
    if known["epochs"] is None and parsed.kind == "checkpoint":
        epoch, _ = epoch_of(Path(parsed.target))
        known["epochs"] = None if epoch is None else f"{epoch:g}"
    return known
