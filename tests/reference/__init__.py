"""Slow, obvious float64 definitions of what the package computes, written from the documents alone.

`probes` (ridge and logistic), `strict` and `paper` (the two protocols), `intervals` (variances, degrees of
freedom, intervals) and `draw` (cells of whole groups). Nothing here imports ssl_risk_rs; scikit-learn, scipy
and numpy are the only tools. Tests of other rooms write `from reference import strict`: tests/conftest.py
makes the package known by that name.
"""
