"""`bank.json`: what a bank's maker recorded, as typed fields."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

from ssl_risk_rs.errors import BankError, ParameterError

__all__ = ["JSON", "BankDocument", "BankHeader", "ExcludedImage"]

FORMAT = "ssl-risk-bank"
SCHEMA_VERSION = 1

JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None


@dataclass(frozen=True, slots=True)
class ExcludedImage:
    """An image that could not be decoded and was left out."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BankHeader:
    """Where a bank's numbers come from. A field is None where the maker did not record it.

    What was recorded beyond these fields, or as another type than theirs, is kept in `extra`, and written again by
    `to_json`.
    """

    #: name of the encoder, and everything that describes it (`EncoderSpec.to_dict`)
    encoder: str | None = None
    encoder_spec: Mapping[str, JSON] | None = None
    #: sentences on how it was built: tensors of its file, what was left over, preprocessing that was guessed
    encoder_notes: tuple[str, ...] | None = None
    #: hash of the encoder's weights
    weights_hash: str | None = None
    #: hash and names of the files of code that an encoder given as code consists of
    code_hash: str | None = None
    code_files: tuple[str, ...] | None = None
    #: which of the encoder's features: layer and pooling, and the name made of both
    feature: str | None = None
    layer: str | None = None
    pooling: str | None = None
    #: side of the images that the network saw, in pixels
    img_size: int | None = None
    #: from decoded image to network input
    transform: Mapping[str, JSON] | None = None
    #: in which the encoder computed: float32, bfloat16 …; on which device
    precision: str | None = None
    device: str | None = None
    #: the data set as it was asked for (a URI), its name, and the hash of its files
    data: str | None = None
    data_name: str | None = None
    data_fingerprint: str | None = None
    #: which known data set the images are, and what was recognised of it
    data_id: str | None = None
    data_identity: Mapping[str, JSON] | None = None
    #: sentences about the data that a user should read
    data_notes: tuple[str, ...] | None = None
    #: how many images were taken, if not all, and the column whose groups were kept whole
    limit: str | None = None
    limit_group: str | None = None
    #: whether images were turned as their EXIF data say, and the version of the rules that decode them
    exif_orientation: bool | None = None
    #: number of the augmented view that images were seen in
    view: int | None = None
    pixels_version: int | None = None
    #: test images that are training images too
    overlap: Mapping[str, JSON] | None = None
    #: images that could not be decoded
    excluded: tuple[ExcludedImage, ...] | None = None
    #: name of each class
    class_names: tuple[str, ...] | None = None
    #: data that trained the encoder, if known, and which known data set they are
    pretraining_data: str | None = None
    pretraining_id: str | None = None
    #: licence of the encoder's weights
    licence: str | None = None
    #: library → version
    versions: Mapping[str, str] | None = None
    #: hash of all facts that change the numbers
    key: str | None = None
    #: files of imported features, and what was cut, left out or guessed on importing them: a sentence in banks of
    #: 0.1.0, since then notes with code and values
    source: str | None = None
    source_test: str | None = None
    note: str | None = None
    notes: tuple[Mapping[str, JSON], ...] | None = None
    #: what else was recorded
    extra: Mapping[str, JSON] = field(default_factory=dict)

    @classmethod
    def from_json(cls, header: Mapping[str, JSON]) -> "BankHeader":
        """The header in a `bank.json` of any schema version that this release reads.

        Raises
        ------
        ParameterError if class_names is no list of strings: labels are numbers of it.
        """
        known: dict[str, Any] = {}
        extra: dict[str, JSON] = {}
        for name, value in header.items():
            if value is None and name in _FIELDS:
                continue
            try:
                known[name] = _FIELDS[name](name, value)
            except KeyError:
                extra[name] = value
            except ParameterError:
                if name == "class_names":
                    raise
                extra[name] = value
        return cls(**known, extra=extra)

    def to_json(self) -> dict[str, JSON]:
        """The object that `from_json` reads, with the fields that are known."""
        known = {name: _plain(getattr(self, name)) for name in _FIELDS}
        recorded = {name: value for name, value in known.items() if value is not None}
        return recorded | {name: _plain(value) for name, value in self.extra.items()}


@dataclass(frozen=True, slots=True)
class BankDocument:
    """A whole `bank.json`."""

    n_rows: int
    n_features: int
    dtype: str
    header: BankHeader
    #: SHA-256 of `samples.parquet`; None in banks that other programs made without it
    samples_sha256: str | None = None
    #: when the bank was made, ISO 8601, UTC
    created: str | None = None

    @classmethod
    def read(cls, path: Path) -> "BankDocument":
        """Read the `bank.json` at `path`, which the core has found to be that of a bank.

        Raises
        ------
        BankError for text that is no UTF-8 or no JSON, or a field of another type than the format gives it.
        """
        try:
            document: JSON = json.loads(path.read_bytes().decode("utf-8"))
            json.dumps(document, ensure_ascii=False).encode("utf-8")  # no half of a character in an escape
        except (UnicodeDecodeError, UnicodeEncodeError) as error:
            raise BankError(f"{path} is no UTF-8 text ({error.reason}); {_ADVICE}") from None
        except (ValueError, RecursionError) as error:
            raise BankError(f"{path} is no JSON ({error}); {_ADVICE}") from None
        except OSError as error:
            raise BankError(f"{path} cannot be read: {error.strerror}") from None
        try:
            return cls.from_json(_object("bank.json", document))
        except ParameterError as error:
            raise BankError(f"{path}: {error}; {_ADVICE}") from None

    @classmethod
    def from_json(cls, document: Mapping[str, JSON]) -> "BankDocument":
        version = document.get("schema_version")
        if document.get("format") != FORMAT or version != SCHEMA_VERSION:
            raise ParameterError(f"format {document.get('format')!r}, schema version {version!r} cannot be read")
        created, digest = document.get("created"), document.get("samples_sha256")
        return cls(
            n_rows=_integer("n_rows", document.get("n_rows")),
            n_features=_integer("n_features", document.get("n_features")),
            dtype=_string("dtype", document.get("dtype")),
            header=BankHeader.from_json(_object("header", document.get("header", {}))),
            samples_sha256=None if digest is None else _string("samples_sha256", digest),
            created=None if created is None else _string("created", created),
        )

    def to_json(self) -> dict[str, JSON]:
        plain: dict[str, JSON] = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "n_rows": self.n_rows,
            "n_features": self.n_features,
            "dtype": self.dtype,
            "header": self.header.to_json(),
        }
        if self.samples_sha256 is not None:
            plain["samples_sha256"] = self.samples_sha256
        if self.created is not None:
            plain["created"] = self.created
        return plain

    def differences(self, other: "BankDocument") -> list[str]:
        """Lines that say what differs between this document, "there", and another, "asked for"."""

        def facts(document: BankDocument) -> dict[str, JSON]:
            shape: dict[str, JSON] = {
                "n_rows": document.n_rows,
                "n_features": document.n_features,
                "dtype": document.dtype,
            }
            return shape | document.header.to_json()

        old, new = facts(self), facts(other)
        return [
            f"{name}: {short(old.get(name))} there, {short(new.get(name))} asked for"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]


def header_of(given: Mapping[str, Any] | BankHeader) -> BankHeader:
    """A maker's header as it will be read back: lists for tuples, strings for keys.

    Raises
    ------
    ParameterError if it cannot be written as JSON, or has a field of another type than the format gives it.
    """
    facts = given.to_json() if isinstance(given, BankHeader) else dict(given)
    try:
        text = json.dumps(facts, allow_nan=False, ensure_ascii=False)
        text.encode("utf-8")
        plain = _object("header", json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise ParameterError(f"header cannot be written as JSON: {error}") from None
    for name, value in plain.items():
        if name in _FIELDS and value is not None:
            try:
                _FIELDS[name](name, value)
            except ParameterError as error:
                raise ParameterError(f"header's {error}") from None
    return BankHeader.from_json(plain)


def short(value: object) -> str:
    """A value in a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "…"


_ADVICE = "copy the bank again, or remove it and make it anew"


def _plain(value: object) -> JSON:
    """Lists for tuples, dicts for mappings and excluded images."""
    if isinstance(value, ExcludedImage):
        return {"where": value.where, "reason": value.reason}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    assert value is None or isinstance(value, (bool, int, float, str))
    return value


def _string(name: str, value: JSON) -> str:
    if not isinstance(value, str):
        raise ParameterError(f"{name} is {short(value)}, expected a string")
    return value


def _integer(name: str, value: JSON) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ParameterError(f"{name} is {short(value)}, expected a whole number")
    return value


def _boolean(name: str, value: JSON) -> bool:
    if not isinstance(value, bool):
        raise ParameterError(f"{name} is {short(value)}, expected true or false")
    return value


def _object(name: str, value: JSON) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise ParameterError(f"{name} is {short(value)}, expected an object")
    return value


def _strings(name: str, value: JSON) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ParameterError(f"{name} is {short(value)}, expected a list of strings")
    return tuple(str(item) for item in value)


def _versions(name: str, value: JSON) -> Mapping[str, str]:
    return {library: _string(f"{name}.{library}", v) for library, v in _object(name, value).items()}


def _mapping(name: str, value: JSON) -> Mapping[str, JSON]:
    return _object(name, value)


def _objects(name: str, value: JSON) -> tuple[dict[str, JSON], ...]:
    if not isinstance(value, list):
        raise ParameterError(f"{name} is {short(value)}, expected a list")
    return tuple(_object(f"{name}[{i}]", item) for i, item in enumerate(value))


def _excluded(name: str, value: JSON) -> tuple[ExcludedImage, ...]:
    return tuple(
        ExcludedImage(*(_string(f"{name}[{i}].{part}", image.get(part)) for part in ("where", "reason")))
        for i, image in enumerate(_objects(name, value))
    )


#: every field but `extra`, and how it is read
_FIELDS: dict[str, Callable[[str, JSON], Any]] = {
    f.name: {
        "encoder_spec": _mapping,
        "encoder_notes": _strings,
        "transform": _mapping,
        "versions": _versions,
        "img_size": _integer,
        "data_notes": _strings,
        "class_names": _strings,
        "excluded": _excluded,
        "code_files": _strings,
        "data_identity": _mapping,
        "exif_orientation": _boolean,
        "view": _integer,
        "pixels_version": _integer,
        "overlap": _mapping,
        "notes": _objects,
    }.get(f.name, _string)
    for f in fields(BankHeader)
    if f.name != "extra"
}
