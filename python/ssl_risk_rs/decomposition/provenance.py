"""What a run records of the features that it used: their names, and of banks their facts. No fit looks at it."""

from collections.abc import Mapping
from dataclasses import replace

from ssl_risk_rs._identity import saw
from ssl_risk_rs._notes import Note
from ssl_risk_rs.bank import BankHeader, FeatureBank
from ssl_risk_rs.results._json import from_json
from ssl_risk_rs.results.agreement import unreadable_notes
from ssl_risk_rs.results.provenance import BankFacts, Provenance

__all__ = ["bank_facts", "provenance_of", "with_banks"]


def provenance_of(
    features: object, supervised: object, control: object, *, name: str | None, group: str | None, target: str | None
) -> Provenance:
    """Where the features that `decompose` was given come from: of banks what their headers tell, of arrays little.

    name : of the encoder, where the caller has one
    """
    banks = {
        role: bank if isinstance(bank, FeatureBank) else None
        for role, bank in (("encoder", features), ("supervised", supervised), ("control", control))
    }
    named = {role: bank.shown_encoder for role, bank in banks.items() if bank is not None}
    bank = banks["encoder"]
    found = Provenance(
        encoder=name or named.get("encoder", "features"),
        data="arrays" if bank is None else bank.shown_data,
        supervised=named.get("supervised"),
        control=named.get("control"),
        group=group,
        target=target,
    )
    return with_banks(found, banks)


def bank_facts(bank: FeatureBank) -> BankFacts:
    """The facts of a bank's header that a reader of its numbers needs."""
    header = bank.header
    return BankFacts(
        path=str(bank.path.absolute()),
        encoder=header.encoder,
        weights_hash=header.weights_hash,
        feature=header.feature,
        precision=header.precision,
        data=header.data,
        data_fingerprint=header.data_fingerprint,
        view=header.view,
        dtype=bank.dtype,
        n_features=bank.n_features,
        img_size=header.img_size,
        content_hash=bank.content_hash,
        licence=header.licence,
        encoder_notes=header.encoder_notes or (),
        versions=header.versions or {},
    )


def with_banks(provenance: Provenance, banks: Mapping[str, FeatureBank | None]) -> Provenance:
    """The banks by role, and what the header of the encoder's tells of pretraining and of how its rows were made."""
    there = {role: bank for role, bank in banks.items() if bank is not None}
    if (encoder := there.get("encoder")) is None:
        return provenance
    header = encoder.header
    return replace(
        provenance,
        pretraining_data=header.pretraining_data,
        saw_training_images=saw(header.pretraining_id, header.data_id),
        banks={role: bank_facts(bank) for role, bank in there.items()},
        notes=(*provenance.notes, *_notes(header)),
    )


def _notes(header: BankHeader) -> list[Note]:
    """Of images the notes of the data, of an import those of its files."""
    found = [Note("text", {"text": _sentence(text)}) for text in header.data_notes or ()]
    for document in header.notes or ():
        try:
            note = from_json(Note, document)
        except (KeyError, TypeError, ValueError):
            note = Note("")
        if list(unreadable_notes([note])):
            note = Note("text", {"text": "The feature bank holds a note that this release cannot read."})
        found.append(note)
    return found


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}" + ("" if note.endswith(".") else ".")
