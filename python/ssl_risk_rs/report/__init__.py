"""What people read: the table of a decomposition."""

from ssl_risk_rs.report.table import render

__all__ = ["render"]
