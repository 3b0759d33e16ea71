"""Results: quantities, estimates, judged rows, runs that are written and read back."""

from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.fewshot import FewShot, LabelCurve, ShotSize
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.quantities import QUANTITIES, Quantity
from ssl_risk_rs.results.run import Decomposition, ResultError, Run, check_target

__all__ = [
    "QUANTITIES", "Decomposition", "Estimate", "FewShot", "Grade", "Judgements", "LabelCurve", "Outcome",
    "Provenance", "Quantity", "ResultError", "Run", "ShotSize", "check_target",
]  # fmt: skip
