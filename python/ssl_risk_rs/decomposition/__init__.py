"""Representations and labels → five risks → four signed components with intervals."""

from ssl_risk_rs.decomposition.decomposing import decompose, decompose_task
from ssl_risk_rs.decomposition.metrics import with_metrics
from ssl_risk_rs.decomposition.paired import compare
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.task import Task, make_task

__all__ = ["Settings", "Task", "compare", "decompose", "decompose_task", "make_task", "with_metrics"]
