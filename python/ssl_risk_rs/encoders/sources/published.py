"""Encoders of the catalogue: a row of its tables becomes a spec, and a network filled from the row's files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.encoders.catalogue.tables import NATIVE, EncoderRow, Status, catalogue, published_entry
from ssl_risk_rs.encoders.feature_names import features_of
from ssl_risk_rs.encoders.names import parse_options
from ssl_risk_rs.encoders.spec import EncoderSpec
from ssl_risk_rs.encoders.weights.download import cached_path, fetch, url_of
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from torch import nn

    from ssl_risk_rs.encoders.weights.match import Choice

__all__ = ["Copy", "describe_published", "fetch_copies", "fill", "published_files"]


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of weights at hand, and the dialect of its names."""

    path: Path
    dialect: str = NATIVE


def describe_published(row: EncoderRow) -> EncoderSpec:
    """The spec of an encoder of the catalogue."""
    tables = catalogue()
    places = [tables.usable(file) or tables.files[file] for file in row.files]
    query = "&".join(item for item in row.options.split("&") if item and not item.startswith("num_classes="))
    dead = tables.status(row) is Status.ADDRESS_DEAD
    notes = [row.warning] if row.warning else []
    if dead:
        notes.append(f"Its published address is dead: give its file as ckpt:FILE@{row.name}.")
    licences = dict.fromkeys(f"{places_of[0].licence}" for places_of in places)
    return EncoderSpec(
        name=row.name,
        architecture=row.architecture,
        source=url_of(places[-1][0].address),
        features=features_of(row.architecture, row.feature),
        img_size=row.img_size,
        resize=row.resize,
        interpolation=row.interpolation,
        mean=row.mean,
        std=row.std,
        objective=row.objective,
        pretraining_data=row.pretraining_data,
        epochs=row.epochs,
        batch_size=row.batch_size,
        licence=" and ".join(licences),
        supervised_twin=row.twin or None,
        twin_labels="ImageNet-1K" if row.twin else None,
        random_twin=f"random:{row.architecture}" + (f"?{query}" if query else ""),
        options=row.options,
        notes=" ".join(notes) or None,
    )


def published_files(name: str) -> tuple[Path, ...]:
    """Where the files of an encoder of the catalogue lie, or would lie; empty for any other name."""
    row = published_entry(name)
    return () if row is None else tuple(_cached_file(file) for file in row.files)


def _cached_file(file: str) -> Path:
    """Where a file of the catalogue lies, or would lie once it is downloaded."""
    tables = catalogue()
    places = tables.files[file]
    held = [cached_path(place) for place in places if cached_path(place).is_file()]
    return (held or [cached_path((tables.usable(file) or places)[0])])[0]


def fetch_copies(row: EncoderRow, progress: Callable[[str], None]) -> list[Copy]:
    """The files of an encoder, downloaded where they are not at hand.

    Raises
    ------
    EncoderError if one cannot be had.
    """
    tables = catalogue()
    copies = []
    for file in row.files:
        path, place = fetch(tables.files[file], usable=tables.usable(file), name=row.name, progress=progress)
        copies.append(Copy(path, place.dialect))
    return copies


def fill(
    network: "nn.Module",
    copies: Sequence[Copy],
    choice: "Choice",
    *,
    name: str,
    progress: Callable[[str], None],
) -> None:
    """Fill a network from its files, each of them a part of it where there are several.

    Raises
    ------
    EncoderError if a file does not fit, or if there are more or fewer than the network has parts.
    """
    from dataclasses import replace

    from ssl_risk_rs.encoders.weights.matching import load_encoder

    parts: tuple[nn.Module, ...] = getattr(network, "weight_parts", (network,))
    if len(parts) != len(copies):
        raise EncoderError(
            f"{name} is made of {len(parts)} files, not {len(copies)}: name them in order, joined by commas, as in "
            f"ckpt:{','.join(f'FILE{i}' for i in range(1, len(parts) + 1))}@NAME"
        )
    for part, copy in zip(parts, copies, strict=True):
        found = load_encoder(part, copy.path, replace(choice, dialect=copy.dialect))
        progress(f"{name}: {found.summary()}")


def row_options(row: EncoderRow) -> dict[str, object]:
    """The row's options of the architecture, by name."""
    return parse_options(row.options, row.name)
