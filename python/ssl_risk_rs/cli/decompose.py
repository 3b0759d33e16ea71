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
    from ssl_risk_rs.decomposition import Settings
    from ssl_risk_rs.decomposition import decompose as decompose_rows
    from ssl_risk_rs.feature_arrays import load_features
    from ssl_risk_rs.results import Provenance

    if is_bank(path):
        bank = FeatureBank.open(path)
        twin: Any = None if supervised is None else FeatureBank.open(supervised)
        given: tuple[Any, ...] = (bank,)
        name = str(bank.header.get("encoder", Path(path).name))
        provenance = Provenance(encoder=name, data=str(bank.header.get("data_name", path)), supervised=supervised)
        ids = None
    else:
        loaded = load_features(path, test)
        if loaded.note:
            opt.say(loaded.note)
        given = (loaded.X_train, loaded.y_train, loaded.X_test, loaded.y_test)
        twin = None if supervised is None else load_features(supervised).X_train
        name = Path(path.split(",")[0]).name
        notes = (loaded.note,) if loaded.note else ()
        provenance = Provenance(encoder=name, data="features", supervised=supervised, notes=notes)
        ids = None
        if loaded.train_ids is not None and loaded.test_ids is not None:
            ids = [*loaded.train_ids, *loaded.test_ids]
    with opt.resumable():
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
        res.finish(results, provenance, **ending)
