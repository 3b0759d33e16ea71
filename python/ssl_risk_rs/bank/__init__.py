"""Feature banks: representations on disk, the store that holds them, import and export."""

from ssl_risk_rs.bank.bank import SPLITS, FeatureBank, PartArrays, Split, fits_float16, in_float16_range, is_bank

__all__ = ["SPLITS", "FeatureBank", "PartArrays", "Split", "fits_float16", "in_float16_range", "is_bank"]
