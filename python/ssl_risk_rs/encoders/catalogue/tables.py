"""The catalogue's tables, read once and checked: a wrong cell is an error that names table, line and column.

encoders.tsv     a line for each name: file, architecture, feature, preprocessing, training, twin, warning
files.tsv        a line for each address of a file: the original first, then mirrors, each with its dialect
dialects.tsv     a line for each rule that translates another library's names of tensors
published.tsv    the paper's hyper-parameters and metadata, under its own names and categories, as printed

Cells of published.tsv that are known to be wrong stand in the package's corrections.tsv (`_corrections`).

Nothing here imports torch.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files as package_files
from importlib.util import find_spec

from ssl_risk_rs._corrections import corrections_text
from ssl_risk_rs.errors import EncoderError

__all__ = [
    "Address",
    "Catalogue",
    "Dialect",
    "EncoderRow",
    "Rule",
    "Status",
    "catalogue",
    "published_entry",
    "published_names",
    "resolve_alias",
]

#: names as the architecture itself has them
NATIVE = "native"

#: how a file is stored
READERS = ("torch", "pickle", "safetensors")

#: what is known of an address: "alive", its host answers; "assumed", nothing speaks against it; "unknown"; "fragile",
#: the host is known to refuse at times; "doubtful", it may hold other weights; "dead"
STATES = ("alive", "assumed", "unknown", "fragile", "doubtful", "dead")

#: addresses that are tried
USABLE = ("alive", "assumed", "unknown", "fragile")

INTERPOLATIONS = ("bilinear", "bicubic")

#: operations that take no value
_PLAIN = ("rename", "hwio", "squeeze", "lead", "flatten", "flatten_out", "flatten_in", "transpose", "fold")
#: operations that stand alone
_ALONE = ("drop", "copy", "ask", "note")


class Status(Enum):
    """Whether an encoder's name can be used here and now."""

    LOADS = "loads"
    NEEDS_EXTRA = "needs extra"
    ADDRESS_DEAD = "address dead"


@dataclass(frozen=True, slots=True)
class Address:
    """One place of a file.

    Attributes
    ----------
    file : the file it is a copy of
    address : https://…, or hf:ORG/NAME/FILE for a repository of the Hugging Face hub
    dialect : names of the tensors there; "native" for the architecture's own
    reader : how it is stored
    state : one of `STATES`
    n_bytes : size, None where nobody published it
    sha256 : its published digest or the beginning of it; "" for none
    licence, licence_source : of the weights, and where that is said
    """

    file: str
    address: str
    dialect: str
    reader: str
    state: str
    n_bytes: int | None
    sha256: str
    licence: str
    licence_source: str


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One published encoder.

    Attributes
    ----------
    name : the paper's
    group : "paper", one of the 169; "supervised", one of its twins; "outside", neither
    files : what its weights are made of; almost always one
    architecture, options : one of ours or timm's, and its options as in a name after the question mark
    dialects : of the original of each file
    feature : the one the paper evaluates
    img_size, resize, interpolation, mean, std : the paper's preprocessing; `resize` is the short side before the crop
    objective, pretraining_data, epochs, batch_size : how the weights came about, corrected where the paper is wrong
    twin : name of the same architecture trained with labels, "" for none
    alias : a short name, "" for none
    warning : anything a user of the numbers should know, "" for nothing
    """

    name: str
    group: str
    files: tuple[str, ...]
    architecture: str
    options: str
    dialects: tuple[str, ...]
    feature: str
    img_size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    objective: str
    pretraining_data: str
    epochs: int | None
    batch_size: int | None
    twin: str
    alias: str
    warning: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a dialect.

    Attributes
    ----------
    pattern : of a name in the file, behind any prefix; None for what the file does not have
    becomes : the architecture's name: {2} is the pattern's second group, {2+1} that number plus one, * anything
    operations : what is done to the tensor, one after another
    """

    pattern: re.Pattern[str] | None
    becomes: str
    operations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """Another library's names of tensors, and how they become the architecture's."""

    name: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All tables.

    Attributes
    ----------
    encoders : by name in lower case, in the table's order
    files : addresses of each file, the original first
    dialects : by name
    aliases : short names → names
    published : the paper's columns of each of its encoders, as printed, by name
    corrections : (name, column) → (right value, reason)
    """

    encoders: Mapping[str, EncoderRow]
    files: Mapping[str, tuple[Address, ...]]
    dialects: Mapping[str, Dialect]
    aliases: Mapping[str, str]
    published: Mapping[str, Mapping[str, str]]
    corrections: Mapping[tuple[str, str], tuple[str, str]]

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> "Catalogue":
        """Read and check the tables, given by name.

        Raises
        ------
        EncoderError that names table, line and column of the first fault.
        """
        dialects = _read_dialects(_rows("dialects", texts["dialects"], _DIALECT_COLUMNS))
        places = _read_files(_rows("files", texts["files"], _FILE_COLUMNS), dialects)
        encoders: dict[str, EncoderRow] = {}
        for line in _rows("encoders", texts["encoders"], _ENCODER_COLUMNS):
            row = _read_encoder(line, places, dialects)
            if encoders.setdefault(row.name.lower(), row) is not row:
                raise line.fault("name", "it is there twice")
        for row in encoders.values():
            if row.twin and row.twin.lower() not in encoders:
                raise EncoderError(f"catalogue, table encoders: the twin {row.twin} of {row.name} is no encoder of it")
        if unused := places.keys() - {file for row in encoders.values() for file in row.files}:
            raise EncoderError(f"catalogue, table files: no encoder is made of {min(unused)}")
        aliases = {row.alias: row.name for row in encoders.values() if row.alias}
        if clash := aliases.keys() & encoders.keys():
            raise EncoderError(f"catalogue, table encoders: the alias {min(clash)} is an encoder's name too")
        published = {
            line["name"]: {column: cell for column, cell in line.cells.items() if column != "name"}
            for line in _rows("published", texts["published"], ("name",))
        }
        if lost := [n for n in published if n.lower() not in encoders or encoders[n.lower()].group != "paper"]:
            raise EncoderError(f"catalogue, table published: {lost[0]} is no encoder of the paper")
        if lost := [r.name for r in encoders.values() if r.group == "paper" and r.name not in published]:
            raise EncoderError(f"catalogue, table published: {lost[0]} is missing")
        corrections: dict[tuple[str, str], tuple[str, str]] = {}
        for line in _rows("corrections", texts["corrections"], _CORRECTION_COLUMNS):
            name, column = line["name"], line["column"]
            if name not in published or published[name].get(column) != line["published"]:
                raise line.fault("published", f"table published has no such {column} of {name}")
            corrections[name, column] = (line["corrected"], line["reason"])
        return cls(encoders, places, dialects, aliases, published, corrections)

    def usable(self, file: str) -> tuple[Address, ...]:
        """Addresses of a file that are tried, in order."""
        return tuple(place for place in self.files[file] if place.state in USABLE)

    def status(self, row: EncoderRow) -> Status:
        """Whether the name can be used with the packages that are installed here."""
        if not all(self.usable(file) for file in row.files):
            return Status.ADDRESS_DEAD
        return Status.NEEDS_EXTRA if self.missing_packages() else Status.LOADS

    @staticmethod
    def missing_packages() -> tuple[str, ...]:
        """Packages that run encoders and are not installed."""
        return tuple(name for name in ("torch", "torchvision", "timm") if find_spec(name) is None)

    def corrected(self, name: str) -> dict[str, str]:
        """The paper's columns of an encoder, wrong cells put right."""
        cells = dict(self.published.get(name, {}))
        return cells | {column: value for (n, column), (value, _) in self.corrections.items() if n == name}


@cache
def catalogue() -> Catalogue:
    """The tables of this package."""
    folder = package_files(__package__)
    names = ("encoders", "files", "dialects", "published")
    texts = {name: (folder / f"{name}.tsv").read_text(encoding="utf-8") for name in names}
    return Catalogue.read({**texts, "corrections": corrections_text()})


def resolve_alias(name: str) -> str:
    """The name an alias stands for; any other name unchanged."""
    return catalogue().aliases.get(name.lower(), name)


def published_entry(name: str) -> EncoderRow | None:
    """The row of `name` (any case, aliases allowed), or None."""
    return catalogue().encoders.get(resolve_alias(name).lower())


def published_names(*, loadable_only: bool = False) -> list[str]:
    """Names of the catalogue, in its order; `loadable_only` leaves out those without a living address."""
    tables = catalogue()
    return [
        row.name
        for row in tables.encoders.values()
        if not (loadable_only and tables.status(row) is Status.ADDRESS_DEAD)
    ]


# --- reading ----------------------------------------------------------------------------------------

_ENCODER_COLUMNS = (
    "name", "group", "file", "architecture", "options", "dialect", "feature", "img_size", "resize", "interpolation",
    "mean", "std", "objective", "pretraining_data", "epochs", "batch_size", "twin", "alias", "warning",
)  # fmt: skip
_FILE_COLUMNS = (
    "file", "address", "dialect", "reader", "state", "bytes", "sha256", "licence", "licence_source",
)  # fmt: skip
_DIALECT_COLUMNS = ("dialect", "match", "becomes", "operation")
_CORRECTION_COLUMNS = ("name", "column", "published", "corrected", "reason")


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a table, its cells by column."""

    table: str
    number: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def fault(self, column: str, what: str) -> EncoderError:
        """An error that says where."""
        value = self.cells.get(column, "")
        return EncoderError(f"catalogue, table {self.table}, line {self.number}, {column} {value!r}: {what}")

    def number_in(self, column: str, *, optional: bool = False) -> int | None:
        """A whole number above 0."""
        text = self[column]
        if optional and not text:
            return None
        if not (text.isdigit() and int(text) > 0):
            raise self.fault(column, "it is no whole number above 0")
        return int(text)

    def size_in(self, column: str) -> int:
        """A whole number above 0 that is there."""
        found = self.number_in(column)
        if found is None:
            raise self.fault(column, "it is empty")
        return found

    def one_of(self, column: str, choices: Iterable[str]) -> str:
        """A cell with one of a few values."""
        known = list(choices)
        if self[column] not in known:
            raise self.fault(column, f"it is none of {', '.join(known[:12])}")
        return self[column]

    def filled(self, column: str) -> str:
        """A cell that is not empty."""
        if not self[column]:
            raise self.fault(column, "it is empty")
        return self[column]


def _rows(table: str, text: str, columns: tuple[str, ...]) -> list[_Line]:
    reader = csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    head = next(reader, [])
    if tuple(head[: len(columns)]) != columns or (len(head) > len(columns) and len(columns) > 1):
        raise EncoderError(f"catalogue, table {table}: its columns are {', '.join(head)}, not {', '.join(columns)}")
    lines = []
    for number, cells in enumerate(reader, 2):
        if len(cells) != len(head):
            raise EncoderError(f"catalogue, table {table}, line {number}: {len(cells)} cells in {len(head)} columns")
        lines.append(_Line(table, number, dict(zip(head, cells, strict=True))))
    return lines


def _read_encoder(
    line: _Line, places: Mapping[str, tuple[Address, ...]], dialects: Mapping[str, Dialect]
) -> EncoderRow:
    parts, languages = tuple(line.filled("file").split("+")), tuple(line["dialect"].split("+"))
    if unknown := [part for part in parts if part not in places]:
        raise line.fault("file", f"table files has no {unknown[0]}")
    if unknown := [name for name in languages if name != NATIVE and name not in dialects]:
        raise line.fault("dialect", f"table dialects has no {unknown[0]!r}")
    if len(parts) != len(languages):
        raise line.fault("dialect", f"it is one for each file, {len(parts)}")
    for item in line["options"].split("&") if line["options"] else []:
        if not re.fullmatch(r"\w+=[\w.]+", item):
            raise line.fault("options", "options are key=value, joined by &")
    return EncoderRow(
        name=line.filled("name"),
        group=line.one_of("group", ("paper", "supervised", "outside")),
        files=parts,
        architecture=line.filled("architecture"),
        options=line["options"],
        dialects=languages,
        feature=line.filled("feature"),
        img_size=line.size_in("img_size"),
        resize=line.size_in("resize"),
        interpolation=line.one_of("interpolation", INTERPOLATIONS),
        mean=_channels(line, "mean"),
        std=_channels(line, "std"),
        objective=line.filled("objective"),
        pretraining_data=line.filled("pretraining_data"),
        epochs=line.number_in("epochs", optional=True),
        batch_size=line.number_in("batch_size", optional=True),
        twin=line["twin"],
        alias=line["alias"],
        warning=line["warning"],
    )


def _channels(line: _Line, column: str) -> tuple[float, ...]:
    try:
        values = tuple(float(value) for value in line[column].split(","))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(0 < value < 1 for value in values):
        raise line.fault(column, "it is three numbers between 0 and 1, joined by commas")
    return values


def _read_files(lines: list[_Line], dialects: Mapping[str, Dialect]) -> dict[str, tuple[Address, ...]]:
    found: dict[str, list[Address]] = {}
    for line in lines:
        if not re.match(r"https://\S+$|hf:[\w.-]+/[\w.-]+/\S+$", line["address"]):
            raise line.fault("address", "it is neither https://… nor hf:ORG/NAME/FILE")
        if not re.fullmatch(r"[0-9a-f]{0,64}", line["sha256"]):
            raise line.fault("sha256", "it is no beginning of a SHA-256 in small hexadecimal letters")
        place = Address(
            file=line.filled("file"),
            address=line["address"],
            dialect=line.one_of("dialect", (NATIVE, *dialects)),
            reader=line.one_of("reader", READERS),
            state=line.one_of("state", STATES),
            n_bytes=line.number_in("bytes", optional=True),
            sha256=line["sha256"],
            licence=line.filled("licence"),
            licence_source=line["licence_source"],
        )
        found.setdefault(place.file, []).append(place)
    return {file: tuple(addresses) for file, addresses in found.items()}


def _read_dialects(lines: list[_Line]) -> dict[str, Dialect]:
    found: dict[str, list[Rule]] = {}
    for line in lines:
        operations = tuple(line["operation"].split())
        fits = [op for op in operations if op in _PLAIN or re.fullmatch(r"join:\d", op)]
        alone = len(operations) == 1 and (operations[0] in _ALONE or re.fullmatch(r"fill:[01]", operations[0]))
        if not operations or not (alone or len(fits) == len(operations)):
            raise line.fault("operation", f"operations are {', '.join(_PLAIN + _ALONE)}, join:0 and fill:1")
        try:
            pattern = re.compile(rf"(?P<prefix>(?:.*?\.)??)(?:{line['match']})") if line["match"] else None
        except re.error as error:
            raise line.fault("match", f"it is no pattern: {error}") from error
        if (pattern is None) != operations[0].startswith("fill:"):
            raise line.fault("match", "only what is filled in has no pattern")
        n_groups = pattern.groups - 1 if pattern else 0
        used = [int(group) for group in re.findall(r"\{(\d+)(?:[+-]\d+)?\}", line["becomes"])]
        if any(group > n_groups for group in used):
            raise line.fault("becomes", f"the pattern has {n_groups} groups")
        if not line["becomes"] and operations[0] != "drop":
            raise line.fault("becomes", "it is empty")
        found.setdefault(line.filled("dialect"), []).append(Rule(pattern, line["becomes"], operations))
    return {name: Dialect(name, tuple(rules)) for name, rules in found.items()}
