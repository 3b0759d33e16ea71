"""OUT/sweep.csv: what the runs of a sweep found, and the design choices of their encoders, as `study` takes them."""

import hashlib
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

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

__all__ = ["Written", "read_design", "totals", "write_table"]

TABLE, DESIGN = "sweep.csv", "design.csv"

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
    what OUT/design.csv says, which has a row for each encoder and is never written. A table that somebody has written
    into since is kept beside the new one.

    Raises
    ------
    Those of `read_design`.
    """
    import polars as pl

    design = read_design(folder)
    rows: list[dict[str, Any]] = []
    unread: dict[str, str] = {}
    for record in records:
        head = {"encoder": record.encoder, "data": "", "data_uri": record.data, "layer": record.layer}
        own: dict[str, Any] = {**_choices(record.encoder)} if record.state is State.DONE else {}
        own |= design.get(record.encoder, {})
        try:
            rows += [{**head, **own, **found} for found in totals(record, folder)]
        except ResultError as error:
            run = shlex.quote(str(folder.root / (record.run or "")))
            unread[record.id] = (
                f"{error}\nIf it cannot be mended, remove it, and the line that made it makes it anew:  rm -r {run}"
            )
    target = folder.root / TABLE
    folder.root.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame({"encoder": []})
    text, stamp = frame.write_csv(), folder.hidden / "table.sha256"
    notes = _kept(target, text, stamp)
    if others := sorted(set(design) - {record.encoder for record in records}):
        notes.append(f"{DESIGN} has {counted(len(others), 'encoder')} that no run is of, for example {others[0]}.")
    publish(target, lambda file: file.write_bytes(text.encode()))
    stamp.parent.mkdir(parents=True, exist_ok=True)
    publish(stamp, lambda file: file.write_text(_hash(text.encode())))
    return Written(unread, tuple(notes))


def read_design(folder: SweepFolder) -> dict[str, dict[str, Any]]:
    """encoder → its choices in OUT/design.csv, as text; empty where there is none.

    Raises
    ------
    DataError for a file that is none.
    """
    path = folder.root / DESIGN
    if not path.is_file():
        return {}
    frame = read_csv(path, lambda columns: columns)
    if "encoder" not in frame.columns or len(frame.columns) < 2:
        raise DataError(f"{path} needs a column `encoder`, named as in {TABLE}, and a column for each design choice")
    if ours := [name for name in frame.columns if name != "encoder" and _is_ours(name)]:
        raise DataError(f"{path}: {ours[0]} is told by the runs themselves: leave the column out, or name it otherwise")
    if frame["encoder"].null_count():
        raise DataError(f"{path} has {counted(frame['encoder'].null_count(), 'row')} without an encoder")
    refuse_repeated(frame["encoder"].to_list(), path, "encoders")
    return {row.pop("encoder"): {k: v for k, v in row.items() if v is not None} for row in frame.to_dicts()}


def _is_ours(column: str) -> bool:
    return column in _RUN or column.partition("@")[0] in QUANTITIES


def _kept(target: Path, text: str, stamp: Path) -> list[str]:
    """Keep a table that is not the one the sweep wrote last, as `stamp` tells, and say so; `text` is the next one."""
    if not target.is_file():
        return []
    held = target.read_bytes()
    if held == text.encode() or (stamp.is_file() and stamp.read_text() == _hash(held)):
        return []
    names = (target.with_name(f"{target.name}.before{f'.{i}' if i > 1 else ''}") for i in count(1))
    backup = next(name for name in names if not name.exists())
    shutil.copyfile(target, backup)
    return [
        f"{target.name} was written by somebody else since: it is kept as {backup.name}. Write design choices into "
        f"{target.with_name(DESIGN)}, a row for each encoder (column `encoder`)."
    ]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


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
