"""`.pt`, `.pth`: a dict of tensors that PyTorch saved. Nothing is unpickled but what `weights_only` allows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._extras import refuse_without_torch
from ssl_risk_rs._tables import unreadable
from ssl_risk_rs.bank.formats.arrays import KEYS, ROUNDED_LABELS, Unusable, is_label, tables_of_arrays
from ssl_risk_rs.bank.formats.rows import texts
from ssl_risk_rs.bank.formats.table import FeatureFile, refuse_columns
from ssl_risk_rs.errors import DataError

if TYPE_CHECKING:
    import torch

__all__ = ["SUFFIXES", "read"]

SUFFIXES: tuple[str, ...] = (".pt", ".pth")


def read(path: Path, columns: str | Sequence[str] | None) -> FeatureFile:
    """Tables of a file that holds a dict of tensors or lists, or {"train": {…}, "test": {…}}."""
    import pickle

    refuse_without_torch(f"{path} needs")
    import torch

    refuse_columns(path, columns)
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DataError(
            f"{path} is damaged, or holds Python objects, which are never unpickled; save plain tensors of numbers"
        ) from None
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise unreadable(path, error) from None
    except Exception as error:  # a damaged pickle runs through torch's reader and ends anywhere
        raise unreadable(path, error) from None
    if not isinstance(content, Mapping):
        raise DataError(f"{path} holds a {type(content).__name__}; save a dict with {KEYS}")
    arrays: dict[str, np.ndarray | Unusable] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and str(name).lower() in ("train", "test"):
            inner = {f"{key}_{str(name).lower()}": inside for key, inside in value.items()}
        else:
            inner = {str(name): value}
        arrays.update({key: _array(key, inside) for key, inside in inner.items()})
    return tables_of_arrays(arrays, path)


def _array(name: str, value: object) -> np.ndarray | Unusable:
    import torch

    if isinstance(value, torch.Tensor):
        return ROUNDED_LABELS if value.dtype == torch.bfloat16 and is_label(name) else _of_tensor(value)
    if isinstance(value, (list, tuple)):
        return _of_list(value)
    if isinstance(value, Mapping):
        inside = ", ".join(str(name) for name in list(value)[:5])
        return Unusable(f"is a dict ({inside}); lay its tensors at the top level, or name it train or test")
    if isinstance(value, (bool, int, float, str)):
        return np.asarray(value)
    return Unusable(f"is a {type(value).__name__}; save a tensor")


def _of_tensor(tensor: "torch.Tensor") -> np.ndarray | Unusable:
    import torch

    if tensor.is_nested:
        return Unusable("is a nested (ragged) tensor; pool each row to one vector of equal length")
    if tensor.layout is not torch.strided:
        return Unusable(f"is a sparse tensor ({tensor.layout}); save X.to_dense()")
    if tensor.is_quantized:
        return Unusable(f"is a quantized tensor ({tensor.dtype}); save X.dequantize()")
    if tensor.device.type == "meta":
        return Unusable("is a tensor without data (device meta); save it again with its values")
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    try:
        array: np.ndarray = tensor.numpy()
    except (TypeError, RuntimeError):  # a type that NumPy lacks, such as float8
        return Unusable(f"is {tensor.dtype}, which NumPy lacks; save X.float() or X.half()")
    return array


def _of_list(values: Sequence[object]) -> np.ndarray | Unusable:
    """A list of numbers, of texts, or of tensors that are a row each."""
    import torch

    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if tensors and len(tensors) == len(values):
        shapes = list(dict.fromkeys(tuple(tensor.shape) for tensor in tensors))
        if len(shapes) > 1 or len(shapes[0]) > 1:
            said = ", ".join(map(str, shapes[:3]))
            return Unusable(
                f"is a list of tensors of shapes {said}; save one tensor: torch.cat(batches) or torch.stack(rows)"
            )
        rows = [_of_tensor(tensor) for tensor in tensors]
        for row in rows:
            if isinstance(row, Unusable):
                return row
        return np.stack([row for row in rows if isinstance(row, np.ndarray)])
    if values and all(isinstance(value, str) for value in values):
        return texts(str(value) for value in values)
    if not all(value is None or isinstance(value, (bool, int, float, str, bytes)) for value in values):
        try:
            return np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            return Unusable("is a list whose rows differ in length or are no numbers; save one tensor")
    array = np.asarray(values)
    if array.dtype.kind in "USO":
        array = np.empty(len(values), object)
        array[:] = values
    return array
