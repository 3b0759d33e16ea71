"""A file of weights → plain values, whatever its format; nothing in it is run.

torch's archives (also TorchScript's) and its format before release 1.6, plain pickles, safetensors, numpy's archives,
and the folders and index files of weights that are split over several of these.
"""

import io
import pickle
import struct
import zipfile
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ssl_risk_rs._safetensors import read_header
from ssl_risk_rs.encoders.weights.files import INDEX_SUFFIX, file_in, indexed_files
from ssl_risk_rs.encoders.weights.inert import load_pickle, read_legacy, storage_from
from ssl_risk_rs.errors import EncoderError, first_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["read_checkpoint", "read_torch_stream"]

#: first pickled value of torch's format before release 1.6
_LEGACY = 0x1950A86A20F9469CFC6C

#: first bytes of formats that are known and not read, with what to do
_FOREIGN = {
    b"<": "it is a web page, not a checkpoint: the host answered with a page; download the file again",
    b"\x89HDF": "it is an HDF5 file (of Keras, say): export the weights as safetensors from the library that wrote it",
    b"\x1f\x8b": "it is compressed (gzip): unpack it first",
    b"BZh": "it is compressed (bzip2): unpack it first",
    b"\xfd7zXZ": "it is compressed (xz): unpack it first",
    b"\x08": "it looks like an ONNX model: take the checkpoint it was exported from",
    b"version https://git-lfs": "it is a pointer of Git LFS: fetch the file itself with `git lfs pull`",
}


def read_checkpoint(path: Path) -> object:
    """Read a file, an index of several files, or a folder of weights, without running anything in it.

    Raises
    ------
    EncoderError if it is missing, damaged, or of no format that is read here; it says what to do.
    """
    if path.is_dir():
        return read_checkpoint(file_in(path))
    if not path.is_file():
        raise EncoderError(f"no checkpoint at {path}")
    if path.name.endswith(INDEX_SUFFIX):
        return _read_index(path)
    with path.open("rb") as file:
        head = file.read(64)
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path)
    try:
        if head.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                return _read_zip(archive, 0)
        if head[:1] == b"\x80" and head[1:2] <= b"\x05":
            with path.open("rb") as file:
                return read_torch_stream(file)
    except (pickle.UnpicklingError, EOFError, zipfile.BadZipFile, struct.error, MemoryError, OSError) as error:
        raise _damaged(path, error) from error
    except (ValueError, KeyError, AttributeError, TypeError, IndexError, RuntimeError, OverflowError) as error:
        raise _damaged(path, error) from error
    hint = next((text for start, text in _FOREIGN.items() if head.lstrip().startswith(start)), None)
    if hint is None and len(head) == 64 and _is_tar(path):
        hint = "it is a tar archive (torch wrote such files before release 0.2): unpack it or load it with an old torch"
    if not Path(path).stat().st_size:
        raise EncoderError(f"{path} is empty: a copy or download of it ended early")
    raise EncoderError(f"{path} is neither a torch checkpoint nor a safetensors file" + (f"; {hint}" if hint else ""))


def _damaged(path: Path, error: Exception) -> EncoderError:
    return EncoderError(f"{path} is damaged or cut short ({first_line(error)}); copy or download it again")


def _is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(257)
        return file.read(5) == b"ustar"


def read_torch_stream(file: IO[bytes], *, nesting: int = 0) -> object:
    """A pickle, torch's older format, or a zip archive, from an open file.

    Raises
    ------
    as `inert.load_pickle`.
    """
    start = file.tell()
    if file.read(2) == b"PK":
        file.seek(start)
        with zipfile.ZipFile(file) as archive:
            return _read_zip(archive, nesting)
    file.seek(start)
    first = load_pickle(file, nested=_read_nested, nesting=nesting)
    if first == _LEGACY:
        file.seek(start)
        return read_legacy(file, nested=_read_nested, nesting=nesting)
    return first


def _read_nested(raw: bytes, nesting: int) -> object:
    """A file inside a pickle."""
    return read_torch_stream(io.BytesIO(raw), nesting=nesting)


def _read_zip(archive: zipfile.ZipFile, nesting: int) -> object:
    names = archive.namelist()
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise EOFError(f"its archive holds {twice[0]} twice")
    if any(name.endswith(".npy") for name in names):
        return _read_npz(archive)
    found = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    if not found:
        raise EOFError(f"an archive of {len(names)} files, none of them data.pkl: is it a folder that was zipped?")
    base = found[0].removesuffix("data.pkl")
    order = archive.read(f"{base}byteorder") if f"{base}byteorder" in names else b"little"
    if order != b"little":
        raise EOFError(f"it was written on a machine with {order.decode(errors='replace')}-endian numbers")
    loaded: dict[str, Tensor] = {}

    def storage(key: str, dtype: "torch.dtype | None", count: int) -> "Tensor":
        if key not in loaded:
            loaded[key] = storage_from(archive.read(f"{base}data/{key}"), dtype)
        return loaded[key]

    return load_pickle(io.BytesIO(archive.read(found[0])), storage, nested=_read_nested, nesting=nesting)


def _read_npz(archive: zipfile.ZipFile) -> "dict[str, Tensor]":
    """Arrays of numbers by name; arrays of objects are not read."""
    import numpy as np
    import torch

    content: dict[str, Tensor] = {}
    for name in archive.namelist():
        if name.endswith(".npy"):
            array = np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
            if array.dtype.kind in "fiub":
                native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=True))
                content[name.removesuffix(".npy")] = torch.from_numpy(native).reshape(array.shape)
    return content


def _read_safetensors(path: Path) -> "dict[str, Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
        twice = read_header(path).repeated
    except SafetensorError as error:
        raise EncoderError(f"{path} is no intact safetensors file ({error}); copy or download it again") from error
    if twice is not None:
        raise EncoderError(
            f"{path}: its header has {twice!r} twice, so that one hides the other; download it again, or write it anew"
        )
    return tensors


def _read_index(path: Path) -> "dict[object, object]":
    """Weights split over several files, as the index says."""
    content: dict[object, object] = {}
    for file in indexed_files(path):
        part = read_checkpoint(file)
        if not isinstance(part, dict):
            raise EncoderError(f"{file} holds {type(part).__name__}, no tensors by name")
        content |= part
    return content
