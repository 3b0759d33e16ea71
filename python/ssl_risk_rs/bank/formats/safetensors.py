"""`.safetensors`: tensors mapped from the file, after the library has checked it.

Text lies in two tensors, as safetensors has no text: `NAME_bytes` (uint8, the texts in UTF-8 one behind the other)
and `NAME_offsets` (int64, n + 1: text i is bytes offsets[i] to offsets[i + 1]), each with `_train` or `_test`
behind it; `NAME_valid` (bool, n) where some are empty. docs/bank-format.md, "Export".
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ssl_risk_rs._safetensors import read_header
from ssl_risk_rs._tables import unreadable
from ssl_risk_rs.bank.formats.arrays import READ_AT_ONCE, ROUNDED_LABELS, Unusable, is_label, tables_of_arrays
from ssl_risk_rs.bank.formats.rows import texts
from ssl_risk_rs.bank.formats.table import FeatureFile, refuse_columns
from ssl_risk_rs.errors import DataError

__all__ = ["SUFFIXES", "decode_texts", "encode_texts", "read"]

SUFFIXES: tuple[str, ...] = (".safetensors",)
#: types that NumPy knows; BF16 is widened
_TYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"},
}


def read(path: Path, columns: str | Sequence[str] | None) -> FeatureFile:
    """Tables of a `.safetensors` file; its tensors stay mapped."""
    from safetensors import SafetensorError, safe_open

    refuse_columns(path, columns)
    try:
        with safe_open(path, framework="numpy") as checked:
            metadata: dict[str, str] = checked.metadata() or {}
        header = read_header(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise unreadable(path, error) from None
    if header.repeated is not None:
        raise DataError(
            f"{path}: its header has {header.repeated!r} twice, so that one hides the other; write the file again"
        )
    small = path.stat().st_size <= READ_AT_ONCE
    arrays: dict[str, np.ndarray | Unusable] = {}
    for name, entry in header.entries.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _TYPES:
            arrays[name] = Unusable(f"has type {entry['dtype']}; save it as F32 or I64")
            continue
        if entry["dtype"] == "BF16" and is_label(name):
            arrays[name] = ROUNDED_LABELS
            continue
        dtype, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"])
        if 0 in shape:
            arrays[name] = np.zeros(shape, dtype)
            continue
        array: np.ndarray = np.memmap(path, dtype, "r", 8 + header.n_bytes + entry["data_offsets"][0], shape)
        array = array.copy() if small else array
        arrays[name] = _widen(array) if entry["dtype"] == "BF16" else array
    arrays = _with_texts(arrays, path)
    if "class_names" in metadata:
        arrays["class_names"] = texts(_class_names(metadata["class_names"], path))
    return tables_of_arrays(arrays, path)


def encode_texts(values: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Bytes uint8 (total,) and offsets int64 (n + 1,) of texts."""
    encoded = [value.encode("utf-8") for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def decode_texts(data: np.ndarray, offsets: np.ndarray, name: str) -> list[str]:
    """The texts that `encode_texts` took apart.

    Raises
    ------
    DataError if the two tensors do not fit each other or a text is no UTF-8.
    """
    sound = data.dtype == np.uint8 and data.ndim == 1 and offsets.dtype == np.int64 and offsets.ndim == 1
    if sound and offsets.size:
        sound = bool(offsets[0] == 0 and offsets[-1] == data.size and (np.diff(offsets) >= 0).all())
    if not sound or not offsets.size:
        raise DataError(f"{name}: bytes (uint8) and offsets (int64, from 0, ascending, to their number) do not fit")
    blob, ends = data.tobytes(), offsets.tolist()
    found = []
    for row, (start, stop) in enumerate(pairwise(ends)):
        try:
            found.append(blob[start:stop].decode("utf-8"))
        except UnicodeDecodeError:
            raise DataError(f"{name}: row {row} is no UTF-8 text") from None
    return found


def _with_texts(arrays: Mapping[str, np.ndarray | Unusable], path: Path) -> dict[str, np.ndarray | Unusable]:
    """Pairs of bytes and offsets become arrays of text; vectors with a mask of valid rows get None elsewhere."""
    found = dict(arrays)
    for end in ("", "_train", "_test"):
        for name in [name for name in found if name.endswith(f"_bytes{end}")]:
            stem = name.removesuffix(f"_bytes{end}")
            data, offsets = found[name], found.get(f"{stem}_offsets{end}")
            if isinstance(data, np.ndarray) and isinstance(offsets, np.ndarray):
                found[f"{stem}{end}"] = texts(decode_texts(data, offsets, f"{path}: {stem}{end}"))
                del found[name], found[f"{stem}_offsets{end}"]
        for name in [name for name in found if name.endswith(f"_valid{end}")]:
            stem = f"{name.removesuffix(f'_valid{end}')}{end}"
            values, valid = found.get(stem), found[name]
            if isinstance(values, np.ndarray) and isinstance(valid, np.ndarray) and values.shape == valid.shape:
                pairs = zip(values.tolist(), valid.tolist(), strict=True)
                found[stem] = texts(value if there else None for value, there in pairs)
                del found[name]
    return found


def _class_names(text: str, path: Path) -> list[str]:
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: class_names in the metadata is no JSON list of names")
    return names


def _widen(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits → float32: they are its upper half."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
