"""What people read: the table of a run, its sentences. Reads runs only, live or loaded."""

from ssl_risk_rs.report.latex import to_latex
from ssl_risk_rs.report.text import render

__all__ = ["render", "to_latex"]
