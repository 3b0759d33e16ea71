"""What a run records of a feature bank."""

from ssl_risk_rs.bank import FeatureBank
from ssl_risk_rs.results.provenance import BankFacts

__all__ = ["bank_facts"]


def bank_facts(bank: FeatureBank) -> BankFacts:
    """The facts of a bank's header that a reader of its numbers needs."""
    header = bank.header
    return BankFacts(
        path=str(bank.path),
        encoder=header.encoder,
        weights_hash=header.weights_hash,
        feature=header.feature,
        precision=header.precision,
        data=header.data,
        data_fingerprint=header.data_fingerprint,
        view=header.view,
        dtype=bank.dtype,
        n_features=bank.n_features,
        licence=header.licence,
        versions=header.versions or {},
    )
