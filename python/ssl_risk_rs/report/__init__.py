"""What people read: the table of a run, its sentences. Reads runs only, live or loaded."""

from ssl_risk_rs.report.text import render

__all__ = ["render"]
