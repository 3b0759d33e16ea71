"""What a run records of a feature bank."""

from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.results.provenance import BankFacts

__all__ = ["bank_facts"]


def bank_facts(bank: FeatureBank) -> BankFacts:
    """The facts of a bank's header that a reader of its numbers needs."""
    header = bank.header
    return BankFacts(
        path=str(bank.path),
        encoder=header.get("encoder"),
        weights_hash=header.get("weights_hash"),
        feature=header.get("feature"),
        precision=header.get("precision"),
        data=header.get("data"),
        data_fingerprint=header.get("data_fingerprint"),
        dtype=bank.dtype,
        n_features=bank.n_features,
        licence=header.get("licence"),
        versions=header.get("versions") or {},
    )
