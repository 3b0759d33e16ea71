"""`ssl-risk-rs decompose`."""

from pathlib import Path
from typing import Any

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli import _results as res


@click.command()
@click.argument("path", required=False)
@click.option("--features", metavar="PATH", help="The same as PATH.")
@click.option("--test-features", metavar="PATH", help="Test rows, if they are in a file of their own.")
@click.option("--supervised-features", metavar="PATH", help="The twin's features, in the same rows.")
@res.decomposition_options
@opt.format_option
def decompose(
    path: str | None,
    features: str | None,
    test_features: str | None,
    supervised_features: str | None,
    form: str,
    out: str | None,
    force: bool,
    strict_convergence: bool,
    **options: Any,
) -> None:
    """Split the error of a linear probe on features you have: a bank, a file, or a pair of files.

    PATH is a feature bank, or npz, safetensors, parquet or pt with X_train, y_train, X_test, y_test (`X, y`
    alone: a stratified cut, which is said), or `X.npy,y.npy` with --test-features. torch is not imported.

    \b
    ssl-risk-rs decompose feats.npz --probe both
    """
    if (path is None) == (features is None):
        raise click.UsageError("name the features once: ssl-risk-rs decompose feats.npz")
    probes, fields = res.settings(options)
    ending = {"form": form, "out": out, "force": force, "strict_convergence": strict_convergence}
    decompose_features(str(path or features), test_features, supervised_features, probes, fields, ending)


def decompose_features(
    path: str,
    test: str | None,
    supervised: str | None,
    probes: tuple[str, ...],
    fields: dict[str, Any],
    ending: dict[str, Any],
) -> None:
    """Decompose a bank or feature files and print the result."""
    from ssl_risk_rs.bank import FeatureBank, is_bank
    from ssl_risk_rs.bank.formats import load_features
    from ssl_risk_rs.decomposition import Settings
    from ssl_risk_rs.decomposition import decompose as decompose_rows
    from ssl_risk_rs.errors import ParameterError
    from ssl_risk_rs.results import Provenance

    res.check(ending)
    if supervised is not None and is_bank(path) != is_bank(supervised):
        one, other = (path, supervised) if is_bank(path) else (supervised, path)
        raise ParameterError(
            f"{one} is a feature bank, {other} is none; make both the same: ssl-risk-rs store export, or import"
        )
    ids = None
    twin: Any = None
    if is_bank(path):
        if test is not None:
            raise ParameterError(f"{path} is a feature bank, which holds its test rows: leave out --test-features")
        bank = FeatureBank.open(path)
        if supervised is not None:
            twin = FeatureBank.open(supervised)
            _same_rows(supervised, *((b.labels(), b.samples["sample_id"].to_list()) for b in (twin, bank)))
        given: tuple[Any, ...] = (bank,)
        name = str(bank.header.get("encoder", Path(path).name))
        provenance = Provenance(encoder=name, data=str(bank.header.get("data_name", path)), supervised=supervised)
    else:
        loaded = load_features(path, test)
        notes = tuple(note.sentence() for note in loaded.notes)
        for note in notes:
            opt.say(note)
        given = (loaded.X_train, loaded.y_train, loaded.X_test, loaded.y_test)
        if supervised is not None:
            # where the test rows are in a file of their own, all rows of the twin's file are training rows
            beside = load_features(supervised, None if test is None else supervised)
            _same_rows(supervised, *((f.y_train, f.train_ids) for f in (beside, loaded)))
            twin = beside.X_train
        name = Path(path.split(",")[0]).name
        provenance = Provenance(encoder=name, data="features", supervised=supervised, notes=notes)
        ids = [*loaded.train_ids, *loaded.test_ids]
    try:
        results = [
            decompose_rows(
                *given,
                supervised=twin,
                sample_ids=ids,
                name=name,
                settings=Settings(probe=probe, **fields),  # type: ignore[arg-type]
            )
            for probe in probes
        ]
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error
    res.finish(results, provenance, **ending)


def _same_rows(path: str, twin: "tuple[Any, list[str] | None]", rows: "tuple[Any, list[str] | None]") -> None:
    """Complain unless the twin has the same (labels, ids) in the same order, as far as the files tell."""
    import numpy as np

    from ssl_risk_rs.errors import ShapeError

    (y, ids), (y_rows, ids_rows) = twin, rows
    if len(y) != len(y_rows):
        raise ShapeError(f"{path} has {len(y)} rows, the features have {len(y_rows)}: the twin needs the same rows")
    differ = np.flatnonzero(y != y_rows)
    if not differ.size and ids is not None and ids_rows is not None:
        counted = [str(row) for row in range(len(ids))]  # what a bank has where its source had no ids
        if counted not in (ids, ids_rows):
            differ = np.flatnonzero(np.array(ids) != np.array(ids_rows))
    if differ.size:
        raise ShapeError(
            f"{path} has other rows than the features, or another order: they differ first in row {differ[0]}; "
            "extract both from one data set"
        )
