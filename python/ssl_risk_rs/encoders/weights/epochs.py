"""Which epoch a checkpoint is of: as the file itself records it, else the number in its name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ssl_risk_rs.encoders.facts import read_facts
from ssl_risk_rs.errors import EncoderError

__all__ = ["epoch_in_file", "epoch_in_name", "epoch_of"]

#: keys that training loops write beside the weights; `meta` holds them in OpenMMLab's files
_KEYS = ("epoch", "current_epoch", "cur_epoch")
_NAMED = re.compile(r"(?<![A-Za-z])(?:epoch|ep|e)[-_=.]?(\d+)", re.IGNORECASE)


def epoch_of(path: Path) -> tuple[float, Literal["file", "name"]] | tuple[None, None]:
    """The epoch and where it was read; (None, None) where neither the file nor its name tells."""
    if (found := epoch_in_file(path)) is not None:
        return found, "file"
    if (found := epoch_in_name(path.name)) is not None:
        return found, "name"
    return None, None


def epoch_in_file(path: Path) -> float | None:
    """The epoch that a file records; None where it records none or cannot be read."""
    from ssl_risk_rs.encoders.weights.archives import read_checkpoint

    facts: Mapping[str, object] = read_facts(path)
    if facts or path.suffix == ".safetensors":
        return _epoch(facts)
    try:
        content = read_checkpoint(path)
    except EncoderError:  # whoever needs the weights will say so
        return None
    return _epoch(content) if isinstance(content, Mapping) else None


def epoch_in_name(name: str) -> float | None:
    """The number behind `ep`, `epoch` or `e`, else the last number in a file's name; suffixes apart."""
    stem = re.sub(r"(\.[A-Za-z]\w*)+$", "", name)
    found = _NAMED.findall(stem) or re.findall(r"\d+", stem)
    return float(found[-1]) if found else None


def _epoch(content: Mapping[str, object]) -> float | None:
    for key in _KEYS:
        value = content.get(key)
        if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
            return float(value)
        if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a tensor of one number
            return float(value.item())
    meta = content.get("meta")
    return _epoch(meta) if isinstance(meta, Mapping) else None
