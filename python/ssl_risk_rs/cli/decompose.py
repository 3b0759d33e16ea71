"""`ssl-risk-rs decompose`."""

from typing import Any

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli._jobs import decompose_features
from ssl_risk_rs.cli._results import Asked, Ending, decomposition_options


@click.command()
@click.argument("path", required=False)
@click.option("--features", metavar="PATH", help="This is the same as PATH.")
@opt.features_options
@opt.store_option
@decomposition_options
def decompose(
    path: str | None, features: str | None, store: str | None, asked: Asked, ending: Ending, **options: Any
) -> None:
    """Split the error of a linear probe on features you have: a bank, a file, or a pair of files.

    PATH is a feature bank or its key in the store; or npz, safetensors, parquet, csv or pt with X_train, y_train,
    X_test, y_test (`X, y` alone: a stratified cut, which is said); or `X.npy,y.npy` with --test-features. torch is
    not imported.

    \b
    ssl-risk-rs decompose feats.npz --probe both
    """
    if (path is None) == (features is None):
        raise click.UsageError("name the features once: ssl-risk-rs decompose feats.npz")
    decompose_features(str(path or features), store, asked, ending, **options)
