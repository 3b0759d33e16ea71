"""Feature banks: representations on disk, the store that holds them, import and export."""

from ssl_risk_rs.bank.bank import FeatureBank, PartArrays, fits_float16, in_float16_range, is_bank, only_one
from ssl_risk_rs.bank.header import BankHeader, ExcludedImage
from ssl_risk_rs.bank.samples import SPLITS, Split

__all__ = [
    "SPLITS",
    "BankHeader",
    "ExcludedImage",
    "FeatureBank",
    "PartArrays",
    "Split",
    "fits_float16",
    "in_float16_range",
    "is_bank",
    "only_one",
]
