"""The study of design choices over many encoders: frames in, frames out.

Heavy packages (SciPy, LightGBM: the extra `study`; those of the extra `report` for figures and pages) are imported
where they are used. LightGBM and PyTorch each bring a thread pool of their own, so that nothing here imports PyTorch.
"""

from ssl_risk_rs.study.effects import Effect, Status, frame
from ssl_risk_rs.study.law import LogitLaw, Prediction, fit_logit_law, imagenet_laws, predict_errors
from ssl_risk_rs.study.published import Correction, corrections, load_published
from ssl_risk_rs.study.study import Settings, Study, published_effects, run_study
from ssl_risk_rs.study.table import StudyTable, read_table, study_table

__all__ = [
    "Correction",
    "Effect",
    "LogitLaw",
    "Prediction",
    "Settings",
    "Status",
    "Study",
    "StudyTable",
    "corrections",
    "fit_logit_law",
    "frame",
    "imagenet_laws",
    "load_published",
    "predict_errors",
    "published_effects",
    "read_table",
    "run_study",
    "study_table",
]
