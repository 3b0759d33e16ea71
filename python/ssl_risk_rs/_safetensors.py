"""The header of a safetensors file, after the library has checked the file."""

import json
from collections import Counter
from pathlib import Path

__all__ = ["read_header", "repeated_key"]


def read_header(path: Path) -> bytes:
    """The JSON text of the header; it begins at byte 8 of the file, and the tensors lie behind it."""
    with path.open("rb") as file:
        return file.read(int.from_bytes(file.read(8), "little"))


def repeated_key(header: bytes) -> str | None:
    """A key that an object of the header holds twice, of which the library keeps the last; None if none does.

    Raises
    ------
    ValueError for what is no JSON.
    """
    found: list[str] = []

    def keep(pairs: list[tuple[str, object]]) -> dict[str, object]:
        kept = dict(pairs)
        if len(kept) < len(pairs):
            found.append(Counter(key for key, _ in pairs).most_common(1)[0][0])
        return kept

    json.loads(header, object_pairs_hook=keep)
    return found[0] if found else None
