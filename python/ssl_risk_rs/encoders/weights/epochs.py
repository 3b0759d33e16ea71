"""Which epoch a checkpoint is of: as the file itself records it, else the number in its name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ssl_risk_rs.encoders.facts import read_facts
from ssl_risk_rs.errors import EncoderError

__all__ = ["epoch_in_file", "epoch_in_name", "epoch_of", "without_suffixes"]

#: keys that training loops write beside the weights; `meta` holds them in OpenMMLab's files
_KEYS = ("epoch", "current_epoch", "cur_epoch")
_NAMED = re.compile(r"(?<![A-Za-z])(?:epoch|ep)[-_=.]?(\d+)", re.IGNORECASE)
#: as in `resnet18-e3`, but neither in `1e-3` nor in `e2e`
_SHORT = re.compile(r"(?<![A-Za-z0-9])e[-_=.]?(\d+)(?![A-Za-z])", re.IGNORECASE)
#: learning rates, temperatures and the like
_SETTINGS = re.compile(r"\d+(?:\.\d+)?e-\d+|(?<!\d)0\.\d+", re.IGNORECASE)


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
    """The number behind `ep` or `epoch`, else behind `e`, else the last whole one in a file's name; suffixes apart."""
    stem = without_suffixes(name)
    found = _NAMED.findall(stem) or _SHORT.findall(stem) or re.findall(r"\d+", _SETTINGS.sub("", stem))
    return float(found[-1]) if found else None


def without_suffixes(name: str) -> str:
    """A file's name without `.pth`, `.pth.tar` and the like; the point of a number begins no suffix."""
    return re.sub(r"(\.[A-Za-z]\w*)+$", "", name)


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
