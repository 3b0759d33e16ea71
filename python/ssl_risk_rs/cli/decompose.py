"""`ssl-risk-rs decompose`."""

from typing import TYPE_CHECKING, Any

import click

from ssl_risk_rs.cli import _options as opt
from ssl_risk_rs.cli._engines import engine_option, engine_options_of
from ssl_risk_rs.cli._help import LongCommand
from ssl_risk_rs.cli._jobs import decompose_features
from ssl_risk_rs.cli._results import Ending, decomposition_options

if TYPE_CHECKING:
    from ssl_risk_rs.workflow.question import Question


@click.command(cls=LongCommand)
@click.argument("path", required=False)
@click.option("--features", metavar="PATH", help="This is the same as PATH.")
@opt.features_options
@opt.store_option
@engine_option("local", "ray", what="Passes over the rows of a bank run")
@click.option(
    "--parts", type=click.IntRange(1), metavar="N",
    help="With --engine ray, so many processes hold a part of the rows each. The default is one for each CPU.",
)  # fmt: skip
@decomposition_options
def decompose(
    path: str | None,
    features: str | None,
    store: str | None,
    engine: str,
    engine_options: tuple[str, ...],
    parts: int | None,
    question: "Question",
    ending: Ending,
    **options: Any,
) -> None:
    """Split the error of a linear probe on features you have: a bank, a file, or a pair of files.

    PATH is a feature bank or its key in the store; or npz, safetensors, parquet, csv or pt with X_train, y_train,
    X_test, y_test (`X, y` alone: a stratified cut, which is said); or `X.npy,y.npy` with --test-features. torch is
    not imported. With --engine ray the rows of a bank on a shared disk are summed and judged where they are held.

    \b
    ssl-risk-rs decompose feats.npz --probe both
    """
    if (path is None) == (features is None) or not (path or features):
        raise click.UsageError("name the features once: ssl-risk-rs decompose feats.npz")
    given = engine_options_of(engine_options)
    if engine == "local" and (parts is not None or given):
        raise click.UsageError("--parts and --engine-option go with --engine ray")
    if engine == "ray":
        from ssl_risk_rs.workflow.engines.ray_parts import spread_on_ray

        options["spreading"] = spread_on_ray(given, parts=parts, n_threads=question.settings.n_threads)
    decompose_features(str(path or features), store, question, ending, **options)
