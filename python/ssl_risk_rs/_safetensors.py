"""The header of a safetensors file, after the library has checked the file."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Header", "read_header"]


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says.

    n_bytes : of its JSON text, which begins at byte 8 of the file; the tensors lie behind it
    entries : name → what JSON holds of it
    repeated : a key that an object holds twice, of which the library keeps the last; None if none does
    """

    n_bytes: int
    entries: dict[str, Any]
    repeated: str | None


def read_header(path: Path) -> Header:
    """Read and parse the header.

    Raises
    ------
    OSError; ValueError for what is no JSON.
    """
    with path.open("rb") as file:
        text = file.read(int.from_bytes(file.read(8), "little"))
    found: list[str] = []

    def keep(pairs: list[tuple[str, object]]) -> dict[str, object]:
        kept = dict(pairs)
        if len(kept) < len(pairs):
            found.append(Counter(key for key, _ in pairs).most_common(1)[0][0])
        return kept

    entries = json.loads(text, object_pairs_hook=keep)
    return Header(len(text), entries, found[0] if found else None)
