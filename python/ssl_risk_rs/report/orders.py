"""The two orders of a decomposition: rows of the table, and a sentence on how far the order matters."""

from ssl_risk_rs.report.numbers import hundred
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.quantities import DETAILS
from ssl_risk_rs.results.run import Decomposition

__all__ = ["encoder_generalization", "order_rows", "order_sentence", "shown_names"]

_BOTH = ("enc_gen_alt", "enc_gen_mean", "probe_gen_alt", "probe_gen_mean")


def order_rows(result: Decomposition) -> list[Estimate]:
    """What stands below the table where both orders were asked for."""
    return [result.estimates[name] for name in _BOTH] if result.method.order == "both" else []


def shown_names(result: Decomposition) -> set[str]:
    """The quantities that the table of a decomposition has rows of, in whatever order it is."""
    details = DETAILS if "enc_gen" in result.component_names else ()
    names = {*result.component_names, *details, "agg_risk", *(e.quantity for e in order_rows(result))}
    return names & result.estimates.keys()


def encoder_generalization(result: Decomposition) -> str:
    """The component that a control is read against: encoder generalization, in the order of the decomposition."""
    return "enc_gen_alt" if "enc_gen_alt" in result.component_names else "enc_gen"


def order_sentence(result: Decomposition) -> str:
    """How far the order of the decomposition matters; empty where only the paper's was asked for."""
    effect = result.estimates.get("order_effect")
    if effect is None:
        return ""
    first, other = result.estimate("enc_gen"), result.estimate("enc_gen_alt")
    interval = f"{hundred(effect.low):.2f} to {hundred(effect.high):.2f}" if effect.low == effect.low else "no interval"
    moved = (
        f"The order matters by {hundred(abs(effect.estimate)):.2f} points ({100 * result.method.confidence:g} % "
        f"interval of the signed difference: {interval}): encoder generalization is {hundred(first):.2f} in the "
        f"paper's order and {hundred(other):.2f} in the other, and probe generalization takes the rest"
    )
    if result.estimate("risk_uf") == 0:
        return (
            f"{moved}. The probe that has seen the test rows makes no error on them, so that the other order has no "
            "encoder generalization whatever the encoder is: read the paper's order."
        )
    if effect.low <= 0 <= effect.high:
        return f"{moved}; this may be chance."
    return f"{moved}."
