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
    found = of(model, asked)
    images = asked.images(data, question.group)
    others = choose_others(
        describe_encoder(model).to_dict(), data, question, data_id=images.identity.kind, n_images=len(images), say=say
    )
    banks = [(model, asked)]
    for name, encoding in ((others.twin, others.encoding_of_twin(asked)),
                           (others.control, others.encoding_of_control(asked))):  # fmt: skip
        if name is not None and (name, encoding) not in banks:  # the control may be the encoder itself
            banks.append((name, encoding))
            found += of(name, encoding)
    return found
