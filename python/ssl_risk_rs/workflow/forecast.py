"""What the encoding of a run would take, for the encoder, its twin and the control."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_risk_rs.workflow.evaluate import choose_control, choose_twin

if TYPE_CHECKING:
    from ssl_risk_rs.extraction.forecast import Forecast

__all__ = ["forecast_run"]


def forecast_run(
    model: str,
    data: str,
    *,
    supervised: str = "auto",
    control: str = "auto",
    group: str | None = None,
    store: "str | Path | None" = None,
    say: Callable[[str], None] = lambda _: None,
    extraction: Mapping[str, Any] | None = None,
) -> "list[Forecast]":
    """One entry for each bank that `evaluate` would fill with these arguments; nothing is written."""
    from ssl_risk_rs.datasets import create_dataset
    from ssl_risk_rs.extraction.cached import forecast_banks

    given = dict(extraction or {})
    found = forecast_banks(model, data, store=store, group=group, say=say, **given)
    from ssl_risk_rs.encoders import describe_encoder

    spec = describe_encoder(model).to_dict()
    dataset = create_dataset(data, limit=given.get("limit"), group=group)
    own = {**given, "layers": None, "pool": None}  # twin and control choose their own features
    twin = choose_twin(spec, dataset.identity.kind, supervised, say)
    if twin is not None:
        found += forecast_banks(twin, data, store=store, group=group, say=say, **own)
    blind, _ = choose_control(spec, data, len(dataset), control)
    if blind is not None:
        any_size = {"img_size": None} if blind.startswith("pixels") else {}
        found += forecast_banks(blind, data, store=store, group=group, say=say, **{**own, **any_size})
    return found
