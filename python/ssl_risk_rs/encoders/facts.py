"""Facts in the header of an encoder's safetensors file, read without torch; the bundled encoders."""

import json
import struct
from importlib.resources import files
from pathlib import Path
from typing import Any

from ssl_risk_rs.encoders.spec import EncoderSpec

__all__ = ["BUNDLED", "bundled_path", "read_facts", "spec_from_facts"]

#: encoders inside the package, for the demo and the tests: scripts/pretrain.py made them
BUNDLED = ("demo_ssl", "demo_supervised", "demo_random")

_MAX_HEADER = 1 << 26  # a header is some kilobytes; more is a damaged length


def bundled_path(name: str) -> Path:
    """The weights of a bundled encoder."""
    return Path(str(files(__package__))) / "weights" / f"{name}.safetensors"


def read_facts(path: Path) -> dict[str, str]:
    """The text metadata of a safetensors file; empty for any other file."""
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = file.read(length) if 2 <= length < _MAX_HEADER else b""
        facts = json.loads(header).get("__metadata__", {}) if header[:1] == b"{" else {}
    except (OSError, struct.error, ValueError, AttributeError):
        return {}
    return {str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}


def spec_from_facts(name: str, path: Path, facts: dict[str, str]) -> EncoderSpec:
    """Spec of an encoder that scripts/pretrain.py wrote; twins are files beside it (or bundled names)."""

    def twin(key: str) -> str | None:
        if name in BUNDLED:
            return facts.get(key, "").removesuffix(".safetensors") or None
        return f"ckpt:{path.absolute().parent / facts[key]}" if key in facts else None

    size, objective = int(facts["img_size"]), facts["objective"]
    made: dict[str, Any] = {"objective": objective, "pretraining_data": facts["pretraining_data"]}
    if objective == "none":
        made = {"objective": None, "pretraining_data": None}
    supervised = twin("supervised_twin")
    return EncoderSpec(
        name=name,
        architecture=facts["architecture"],
        source="bundled" if name in BUNDLED else str(path),
        features=("output",),
        img_size=size,
        resize=size,
        mean=(float(facts["mean"]),),
        std=(float(facts["std"]),),
        channels=int(facts["channels"]),
        epochs=int(facts["epochs"]) or None,
        batch_size=int(facts["batch_size"]) if made["objective"] else None,
        licence="MIT (this project)" if name in BUNDLED else None,
        supervised_twin=supervised,
        twin_labels=facts.get("twin_labels") if supervised else None,
        random_twin=twin("random_twin"),
        **made,
    )
