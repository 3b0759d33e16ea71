"""Packs: safetensors files that hold many encoders each, with how each was made.

A pack's tensors are called `NAME/encoder.TENSOR` and, where an encoder did not see all images, `NAME/rows_train` and
`NAME/rows_test`: the rows it saw. Its text metadata maps each NAME to a JSON record. A pack is replaced as a whole
whenever an encoder joins it, so that a run that is cut off leaves files that can be read.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Made", "PackWriter", "find_packs", "finished", "half", "read_records", "read_tensors"]

#: packs stay below it: some links take no larger file
MAX_BYTES = 14 * 2**20
FORMAT = "fashion-mnist zoo 1"

Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class Made:
    """A finished encoder: its record, which has a `name`, and its tensors."""

    record: Record
    tensors: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        return str(self.record["name"])

    @property
    def n_bytes(self) -> int:
        # a tensor's entry in the header takes some 120 bytes
        return sum(t.nbytes + 120 for t in self.tensors.values()) + len(json.dumps(self.record))


def half(tensors: "dict[str, Tensor]") -> dict[str, np.ndarray]:
    """Weights as float16; vectors (biases, statistics of batch normalization) stay as they are.

    Raises
    ------
    ValueError if a value is not finite, or does not fit.
    """
    import torch

    found = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        kept = value.half() if value.ndim > 1 and value.dtype == torch.float32 else value
        if kept.is_floating_point() and not bool(torch.isfinite(kept).all()):
            raise ValueError(f"{name} is not finite in {kept.dtype}")
        found[name] = kept.numpy()
    return found


class PackWriter:
    """Adds encoders to the packs of a folder, `zoo-NN.safetensors`, and a line for each to `zoo-NN.jsonl`.

    The lines bear the number of the writer's first pack, so that what several writers leave fits into one folder.
    """

    def __init__(self, folder: Path, first: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [_number(path) for path in find_packs(folder)]
        self.folder, self.number = folder, max([first, *(n + 1 for n in numbers)])
        self.lines = folder / f"zoo-{self.number:02d}.jsonl"
        self.current: list[Made] = []

    def add(self, made: Made) -> Path:
        """Write an encoder; when this returns it is on disk."""
        from safetensors.numpy import save_file

        if self.current and sum(m.n_bytes for m in self.current) + made.n_bytes > MAX_BYTES:
            self.number, self.current = self.number + 1, []
        self.current.append(made)
        path = self.folder / f"zoo-{self.number:02d}.safetensors"
        beside = path.with_suffix(".part")
        tensors = {f"{m.name}/{key}": value for m in self.current for key, value in m.tensors.items()}
        save_file(tensors, beside, {"format": FORMAT, **{m.name: json.dumps(m.record) for m in self.current}})
        os.replace(beside, path)
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**made.record, "pack": path.name}) + "\n")
        return path


def find_packs(folder: Path) -> list[Path]:
    """The packs of a folder, by number."""
    return sorted(path for path in folder.glob("zoo-*.safetensors") if path.stem.rpartition("-")[2].isdigit())


def read_records(folder: Path) -> dict[str, tuple[Path, Record]]:
    """Every encoder of a folder's packs: name → its pack and its record. Headers alone are read.

    Raises
    ------
    ValueError for a file that is no pack.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[Path, Record]] = {}
    for path in find_packs(folder):
        try:
            with safe_open(path, "numpy") as file:
                metadata = dict(file.metadata() or {})
        except SafetensorError as error:
            raise ValueError(f"{path} cannot be read ({error}); copy it again, or delete it") from error
        if metadata.pop("format", None) != FORMAT:
            raise ValueError(f"{path} is no pack of bench/zoo/pretrain.py (format {FORMAT!r})")
        found.update({name: (path, json.loads(text)) for name, text in metadata.items()})
    return found


def finished(place: Path) -> dict[str, int]:
    """Which encoders are there already, and the number of the pack of each.

    Parameters
    ----------
    place : a folder of packs, or a `zoo-NN.jsonl` alone, which is small enough to be sent along

    Raises
    ------
    ValueError for a file that is neither.
    """
    if not place.is_file():
        return {name: _number(path) for name, (path, _) in read_records(place).items()}
    found = {}
    for index, line in enumerate(place.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            found[str(record["name"])] = _number(Path(record["pack"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{place}, line {index} names no encoder and pack; delete that line") from error
    return found


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def read_tensors(path: Path, name: str) -> dict[str, np.ndarray]:
    """The tensors of one encoder: `encoder.…` and, if it did not see all images, `rows_train`, `rows_test`."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        keys = [key for key in file.keys() if key.startswith(f"{name}/")]  # noqa: SIM118 (no mapping)
        return {key.partition("/")[2]: file.get_tensor(key) for key in keys}
