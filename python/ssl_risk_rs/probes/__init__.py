"""Linear probes: scikit-learn estimators over the package's solvers."""
