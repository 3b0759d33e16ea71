"""The one table of what is estimated: name, label, how it is made of risks, and which rows decide it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "BASE",
    "DETAILS",
    "IN_SAMPLE",
    "QUANTITIES",
    "TUNED_RISKS",
    "Kind",
    "Order",
    "Quantity",
    "Rows",
    "components",
    "estimated",
]

#: sets of rows: a held-out training subset, all training rows, test rows
Rows = Literal["train", "subset", "test"]
Kind = Literal["risk", "component", "detail", "total", "order"]
#: of the telescoping sum: the paper's, or through R_UF instead of R_AS (the authors' `union_test`)
Order = Literal["paper", "alternative", "both"]

#: the risks that row scores are kept for, in the order of covariances; `risk_ah` is the error on held-out training
#: rows at the penalty's floor, `risk_us_mix` is R_US at the class shares of the training rows, `risk_uf` is the error
#: on test rows of a floor probe that was fitted on them as well
BASE = ("risk_sup", "risk_af", "risk_as", "risk_cs", "risk_us", "risk_ah", "risk_us_mix", "risk_uf")
#: risks at the tuned penalty; a refitted probe moves these, and `risk_ah`
TUNED_RISKS = ("risk_us", "risk_cs", "risk_as", "risk_us_mix")
#: risks judged on rows that their probe was fitted on
IN_SAMPLE = ("risk_af", "risk_sup", "risk_uf")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number of a decomposition.

    Attributes
    ----------
    name : short name, as in columns of results
    label : what a table prints
    kind : "risk", "component" (those sum to the total), "detail" (a part of a component), "total", "order" (of the
        alternative order, the mean of both orders, or what lies between them)
    weights : coefficients on risks of BASE
    rows : the set of rows it is said to be judged on
    guards : sets whose n adds 1/n² to the variance, so that an interval of few rows is not too short; "draws"
        stands for test rows times subsets
    below_zero : what a negative value says; empty where it cannot be negative
    short : label that heads a narrow column; empty where no table of columns has it
    """

    name: str
    label: str
    kind: Kind
    weights: Mapping[str, float]
    rows: Rows
    guards: tuple[Literal["train", "subset", "test", "draws"], ...] = ()
    below_zero: str = ""
    short: str = ""

    @property
    def probe_weights(self) -> tuple[float, float]:
        """Sum of its weights of risks that a refitted probe moves: of those on test rows, of those on held-out rows."""
        on_test, on_held = self.tuned_weights
        return on_test, on_held + self.weights.get("risk_ah", 0.0)

    @property
    def tuned_weights(self) -> tuple[float, float]:
        """The same without risks at the penalty's floor, which another choice of the penalty does not move."""
        on_test = sum(w for risk, w in self.weights.items() if risk in TUNED_RISKS and risk != "risk_as")
        return on_test, self.weights.get("risk_as", 0.0)


QUANTITIES: dict[str, Quantity] = {
    q.name: q
    for q in (
        Quantity("risk_sup", "R_ΦF", "risk", {"risk_sup": 1}, "train"),
        Quantity("risk_af", "R_AF", "risk", {"risk_af": 1}, "train"),
        Quantity("risk_as", "R_AS", "risk", {"risk_as": 1}, "subset"),
        Quantity("risk_cs", "R_CS", "risk", {"risk_cs": 1}, "test"),
        Quantity("risk_us", "R_US", "risk", {"risk_us": 1}, "test"),
        Quantity("risk_us_mix", "R_US at training shares", "risk", {"risk_us_mix": 1}, "test"),
        Quantity("risk_uf", "R_UF", "risk", {"risk_uf": 1}, "test"),
        Quantity("risk_ah", "error on held-out rows at the floor", "risk", {"risk_ah": 1}, "subset"),
        Quantity("risk_af_midpoint", "R_AF, midpoint", "risk", {"risk_af": 0.5, "risk_ah": 0.5}, "train"),
        Quantity("approx", "approximation", "component", {"risk_sup": 1}, "train", short="approximation"),
        Quantity(
            "usability", "representation usability", "component", {"risk_af": 1, "risk_sup": -1}, "train", ("train",),
            "a probe on this representation fits the training rows better than one on the twin's", "usability",
        ),
        Quantity(
            "approx_usability", "approximation + usability", "component", {"risk_af": 1}, "train",
            short="approx.+usab.",
        ),
        Quantity(
            "probe_gen", "probe generalization", "component", {"risk_as": 1, "risk_af": -1}, "subset", ("subset",),
            "held-out training rows are predicted better than the rows that the floor probe was fitted on",
            "probe gen.",
        ),
        Quantity(
            "enc_gen", "encoder generalization", "component", {"risk_us": 1, "risk_as": -1}, "test",
            ("subset", "test"), "test rows are predicted better than held-out training rows", "encoder gen.",
        ),
        Quantity(
            "enc_gen_equal_labels", "at equal label count", "detail", {"risk_cs": 1, "risk_as": -1}, "test",
            ("subset", "test"),
        ),
        Quantity("label_count", "labels set aside", "detail", {"risk_us": 1, "risk_cs": -1}, "test", ("draws",)),
        Quantity("class_mix", "other class shares", "detail", {"risk_us": 1, "risk_us_mix": -1}, "test", ("test",)),
        Quantity(
            "enc_gen_alt", "encoder gen., other order", "order", {"risk_uf": 1, "risk_af": -1}, "test",
            ("train", "test"), "a probe fits the test rows better than the training rows", "encoder, other",
        ),
        Quantity(
            "probe_gen_alt", "probe gen., other order", "order", {"risk_us": 1, "risk_uf": -1}, "test", ("test",),
            "test rows are predicted better than a probe fits them that has seen them", "probe, other",
        ),
        Quantity(
            "enc_gen_mean", "encoder gen., mean order", "order",
            {"risk_us": 0.5, "risk_as": -0.5, "risk_uf": 0.5, "risk_af": -0.5}, "test", ("train", "subset", "test"),
        ),
        Quantity(
            "probe_gen_mean", "probe gen., mean order", "order",
            {"risk_as": 0.5, "risk_af": -0.5, "risk_us": 0.5, "risk_uf": -0.5}, "test", ("train", "subset", "test"),
        ),
        Quantity(
            "order_effect", "between the two orders", "order",
            {"risk_us": 1, "risk_as": -1, "risk_uf": -1, "risk_af": 1}, "test", ("train", "subset", "test"),
        ),
        Quantity("agg_risk", "aggregated risk", "total", {"risk_us": 1}, "test", short="total"),
    )
}  # fmt: skip

#: parts of encoder generalization, and what lies beside it
DETAILS = tuple(name for name, q in QUANTITIES.items() if q.kind == "detail")


def components(*, supervised: bool, order: Order = "paper") -> tuple[str, ...]:
    """Names of the components that sum to `agg_risk`; without a supervised twin the first two are one."""
    first = ("approx", "usability") if supervised else ("approx_usability",)
    return (*first, "enc_gen_alt", "probe_gen_alt") if order == "alternative" else (*first, "probe_gen", "enc_gen")


def estimated(known: "frozenset[str] | set[str]") -> tuple[str, ...]:
    """The quantities whose risks are all `known`, in the order of the table."""
    left_out = {"approx_usability"} if "risk_sup" in known else set()
    return tuple(name for name, q in QUANTITIES.items() if name not in left_out and known.issuperset(q.weights))
