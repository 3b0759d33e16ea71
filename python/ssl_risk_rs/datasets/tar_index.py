"""Where the images of a tar shard lie: read once, header by header, and kept.

An image is then read by its offset, in any order and again after an interruption. The index of a shard is a file in
the cache folder, named by the shard's path and used only while size and time of the shard are the same.
"""

import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ssl_risk_rs._files import cache_folder, publish
from ssl_risk_rs.errors import DataError

__all__ = ["LABELS", "ShardIndex", "index_of"]

#: rises when an index holds something else
VERSION = 1

#: endings of labels, the first that a sample has is taken; and fields of a .json member that are one
LABELS = ("cls", "json", "txt")
FIELDS = ("label", "cls", "class")

#: longer texts are about an image and name no class; members beyond hold more than that
MOST_LABEL_BYTES, MOST_MEMBER_BYTES = 256, 1 << 20

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """Members of a shard that can be images or labels, in their order.

    key : bytes (m,), name of a member up to the first dot behind its last slash
    ending : bytes (m,), what follows that dot, in lower case
    offset, size : int64 (m,), where its bytes begin, and how many there are
    label : bytes (m,), the label that a member is (UTF-8), else empty
    n_special : int64 (1,), members that are neither file nor folder: links, devices, sparse files
    """

    key: np.ndarray
    ending: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray
    n_special: np.ndarray


def index_of(shard: Path) -> ShardIndex:
    """The index of a shard: from the cache, else read and kept there.

    Raises
    ------
    DataError for a shard that is compressed, damaged or cut short.
    """
    stat = shard.stat()
    facts = np.array([VERSION, stat.st_size, stat.st_mtime_ns], np.int64)
    name = blake2b(os.fsencode(shard), digest_size=16).hexdigest()
    kept = cache_folder() / "shards" / f"{name}.npz"
    found = _kept_index(kept, facts)
    if found is not None:
        return found
    index = _read_index(shard)
    with suppress(OSError):  # a folder one may not write to, a full disk: the shard is read again next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        publish(kept, lambda path: _write(path, facts, index))
    return index


def _write(path: Path, facts: np.ndarray, index: ShardIndex) -> None:
    arrays = {field.name: getattr(index, field.name) for field in fields(ShardIndex)}
    with path.open("wb") as file:  # savez would add an ending to a name
        np.savez(file, facts=facts, **arrays)


def _kept_index(path: Path, facts: np.ndarray) -> ShardIndex | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            if np.array_equal(file["facts"], facts):
                return ShardIndex(*(file[field.name] for field in fields(ShardIndex)))
    except Exception:  # absent, or damaged in any of the ways that numpy and zipfile know: made anew
        return None
    return None


def _read_index(shard: Path) -> ShardIndex:
    with shard.open("rb") as file:
        start = file.read(8)
    for magic, (what, undo) in _COMPRESSED.items():
        if start.startswith(magic):
            raise DataError(
                f"{shard} is compressed ({what}), so that no image in it can be read without all before it; "
                f"images are compressed already: decompress it once with {undo}"
            )
    rows: list[tuple[bytes, bytes, int, int, bytes]] = []
    n_special = 0
    with shard.open("rb") as file:
        for member in _members(shard, file):
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                n_special += 1
                continue
            folder, slash, base = member.name.rpartition("/")
            stem, dot, ending = base.partition(".")
            if not dot or not stem:  # no ending, or a hidden file
                continue
            label = b""
            if ending.lower() in LABELS and member.size <= MOST_MEMBER_BYTES:
                label = _label(ending.lower(), os.pread(file.fileno(), member.size, member.offset_data))
            key = os.fsencode(folder + slash + stem)
            rows.append((key, os.fsencode(ending.lower()), member.offset_data, member.size, label))
    keys, endings, offsets, sizes, labels = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return ShardIndex(
        np.array(keys, np.bytes_),
        np.array(endings, np.bytes_),
        np.array(offsets, np.int64),
        np.array(sizes, np.int64),
        np.array(labels, np.bytes_),
        np.array([n_special], np.int64),
    )


def _members(shard: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Every member of a tar file. The archive must end as one does, since a reader of the standard library stops
    without a word at a header that is damaged or cut."""
    size = os.stat(shard).st_size
    again = "copy the shard again"
    try:
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive:
            while (member := archive.next()) is not None:
                if member.offset_data + member.size > size:
                    raise DataError(
                        f"{shard} is cut short: {member.name!r} ends at byte {member.offset_data + member.size:,}, the "
                        f"file at {size:,}; {again}"
                    )
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                yield member
            end = archive.offset
    except tarfile.TarError as error:
        raise DataError(f"{shard} is damaged, or no tar file ({error}); {again}") from None
    if end + _BLOCK > size:
        raise DataError(f"{shard} is cut short: the mark that ends an archive is missing at byte {end:,}; {again}")
    file.seek(end)
    if file.read(_BLOCK).strip(b"\0"):
        raise DataError(f"{shard} is damaged at byte {end:,} of {size:,}: no member begins there; {again}")


def _label(ending: str, content: bytes) -> bytes:
    """A label as text; empty if there is none."""
    said = content.decode("utf-8", "backslashreplace").strip()
    if ending == "json":
        try:
            fields = json.loads(said)
        except (ValueError, RecursionError):  # brackets within brackets by the thousand are no label either
            return b""
        found = next((fields[name] for name in FIELDS if name in fields), None) if isinstance(fields, dict) else fields
        said = str(found) if isinstance(found, (str, int)) and not isinstance(found, bool) else ""
    label = said.encode("utf-8", "backslashreplace")
    return label if len(label) <= MOST_LABEL_BYTES else b""
