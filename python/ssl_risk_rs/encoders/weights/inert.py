"""Pickled content as plain values: nothing of a file is ever run, whatever it asks for.

A pickle is a program that names functions and classes to call. Here every name is answered by something harmless:
containers and numbers by themselves, tensors and arrays by rebuilding them from bytes, every other class or function
by a `Record`, which keeps what it was given and does nothing. So a checkpoint that carries options, counters, or a
whole module of unknown classes can be read, and a hostile one cannot do anything.
"""

import codecs
import io
import math
import pickle
import struct
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Array", "Record", "UnreadableTensor", "load_pickle", "read_legacy", "storage_from"]

#: loads a storage: (key, dtype or None for bytes, number of elements) → its bytes as a flat tensor
Storages = Callable[[str, "torch.dtype | None", int], "Tensor"]

#: reads bytes that are a file of their own: (bytes, how deep they are nested)
Nested = Callable[[bytes, int], object]

#: a pickle inside a pickle inside …: nobody nests deeper
MAX_NESTING = 4


class Record:
    """Stands for an object of a class that is not run: keeps arguments, state, items and pairs."""

    kind = "object"
    __slots__ = ("args", "items", "pairs", "state")
    args: tuple[object, ...]
    items: list[object]
    pairs: dict[object, object]
    state: object

    def __new__(cls, *args: object, **_: object) -> "Record":
        """Keep the arguments; no initializer follows."""
        record = super().__new__(cls)
        record.args, record.state, record.items, record.pairs = args, None, [], {}
        return record

    def __init__(self, *args: object, **_: object) -> None:
        """Do nothing: `__new__` has kept the arguments."""

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        self.pairs[key] = value

    def __call__(self, *args: object, **_: object) -> "Record":
        """Calls of unknown functions give a record of the call."""
        return Record(self, *args)

    def append(self, item: object) -> None:
        """An item of a list-like object."""
        self.items.append(item)

    def extend(self, items: "list[object]") -> None:
        """Items of a list-like object."""
        self.items.extend(items)

    add = append

    def children(self) -> "Iterator[tuple[str, object]]":
        """What the object holds, by name: parts of a module without their container, the rest by attribute."""
        states = self.state if isinstance(self.state, tuple) else (self.state,)
        for state in states:
            if not isinstance(state, dict):
                continue
            for key, value in state.items():
                if key in ("_parameters", "_buffers", "_modules") and isinstance(value, dict):
                    yield from ((str(name), part) for name, part in value.items())
                else:
                    yield str(key), value
        yield from ((str(key), value) for key, value in self.pairs.items())
        for index, value in enumerate([*self.args, *self.items]):
            if isinstance(value, (dict, list, tuple, Record)):
                yield str(index), value


class UnreadableTensor(Record):
    """A tensor that means nothing as plain numbers (quantized, sparse, sharded): named where it is needed."""

    kind = "tensor that cannot be read"
    __slots__ = ()


class Array:
    """A numpy array, from its bytes, without numpy's unpickling code; only plain numbers become tensors."""

    __slots__ = ("dtype", "fortran", "raw", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype = ""
        self.fortran = False
        self.raw: bytes | None = None

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 5:  # (version, shape, dtype, order, bytes)
            _, shape, dtype, fortran, raw = state
            if isinstance(shape, tuple) and isinstance(dtype, Dtype) and isinstance(raw, (bytes, bytearray, str)):
                self.fill(shape, dtype, bool(fortran), raw.encode("latin1") if isinstance(raw, str) else bytes(raw))

    def fill(self, shape: tuple[object, ...], dtype: "Dtype", fortran: bool, raw: bytes) -> None:
        """Take shape, type and bytes, if they are an array of numbers."""
        sizes = tuple(size for size in shape if isinstance(size, int) and size >= 0)
        if len(sizes) == len(shape):
            self.shape, self.dtype, self.fortran, self.raw = sizes, dtype.text(), fortran, raw

    def tensor(self) -> "Tensor | None":
        """The values; None where they are no plain numbers."""
        import numpy as np
        import torch

        if self.raw is None or self.dtype[1:2] not in ("f", "i", "u", "b", "V"):
            return None
        if self.dtype[1:] == "V2":  # ml_dtypes' bfloat16, which numpy does not know
            if len(self.raw) != 2 * math.prod(self.shape):
                return None
            flat = torch.frombuffer(bytearray(self.raw), dtype=torch.bfloat16) if self.raw else torch.zeros(0)
            return flat.reshape(self.shape)
        if self.dtype[1] == "V":
            return None
        try:
            kind = np.dtype(self.dtype)
        except TypeError:  # a float of five bytes
            return None
        if len(self.raw) != kind.itemsize * math.prod(self.shape):
            return None
        values = np.frombuffer(self.raw, kind).reshape(self.shape, order="F" if self.fortran else "C")
        native = np.ascontiguousarray(values.astype(kind.newbyteorder("="), copy=True))
        try:
            return torch.from_numpy(native).reshape(self.shape)
        except TypeError:  # a type that torch lacks
            return None


class Dtype:
    """A numpy type as a pickle describes it: code and byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = code if isinstance(code, str) else ""
        self.order = "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = str(state[1])

    def text(self) -> str:
        """Such as `<f4`; empty for anything but a plain type."""
        code = self.code.lstrip("<>|=")
        if code == "bfloat16":
            code = "V2"
        return (
            f"{self.order if self.order in '<>' else '|'}{code}" if code[:1] in "fiubV" and code[1:].isdigit() else ""
        )


class StorageType:
    """`torch.FloatStorage` and its like: the type of the numbers in a storage; None for untyped bytes."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: "torch.dtype | None") -> None:
        self.dtype = dtype


class Storage:
    """A storage: a flat tensor, not read before a tensor asks for it."""

    __slots__ = ("dtype", "read")

    def __init__(self, read: Callable[[], "Tensor"], dtype: "torch.dtype | None") -> None:
        self.read, self.dtype = read, dtype


def load_pickle(
    file: IO[bytes],
    storages: Storages | None = None,
    *,
    nested: Nested | None = None,
    nesting: int = 0,
    announce: bool = False,
) -> object:
    """The content of one pickle, inert; `announce` asks for every storage as soon as it is named.

    Raises
    ------
    pickle.UnpicklingError, EOFError, or what a damaged stream leads to.
    """
    return _Reader(file, storages, nested, nesting, announce).load()


def read_legacy(file: IO[bytes], *, nested: Nested | None = None, nesting: int = 0) -> object:
    """The content of torch's format before release 1.6: pickles in a row, then the storages' bytes.

    Raises
    ------
    as `load_pickle`; EOFError where the bytes end early.
    """
    for _ in range(3):  # magic number, protocol, sizes of the writing machine
        load_pickle(file)
    waiting: dict[str, tuple[torch.dtype | None, list[Tensor]]] = {}

    def storage(key: str, dtype: "torch.dtype | None", count: int) -> "Tensor":
        import torch

        if key not in waiting:
            left = file.seek(0, io.SEEK_END) - position if (position := file.tell()) >= 0 else 0
            file.seek(position)
            size = max(count, 0) * (dtype.itemsize if dtype is not None else 1)
            if size > left + (1 << 20):
                raise EOFError(f"a storage of {size} bytes in a file that has {left} left")
            waiting[key] = (dtype, [torch.empty(max(count, 0), dtype=dtype or torch.uint8)])
        return waiting[key][1][0]

    content = load_pickle(file, storage, nested=nested, nesting=nesting, announce=True)
    keys = load_pickle(file)
    for key in keys if isinstance(keys, list) else []:
        count = struct.unpack("<q", _exactly(file, 8))[0]
        dtype, [target] = waiting[str(key)]
        width = dtype.itemsize if dtype is not None else 1
        if count != len(target):
            raise EOFError(f"a storage has {count} elements, {len(target)} were announced")
        raw = _exactly(file, count * width)
        if count:
            target.copy_(storage_from(raw, dtype))
    return content


def storage_from(raw: bytes, dtype: "torch.dtype | None") -> "Tensor":
    """Bytes as a flat tensor."""
    import torch

    kind = dtype or torch.uint8
    if not raw:
        return torch.empty(0, dtype=kind)
    if len(raw) % kind.itemsize:
        raise EOFError(f"{len(raw)} bytes are no whole number of {kind}")
    return torch.frombuffer(bytearray(raw), dtype=kind)


def _exactly(file: IO[bytes], count: int) -> bytes:
    raw = file.read(count)
    if len(raw) != count:
        raise EOFError(f"{len(raw)} bytes where {count} were announced")
    return raw


# --- what the names in a pickle stand for ------------------------------------------------------------


class _Reader(pickle.Unpickler):
    """An unpickler whose every name is harmless."""

    def __init__(
        self, file: IO[bytes], storages: Storages | None, nested: Nested | None, nesting: int, announce: bool
    ) -> None:
        super().__init__(file, encoding="latin1")
        self.storages, self.nested, self.nesting, self.announce = storages, nested, nesting, announce
        self.known: dict[str, type[Record]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function."""
        full = f"{module}.{name}"
        if full == "torch.storage._load_from_bytes":
            return self._bytes_of_a_file
        if full in _ALLOWED:
            return _ALLOWED[full]
        if (module == "torch" or module.startswith("torch.storage")) and (found := _of_torch(name)) is not None:
            return found
        if full not in self.known:
            base = UnreadableTensor if full in _UNREADABLE else Record
            self.known[full] = type(name, (base,), {"kind": full, "__slots__": ()})
        return self.known[full]

    def persistent_load(self, pid: Any) -> Any:
        """A storage: ('storage', type, key, device, number of elements, …)."""
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":  # a class with its source, in old files
            return pid[1]
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
            return Record(pid)
        _, kind, key, _, count, *view = pid
        if self.storages is None or not isinstance(count, int) or not isinstance(kind, StorageType):
            return Record(pid)
        storages, name, dtype = self.storages, str(key), kind.dtype
        if self.announce:
            storages(name, dtype, count)
        if view and isinstance(view[0], tuple):  # an old file's view of a part of a storage
            _, offset, size = view[0]
            return Storage(lambda: storages(name, dtype, count)[offset : offset + size], dtype)
        return Storage(lambda: storages(name, dtype, count), dtype)

    def _bytes_of_a_file(self, raw: object) -> object:
        """A tensor's storage that was saved whole inside a plain pickle."""
        if not isinstance(raw, (bytes, bytearray)) or self.nested is None or self.nesting >= MAX_NESTING:
            return Record(raw)
        return self.nested(bytes(raw), self.nesting + 1)


def _of_torch(name: str) -> object | None:
    """Storage types and number types of torch."""
    import torch

    storages = {
        "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
        "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
        "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
        "BoolStorage": torch.bool, "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
    }  # fmt: skip
    if name in storages:
        return StorageType(storages[name])
    if name in ("UntypedStorage", "_UntypedStorage"):
        return StorageType(None)
    found = getattr(torch, name, None)
    return found if isinstance(found, torch.dtype) else None


def _tensor(
    storage: object, offset: object, size: object, stride: object, *_: object, dtype: "torch.dtype | None" = None
) -> object:
    """A tensor over a storage, its places checked."""
    import torch

    if isinstance(storage, torch.Tensor):  # saved inside a plain pickle
        flat = storage.reshape(-1)
    elif isinstance(storage, Storage):
        flat = storage.read()
    else:
        return UnreadableTensor(storage)
    if dtype is not None and flat.dtype != dtype:
        flat = flat.view(dtype)
    shape, steps = _ints(size), _ints(stride)
    if shape is None or steps is None or len(shape) != len(steps) or not isinstance(offset, int) or offset < 0:
        return UnreadableTensor(storage)
    last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) if 0 not in shape else 0
    if any(n < 0 for n in shape) or any(step < 0 for step in steps) or (0 not in shape and last >= flat.numel()):
        raise EOFError(f"a tensor of shape {shape} reaches beyond its storage of {flat.numel()} elements")
    return torch.as_strided(flat, shape, steps, offset)


def _tensor_v3(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    grad: object,
    hooks: object,
    dtype: object,
    *_: object,
) -> object:
    import torch

    return _tensor(storage, offset, size, stride, dtype=dtype if isinstance(dtype, torch.dtype) else None)


def _ints(values: object) -> tuple[int, ...] | None:
    if not isinstance(values, (tuple, list)) or not all(isinstance(value, int) for value in values):
        return None
    return tuple(values)


def _parameter(data: object = None, *_: object) -> object:
    return data


def _subclass(function: object, kind: object, args: object, *_: object) -> object:
    """A subclass of Tensor: the plain tensor beneath it, if it has one."""
    if function in (_tensor, _tensor_v3, _parameter) and isinstance(args, tuple):
        return function(*args)
    return UnreadableTensor(kind)


def _first(value: object = None, *_: object) -> object:
    return value


class _List(list[object]):
    """A list that takes what sets and queues are given."""

    def add(self, item: object) -> None:
        self.append(item)

    def __setstate__(self, _: object) -> None:
        """Attributes of the container say nothing about weights."""


class _Dict(dict[object, object]):
    """A dictionary that takes attributes, such as torch's `_metadata`, and drops them."""

    def __setstate__(self, _: object) -> None:
        """Attributes of the container say nothing about weights."""


def _listed(values: object = (), *_: object) -> _List:
    return _List(values) if isinstance(values, (list, tuple, set)) else _List()


def _tupled(values: object = (), *_: object) -> tuple[object, ...]:
    return tuple(values) if isinstance(values, (list, tuple, set)) else ()


def _dict(pairs: object = (), *_: object) -> _Dict:
    if isinstance(pairs, dict):
        return _Dict(pairs)
    return _Dict(pairs) if isinstance(pairs, (list, tuple)) and all(_is_pair(pair) for pair in pairs) else _Dict()


def _default_dict(_: object = None, pairs: object = (), *__: object) -> _Dict:
    return _dict(pairs)


def _is_pair(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2


def _encode(text: object, encoding: object = "latin1", *_: object) -> object:
    """Bytes that an old protocol wrote as text."""
    if isinstance(text, str) and encoding in ("latin1", "latin-1"):
        return codecs.encode(text, "latin1")
    return Record(text)


def _bytes(value: object = b"", *_: object) -> object:
    return bytes(value) if isinstance(value, (bytes, bytearray)) else b""


def _number(value: object = 0, *_: object) -> object:
    return value if isinstance(value, (int, float)) else 0


def _array(*_: object) -> Array:
    return Array()


def _array_from(raw: object, dtype: object, shape: object, order: object = "C", *_: object) -> Array:
    """numpy's protocol 5."""
    made = Array()
    if isinstance(dtype, Dtype) and isinstance(shape, tuple) and isinstance(raw, (bytes, bytearray)):
        made.fill(shape, dtype, order == "F", bytes(raw))
    return made


def _scalar(dtype: object, raw: object = b"", *_: object) -> object:
    made = Array()
    if isinstance(dtype, Dtype) and isinstance(raw, (bytes, bytearray, str)):
        made.fill((), dtype, False, raw.encode("latin1") if isinstance(raw, str) else bytes(raw))
    return made


def _object_of(kind: object, *_: object) -> object:
    """`copyreg._reconstructor`: an object of a class, before its state."""
    return kind() if isinstance(kind, type) and issubclass(kind, Record) else Record(kind)


def _made_class(*described: object) -> type[Record]:
    """A class that a pickle describes instead of naming it."""
    names = [text for text in described if isinstance(text, str)]
    return type(names[0] if names and names[0].isidentifier() else "described", (Record,), {"__slots__": ()})


def _device(*described: object) -> str:
    return ":".join(str(part) for part in described if isinstance(part, (str, int)))


_ALLOWED: dict[str, object] = {
    **dict.fromkeys(("collections.OrderedDict", "builtins.dict", "__builtin__.dict", "collections.Counter"), _dict),
    "collections.defaultdict": _default_dict,
    **dict.fromkeys(
        ("collections.deque", "builtins.list", "__builtin__.list", "builtins.set", "__builtin__.set"), _listed
    ),
    **dict.fromkeys(("builtins.frozenset", "__builtin__.frozenset", "torch.Size", "builtins.tuple"), _tupled),
    **dict.fromkeys(
        ("builtins.int", "builtins.float", "builtins.bool", "__builtin__.int", "__builtin__.float"), _number
    ),
    **dict.fromkeys(("builtins.bytes", "builtins.bytearray", "__builtin__.bytearray"), _bytes),
    "_codecs.encode": _encode,
    **dict.fromkeys(("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"), _tensor),
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    **dict.fromkeys(("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"), _parameter),
    **dict.fromkeys(("torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.nn.Parameter"), _parameter),
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch.device": _device,
    **dict.fromkeys(("torch._utils._rebuild_device_tensor_from_numpy",), _first),
    **dict.fromkeys(("torch.jit._pickle.restore_type_tag", "torch.jit._pickle.build_intlist"), _first),
    **dict.fromkeys((f"torch.jit._pickle.build_{kind}list" for kind in ("tensor", "double", "bool")), _first),
    **dict.fromkeys((f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")), _array),
    **dict.fromkeys((f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")), _scalar),
    **dict.fromkeys((f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")), _array_from),
    "numpy.dtype": Dtype,
    "copyreg._reconstructor": _object_of,
    "copy_reg._reconstructor": _object_of,
    **dict.fromkeys(("dill._dill._create_type", "dill._dill._create_namedtuple", "dill._dill._load_type"), _made_class),
    **dict.fromkeys(("dill.dill._create_type", "dill.dill._create_namedtuple", "dill.dill._load_type"), _made_class),
}

#: tensors whose numbers mean nothing by themselves
_UNREADABLE = frozenset(
    f"torch._utils.{name}"
    for name in ("_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_nested_tensor", "_rebuild_sparse_csr_tensor")
) | {"torch.distributed.tensor.DTensor", "torch.distributed._tensor.api.DTensor",
     "torch.distributed._shard.sharded_tensor.api.ShardedTensor"}  # fmt: skip
