"""Statistics of a representation: how many directions it uses, how classes and views lie in it."""

from ssl_risk_rs.geometry.cka import linear_cka
from ssl_risk_rs.geometry.definitions import STATISTICS, Definition, Direction, Needs
from ssl_risk_rs.geometry.measuring import SampleRows, measure, stats
from ssl_risk_rs.geometry.nearest import Matches, find_matches
from ssl_risk_rs.geometry.result import Agreement, Geometry, Statistic, geometry_frame

__all__ = [
    "STATISTICS",
    "Agreement",
    "Definition",
    "Direction",
    "Geometry",
    "Matches",
    "Needs",
    "SampleRows",
    "Statistic",
    "find_matches",
    "geometry_frame",
    "linear_cka",
    "measure",
    "stats",
]
