"""The tensors in a file's content, each by the full path that leads to it.

`state_dict`, `module.`, attributes of pickled modules, positions in lists: all become one name with dots. Words that
training wrappers put into names anywhere are taken out and counted.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssl_risk_rs.encoders.weights.inert import Array, Record, UnreadableTensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Contents", "contents_of"]

#: put into names by torch.compile, FSDP, activation checkpointing and accelerate; they are no part of the encoder
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")

#: state of training, as large as the weights and shaped like them
_SKIPPED = ("optimizer", "optimizers", "optimizer_states", "optim", "opt", "optimizer_state_dict", "opt_state")

#: words by which training scripts note what they trained
_NOTED = ("arch", "model_name", "architecture", "model", "backbone", "encoder")

_DEPTH = 12  # of containers in containers


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds.

    Attributes
    ----------
    tensors : every tensor by its full name, wrappers taken out
    places : names of the containers that hold tensors, such as "state_dict"; the longest first
    unreadable : tensors that mean nothing as plain numbers (quantized, sparse), by name, with their kind
    n_unwrapped : names that a training wrapper's word was taken out of
    noted : what the training script noted of the architecture: (word, value), the word with its place, as "args.arch"
    keys : keys of the outermost dictionary, or the name of what is there instead
    """

    tensors: "dict[str, Tensor]"
    places: tuple[str, ...]
    unreadable: dict[str, str]
    n_unwrapped: int
    noted: tuple[tuple[str, str], ...]
    keys: tuple[str, ...] | str

    def place_of(self, prefix: str) -> tuple[str, str]:
        """A prefix as container and rest: "state_dict.module." → ("state_dict", "module.")."""
        for place in self.places:
            if prefix == f"{place}." or prefix.startswith(f"{place}."):
                return place, prefix[len(place) + 1 :]
        return "", prefix


def contents_of(content: object) -> Contents:
    """Find all tensors, and what is noted of the architecture."""
    import torch

    tensors: dict[str, Tensor] = {}
    unreadable: dict[str, str] = {}
    places: dict[str, None] = {}
    noted: list[tuple[str, str]] = []
    counts = [0]
    seen: set[int] = set()

    def visit(value: object, path: str, place: str, depth: int) -> None:
        if isinstance(value, Array):
            value = value.tensor()
        if isinstance(value, torch.Tensor):
            name, n = _WRAPPERS.subn("", path)
            counts[0] += bool(n)
            tensors.setdefault(name, value)
            places.setdefault(_WRAPPERS.sub("", f"{place}.")[:-1] if place else "")
        elif isinstance(value, UnreadableTensor):
            unreadable[_WRAPPERS.sub("", path)] = value.kind.rpartition(".")[2].removeprefix("_rebuild_")
        elif depth and isinstance(value, (Mapping, Record, list, tuple)):
            if id(value) in seen:  # a part that is used twice
                return
            seen.add(id(value))
            for key, child in _children(value):
                if isinstance(child, str) and key in _NOTED and len(child) < 80:
                    noted.append((f"{path}.{key}" if path else key, child))
                if key in _SKIPPED:
                    continue
                below = f"{path}.{key}" if path else key
                visit(child, below, path, depth - 1)

    visit(content, "", "", _DEPTH)
    keys = tuple(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    held = tuple(sorted((p for p in places if p), key=len, reverse=True))
    return Contents(tensors, held, unreadable, counts[0], tuple(noted), keys)


def _children(value: object) -> "list[tuple[str, object]]":
    if isinstance(value, Mapping):
        return [(str(key), child) for key, child in value.items()]
    if isinstance(value, Record):
        return list(value.children())
    return [(str(index), child) for index, child in enumerate(value)] if isinstance(value, (list, tuple)) else []
