"""`ssl-risk-rs store`: list, check, import, export and remove feature banks."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_risk_rs.cli._options import SEED, columns_options, format_option, store_option
from ssl_risk_rs.cli._printing import on_terminal, print_rows, say
from ssl_risk_rs.errors import BankError, DataError

if TYPE_CHECKING:
    from ssl_risk_rs.bank.bank import FeatureBank


@click.group()
def store() -> None:
    """List, check, import, export and remove feature banks.

    A bank holds the representations of one encoder on one data set. BANK is its folder, its key, or the
    beginning of its key.

    The store is the folder that --store names, else the one in the variable SSL_RISK_STORE, else
    ssl-risk-rs/banks in the user's cache folder (~/.cache or $XDG_CACHE_HOME on Linux, ~/Library/Caches on macOS,
    %LOCALAPPDATA% on Windows). `store ls` says where it is.

    \b
    ssl-risk-rs store ls
    """


@store.command()
@store_option
@format_option
def ls(store: str | None, form: str) -> None:
    """List the banks of the store, latest first, and say where the store is.

    \b
    ssl-risk-rs store ls --format csv
    """
    from ssl_risk_rs.bank.store import BankSummary, FeatureStore

    found = FeatureStore(store)
    banks = found.banks()
    say(found.where() if banks else f"{found.where()} There are no banks in it.")
    if form == "table":
        rows = [
            {
                "key": bank.key[:12],
                "state": f"{bank.missing:,} missing" if bank.state == "incomplete" else bank.state,
                "encoder": bank.encoder,
                "data": bank.data if bank.view is None else f"{bank.data}, view {bank.view}",
                "feature": bank.feature or "",
                "rows": f"{bank.n_rows:,}",
                "features": bank.n_features,
                "dtype": bank.dtype,
                "size": _size(bank.bytes),
                "modified": bank.modified[:16].replace("T", " "),
            }
            for bank in banks
        ]
    else:
        rows = [{**asdict(bank), "path": str(bank.path)} for bank in banks]
    if rows or form != "table":
        print_rows(rows, form, columns=[field.name for field in fields(BankSummary)])
    for bank in banks:
        if bank.problem:
            say(f"damaged: {bank.problem}")


@store.command()
@click.argument("bank")
@store_option
@format_option
def info(bank: str, store: str | None, form: str) -> None:
    """Show what a bank holds and how it was made.

    \b
    ssl-risk-rs store info 3f2a --format json
    """
    from ssl_risk_rs.extraction.rates import describe_rates, read_rates

    opened = _open(bank, store)
    samples = opened.samples
    facts: dict[str, Any] = {
        "path": str(opened.path),
        "complete": opened.complete,
        "missing": opened.n_missing,
        "n_rows": opened.n_rows,
        "n_train": len(opened.rows("train")),
        "n_test": len(opened.rows("test")),
        "n_classes": samples["label"].n_unique(),
        "n_features": opened.n_features,
        "dtype": opened.dtype,
        "bytes": opened.nbytes(),
        "created": opened.created,
        "columns": samples.columns,
        "parts": [{"name": part.name, "rows": part.rows, "blocks": part.blocks} for part in opened.core.parts()],
        "rates": read_rates(opened.path),
        "header": opened.header.to_json(),
    }
    if form == "json":
        click.echo(json.dumps(facts, ensure_ascii=False, indent=1))
        return
    flat = {**facts, **{f"header.{name}": value for name, value in opened.header.to_json().items()}}
    del flat["header"]
    flat |= {f"rates.{part}": describe_rates(runs[-1]) for part, runs in flat.pop("rates").items() if runs}
    print_rows([{"field": name, "value": _plain(value, form)} for name, value in flat.items()], form)


@store.command()
@click.argument("bank")
@store_option
@format_option
def verify(bank: str, store: str | None, form: str) -> None:
    """Read a bank again and compare every block with the hashes taken when it was written.

    Works for banks that are too damaged to be opened. Exits with 1, naming part, block and rows of all that is
    damaged, if anything has changed.

    \b
    ssl-risk-rs store verify 3f2a
    """
    from ssl_risk_rs.bank.bank import FeatureBank
    from ssl_risk_rs.bank.store import FeatureStore

    path = FeatureStore(store).resolve(bank)
    total = _visits(path)
    with _progress("verify") as report:
        found = FeatureBank.verify_path(path, None if report is None else lambda rows: report(rows, total))
    missing = found.n_rows - found.rows
    line: dict[str, Any] = {
        "path": str(path),
        "state": "incomplete" if missing else "complete",
        "missing": missing,
        "parts": found.parts,
        "blocks": found.blocks,
        "rows": found.rows,
        "bytes": found.bytes,
    }
    for part in found.behind:
        say(
            f"{part}: the .npy headers are behind the journal, so numpy.load sees fewer rows (a "
            "writer was stopped, or is at work); the next writer brings them up to date"
        )
    print_rows([{**line, "bytes": _size(found.bytes)} if form == "table" else line], form)


@store.command()
@click.argument("banks", metavar="BANK...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Remove without asking.")
@store_option
@format_option
def rm(banks: tuple[str, ...], yes: bool, store: str | None, form: str) -> None:
    """Remove banks from the disk.

    Asks first; where nobody can answer, --yes is needed. Only folders that are banks are removed, and none that a
    writer is at work on. Prints what was removed.

    \b
    ssl-risk-rs store rm 3f2a --yes
    """
    from ssl_risk_rs.bank.store import FeatureStore, summarize

    found = FeatureStore(store)
    # all names are looked up before anything is removed
    summaries = [summarize(folder) for folder in dict.fromkeys(found.resolve(name) for name in banks)]
    _agree(
        yes,
        f"{len(summaries)} bank(s)",
        "this bank" if len(summaries) == 1 else f"these {len(summaries)} banks",
        [
            f"{bank.path}: {bank.encoder or '?'} on {bank.data or '?'}, {bank.n_rows:,} rows, {_size(bank.bytes)}"
            for bank in summaries
        ],
    )
    for bank in summaries:
        found.remove(bank.path)
    rows: list[dict[str, Any]] = [
        {
            "key": bank.key,
            "path": str(bank.path),
            "bytes": _size(bank.bytes) if form == "table" else bank.bytes,
        }
        for bank in summaries
    ]
    print_rows(rows, form)


@store.command()
@click.option("--older-than", "days", type=click.FloatRange(0), default=30.0, show_default=True, metavar="DAYS",
              help="Incomplete banks that changed since stay.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@store_option
@format_option
def gc(days: float, dry_run: bool, yes: bool, store: str | None, form: str) -> None:
    """Remove what is left of runs that ended early.

    Incomplete banks that nobody has gone on with for 30 days; after a day, temporary files and folders of processes
    that died, entries of the index whose bank is gone, and banks that have lost their bank.json. Complete banks stay,
    and so do other damaged ones, which `store ls` names and `store rm` removes. Prints what it found and asks; where
    nobody can answer, --yes is needed.

    \b
    ssl-risk-rs store gc --dry-run
    """
    from ssl_risk_rs.bank.leftovers import Leftover, find_leftovers, remove_leftovers
    from ssl_risk_rs.bank.store import FeatureStore

    found = FeatureStore(store)
    left = find_leftovers(found, days=days)
    if left or form != "table":
        rows = [{**asdict(one), "path": str(one.path)} for one in left]
        if form == "table":
            rows = [{"kind": one.kind, "size": _size(one.bytes), "modified": one.modified[:10], "path": str(one.path),
                     "what": one.why} for one in left]  # fmt: skip
        print_rows(rows, form, columns=[field.name for field in fields(Leftover)])
    whole = f"{len(left)} {'thing' if len(left) == 1 else 'things'} of {_size(sum(one.bytes for one in left))}"
    if not left:
        say(f"{found.where()} Nothing is left over in it.")
        return
    if dry_run:
        say(f"{whole} would be removed; nothing was.")
        return
    _agree(yes, whole, whole)
    gone = remove_leftovers(found, left, days=days)
    say(f"{whole} went." if gone == left else f"{len(gone)} of {whole} went; the others have changed meanwhile.")


@store.command("import")
@click.argument("source")
@click.argument("target", required=False)
@click.option("--test", help="File with the test rows, if SOURCE has only training rows.")
@click.option("--encoder", help="Name of the encoder, for listings and results.")
@click.option("--data", help="Name of the data set, for listings and results.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float16", "float32"]),
    default="auto",
    show_default=True,
    help="Type to store; auto takes float16 where its rounding adds less than 1/64 of its deviation to each feature: "
    "near ties may then fall otherwise than on the file.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the 80/20 cut where SOURCE has none.")
@click.option("--group", metavar="COLUMN", help="Column of groups that this cut keeps whole.")
@columns_options
@click.option("--force", is_flag=True, help="Replace a bank that is there.")
@store_option
@format_option
def import_(
    source: str,
    target: str | None,
    test: str | None,
    encoder: str | None,
    data: str | None,
    dtype: Any,
    seed: int,
    group: str | None,
    features_columns: str | None,
    drop_unlabelled: bool,
    force: bool,
    store: str | None,
    form: str,
) -> None:
    """Make a bank of features from another program.

    SOURCE is a .npz, .safetensors, .parquet, .pt or .pth file or a folder of .npy files with X_train,
    y_train, X_test, y_test (or X, y, which are cut 80/20), or a pair X.npy,y.npy; or embed:PATH?labels=FILE, vectors
    joined to labels by identifier (HDF5 of slides, docs/encoders.md). TARGET is the bank's folder; without it, the
    bank goes into the store. Prints where the bank is.

    \b
    ssl-risk-rs store import feats.npz --encoder swav --data imagenet
    """
    from ssl_risk_rs._notes import Note
    from ssl_risk_rs.bank.exchange import import_bank
    from ssl_risk_rs.bank.formats.embed import is_embedding, parse_embedding
    from ssl_risk_rs.bank.store import FeatureStore, bank_key
    from ssl_risk_rs.results._json import from_json

    header = {name: value for name, value in (("encoder", encoder), ("data", data)) if value is not None}
    reading = {"features_columns": features_columns, "group": group, "drop_unlabelled": drop_unlabelled}
    if target is None:
        names = [str(f) for f in parse_embedding(source).files()] if is_embedding(source) else source.split(",")
        files = [facts for name in (*names, *(test.split(",") if test else ())) for facts in _file_facts(name)]
        options = {name: value for name, value in reading.items() if value}
        if is_embedding(source):  # it says how rows are made of the files
            options["source"] = source
        facts = {"import": files, **options, "dtype": dtype, "seed": seed, **header}
        folder = FeatureStore(store).path_for(bank_key(facts))
    else:
        folder = Path(target).expanduser()
    with _progress("import") as report:
        bank = import_bank(
            source, folder, test=test, dtype=dtype, header=header, seed=seed, force=force, progress=report,
            features_columns=features_columns, group=group, drop_unlabelled=drop_unlabelled,
        )  # fmt: skip
    for note in bank.header.notes or ():
        say(from_json(Note, note).sentence())
    record: dict[str, Any] = {
        "path": str(bank.path),
        "n_rows": bank.n_rows,
        "n_train": len(bank.rows("train")),
        "n_test": len(bank.rows("test")),
        "n_features": bank.n_features,
        "dtype": bank.dtype,
    }
    _print_record(record, form)


@store.command()
@click.argument("bank")
@click.argument("target")
@click.option("--force", is_flag=True, help="Replace an export that is there.")
@store_option
@format_option
def export(bank: str, target: str, force: bool, store: str | None, form: str) -> None:
    """Write a bank's features for other programs.

    TARGET is NAME.safetensors, or a folder for X_train.npy, y_train.npy, X_test.npy, y_test.npy.

    \b
    ssl-risk-rs store export 3f2a feats.safetensors
    """
    from ssl_risk_rs.bank.exchange import export_bank

    opened = _open(bank, store)
    with _progress("export") as report:
        written = export_bank(opened, target, force=force, progress=report)
    _print_record({"path": str(written), "n_rows": opened.n_rows, "dtype": opened.dtype}, form)


def _open(name: str, store: str | None) -> "FeatureBank":
    from ssl_risk_rs.bank.bank import FeatureBank
    from ssl_risk_rs.bank.store import FeatureStore

    return FeatureBank.open(FeatureStore(store).resolve(name))


def _visits(bank: Path) -> int | None:
    """Rows that a verification visits: payload and index of each; None for a bank that cannot be opened."""
    from ssl_risk_rs.bank.bank import FeatureBank

    try:
        opened = FeatureBank.open(bank)
    except BankError:
        return None
    return 2 * (opened.n_rows - opened.n_missing)


def _agree(yes: bool, counted: str, named: str, before: Iterable[str] = ()) -> None:
    """Go on where --yes was given or a person says so, who is told `before`."""
    if yes:
        return
    if not _can_ask():
        raise click.UsageError(f"{counted} would be removed, and nobody can be asked: add --yes")
    for sentence in before:
        say(sentence)
    click.confirm(f"Remove {named}?", abort=True, err=True)


def _can_ask() -> bool:
    """Whether a person is at the terminal."""
    return sys.stdin.isatty()


def _file_facts(name: str) -> list[dict[str, Any]]:
    """Path, size and time of a file, or of each file in a folder: its own time tells nothing of what they hold."""
    path = Path(name.strip()).expanduser().resolve()
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [file.stat() for file in files]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return [
        {"path": str(file), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        for file, stat in zip(files, stats, strict=True)
    ]


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """A bar on stderr, if a person is looking."""
    if not on_terminal():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_record(record: dict[str, Any], form: str) -> None:
    """One record: a line for each field to a person, a row to a program."""
    if form == "table":
        print_rows([{"field": name, "value": _plain(value, form)} for name, value in record.items()], form)
    else:
        print_rows([record], form)


def _plain(value: Any, form: str) -> str:
    """One line of text; tables cut what is long (thousand class names)."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if form == "csv" or len(text) <= 100 else text[:99] + "…"


def _size(n_bytes: int) -> str:
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
