"""A module in memory, such as one that is being trained: a frozen copy of it as it is now."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs._limits import check_text
from ssl_risk_rs.encoders.code_places import is_library
from ssl_risk_rs.encoders.spec import EncoderSpec, Layers, usual_resize
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from ssl_risk_rs.encoders.encoder import Encoder

__all__ = ["build_live"]


def build_live(
    module: "nn.Module",
    *,
    name: str | None,
    transform: "Callable[[Image], Tensor] | None",
    layers: Layers,
    pool: str | None,
    img_size: int | None,
    pretraining_data: str | None,
    progress: Callable[[str], None],
) -> "Encoder":
    """An encoder of a module's copy: later changes of the module, and its training, leave the encoder alone.

    Raises
    ------
    EncoderError for layers, which the module decides, and for a module that cannot be copied.
    """
    from ssl_risk_rs.encoders.encoder import OutputModule, finish, finish_own
    from ssl_risk_rs.encoders.transforms import Preprocess

    bare = _unwrapped(module)
    kind = type(bare)
    for field, text in (("name", name), ("pretraining_data", pretraining_data)):
        if text is not None:
            check_text(field, text)
    if layers is not None or pool is not None:
        raise EncoderError("a module in memory decides itself which features it returns: leave out layers and pool")
    spec = EncoderSpec(
        name=name or kind.__name__,
        architecture=f"{kind.__module__}.{kind.__qualname__}",
        source="memory",
        features=("output",),
        pretraining_data=pretraining_data,
    )
    if img_size is not None:
        spec = replace(spec, img_size=img_size, resize=usual_resize(img_size))
    frozen = OutputModule(_frozen(bare, spec.name))
    if transform is None:
        transform = Preprocess(spec)
        progress(
            f"{spec.name}: no transform given, so ImageNet's usual one: short side {spec.resize}, centre "
            f"{spec.img_size}, ImageNet mean and std; create_encoder(module, transform=…) takes another"
        )
    ours = isinstance(transform, Preprocess)
    encoder = finish(spec, frozen, transform) if ours else finish_own(spec, frozen, transform, img_size=img_size)
    return replace(encoder, code_hash=_code_of(bare, transform))


def _frozen(module: "nn.Module", name: str) -> "nn.Module":
    """A copy on the CPU, in float32, that shares no tensor with the module."""
    import torch

    try:
        with torch.no_grad():
            copied = copy.deepcopy(module).cpu().float()
        own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
        if copied is module or any(id(tensor) in own for tensor in (*copied.parameters(), *copied.buffers())):
            raise TypeError("its copy is the module itself, or shares weights with it")
        for parameter in copied.parameters():
            parameter.requires_grad_(False)
    except (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError) as error:
        # tensors that are no leaves, locks and handles, weights that are not there yet, quantized ones
        raise EncoderError(
            f"{name} cannot be copied ({error}): save its state_dict and name the file, as ckpt:FILE@ARCH or by "
            "a function, file.py:function"
        ) from error
    return copied


def _unwrapped(module: "nn.Module") -> "nn.Module":
    """The module inside torch.compile's and those that spread a batch over devices."""
    from torch import nn

    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        inner = getattr(module, "_orig_mod", None)
        if isinstance(inner, nn.Module):
            module = inner
        elif isinstance(module, parallel):
            module = module.module
        else:
            return module


def _code_of(module: "nn.Module", transform: object) -> str | None:
    """Hash of the sources of the module's own classes and of the transform, as far as they can be read; None of a
    library's alone."""
    sources: dict[str, str] = {}
    function = transform if inspect.isfunction(transform) else type(transform)
    for kind in {function, *(type(part) for part in module.modules())}:
        try:
            if not is_library(Path(inspect.getfile(kind)).resolve()):
                sources[f"{kind.__module__}.{kind.__qualname__}"] = inspect.getsource(kind)
        except (OSError, TypeError):  # typed at a prompt: its weights and a few images speak for it
            continue
    if not sources:
        return None
    return f"sha256:{sha256(repr(sorted(sources.items())).encode()).hexdigest()}"
