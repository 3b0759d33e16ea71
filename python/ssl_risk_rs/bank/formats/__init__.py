"""Features from other programs' files: npz, npy, safetensors, parquet, csv, torch.

Files of arrays hold `X_train, y_train, X_test, y_test`, or `X, y`, which are cut: 20 % of each class, drawn by
sample id and seed, become the test rows. Files of columns hold a column of lists or a numbered family of columns
(f0, f1, …). Nothing that needs unpickling is read. `read` finds the reader of a file, one module a kind; `load`
puts together what they found.
"""

from ssl_risk_rs.bank.formats.load import TEST_FRACTION, FeatureArrays, FeatureSource, load_features, read_source

__all__ = ["TEST_FRACTION", "FeatureArrays", "FeatureSource", "load_features", "read_source"]
