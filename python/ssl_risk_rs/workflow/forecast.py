"""What the encoding of a run would take, for the encoder, its twin and the control."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.encoders import describe_encoder
from ssl_risk_rs.extraction.cached import forecast_banks
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.workflow.before import checker
from ssl_risk_rs.workflow.others import choose_others
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

    check = checker(question)

    def of(name: str, encoding: Encoding) -> "list[Forecast]":
        return forecast_banks(name, data, encoding, store=store, group=question.group, check=check, say=say)

    asked = question.encoding
    banks: list[tuple[str, Encoding]] = [(model, asked)]
    found = of(model, asked)
    images = asked.images(data, question.group)
    others = choose_others(
        describe_encoder(model).to_dict(), data, question, data_id=images.identity.kind, n_images=len(images), say=say
    )
    if others.twin is not None:
        banks.append((others.twin, others.encoding_of_twin(asked)))
    if others.control is not None:
        banks.append((others.control, others.encoding_of_control(asked)))
    for i, bank in enumerate(banks):
        if i and bank not in banks[:i]:  # the control may be the encoder itself
            found += of(*bank)
    return found
