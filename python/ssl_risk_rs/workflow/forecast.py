"""What the encoding of a run would take, for the encoder, its twin and the control."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.workflow.evaluate import choose_control, choose_twin, for_control
from ssl_risk_rs.workflow.question import Question

if TYPE_CHECKING:
    from ssl_risk_rs.extraction.forecast import Forecast

__all__ = ["forecast_run"]


def forecast_run(
    model: str,
    data: str,
    *,
    question: Question,
    store: "str | Path | None" = None,
    say: Callable[[str], None] = lambda _: None,
) -> "list[Forecast]":
    """One entry for each bank that `evaluate` would fill with these arguments; nothing is written."""
    from ssl_risk_rs.datasets import create_dataset
    from ssl_risk_rs.extraction.cached import forecast_banks

    group, own = question.group, question.encoding.of_default_feature()

    def of(name: str, encoding: Encoding) -> "list[Forecast]":
        return forecast_banks(name, data, store=store, group=group, say=say, **encoding.arguments())

    found = of(model, question.encoding)
    from ssl_risk_rs.encoders import describe_encoder

    spec = describe_encoder(model).to_dict()
    dataset = create_dataset(data, limit=own.limit, group=group)
    twin = choose_twin(spec, dataset.identity.kind, question.supervised, say)
    if twin is not None:
        found += of(twin, own)
    blind, _ = choose_control(spec, data, len(dataset), question.control)
    if blind is not None:
        found += of(blind, for_control(blind, own))
    return found
