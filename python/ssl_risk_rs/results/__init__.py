"""Results: quantities, estimates, judged rows, runs that are written and read back."""

from ssl_risk_rs.errors import NotComparableError, ResultError
from ssl_risk_rs.results.compare import Comparison, Difference, DimensionPart, Matched, Rank
from ssl_risk_rs.results.estimate import Estimate, Grade
from ssl_risk_rs.results.fewshot import FewShot, LabelCurve, ShotSize
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.quantities import QUANTITIES, Quantity
from ssl_risk_rs.results.reading import read_results, to_pandas
from ssl_risk_rs.results.run import Decomposition, Run, check_target

__all__ = [
    "QUANTITIES", "Comparison", "Decomposition", "Difference", "DimensionPart", "Estimate", "FewShot", "Grade",
    "Judgements", "LabelCurve", "Matched", "NotComparableError", "Outcome", "Provenance", "Quantity", "Rank",
    "ResultError", "Run", "ShotSize", "check_target", "read_results", "to_pandas",
]  # fmt: skip
