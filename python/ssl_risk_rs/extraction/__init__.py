"""Images → representations → feature banks.

`ensure_bank("swav", "folder:imgs")` gives the bank of an encoder on a data set: from the store if it is
there, else by encoding what is missing. `extract` does the encoding for an encoder and a data set in hand.
Importing this package does not import torch.
"""

from ssl_risk_rs.extraction.cached import ensure_bank, ensure_banks
from ssl_risk_rs.extraction.job import extract
from ssl_risk_rs.extraction.settings import Encoding, ExtractionSettings
from ssl_risk_rs.extraction.shard import Filled, Shard, shards_filled

__all__ = [
    "Encoding", "ExtractionSettings", "Filled", "Shard", "ensure_bank", "ensure_banks", "extract", "shards_filled",
]  # fmt: skip
