"""The encoder on its device: precision, batches that fit the memory, features back on the host."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ssl_risk_rs.encoders.code_places import placed
from ssl_risk_rs.errors import EncoderError, ParameterError, SslRiskError, first_line

if TYPE_CHECKING:
    import torch

__all__ = ["PRECISIONS", "Amp", "Features", "Forward", "choose_device", "choose_precision"]

Amp = Literal["auto", "off", "bf16", "fp16"]

#: type of the encoder's products by the setting that names it; `auto` leaves it to the device
PRECISIONS = {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}

#: images of 224 × 224 in the batch tried first, and most images of any size. A GPU wants enough work for each
#: launch; on a CPU the activations of a batch should stay in the caches and below the size at which the
#: allocator returns memory to the system after each layer.
FIRST_BATCH = {"cuda": (256, 4096), "cpu": (16, 64)}


def choose_device(device: str) -> "torch.device":
    """`auto`: CUDA if there is one, else the CPU.

    ParameterError if CUDA is asked for and there is none.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ParameterError(f"device {device!r} is unknown to torch; try auto, cpu, cuda or cuda:1") from error
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise ParameterError(
                f"device {device!r}: torch {torch.__version__} sees no CUDA device; "
                "use --device cpu, or look at  nvidia-smi  and at torch.version.cuda"
            )
        if chosen.index is not None and chosen.index >= torch.cuda.device_count():
            raise ParameterError(f"device {device!r}: there are {torch.cuda.device_count()}, from cuda:0")
    return chosen


def choose_precision(amp: Amp, device: "torch.device") -> str:
    """Type of the encoder's products: "float32", "bfloat16" or "float16".

    `auto` is bfloat16 on CUDA devices that multiply it (compute capability 8 and later), float16 on older
    ones, float32 on a CPU, where an encoder in bfloat16 is often slower.
    """
    import torch

    if amp == "auto":
        if device.type != "cuda":
            return "float32"
        return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float16"
    if amp == "fp16" and device.type == "cpu":
        raise ParameterError("--amp fp16 needs a GPU; on a CPU use --amp bf16 or --amp off")
    return PRECISIONS[amp]


@dataclass(slots=True)
class Features:
    """Features of one batch, perhaps still on their way to the host."""

    tensors: "dict[str, torch.Tensor]"
    begun: Any = None  # CUDA events: before the encoder
    ready: Any = None  # and after the copy to the host
    host_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds that the encoder took for this batch, once `arrays` has been called."""
        return self.host_seconds if self.ready is None else float(self.begun.elapsed_time(self.ready)) / 1000

    def arrays(self) -> dict[str, np.ndarray]:
        """float32 arrays (b, d) by feature name; waits for the device."""
        if self.ready is not None:
            self.ready.synchronize()
        return {name: tensor.numpy() for name, tensor in self.tensors.items()}


def first_batch_size(device_type: str, img_size: int | None) -> int:
    """Images in the batch tried first: the same number of pixels for any side, within reason."""
    at_224, most = FIRST_BATCH.get(device_type, (64, 1024))
    return round(min(max(at_224 * (224 / (img_size or 224)) ** 2, at_224 / 8), most))


class Forward:
    """Images → named features, in evaluation mode and without gradients.

    Moves the module to the device and leaves it there. `normalize` turns bytes (b, h, w, c) into what the module takes
    (`ByteTransform`), there. `batch_size` is halved for good when the memory does
    not suffice, and the images in hand are encoded again in smaller pieces.
    """

    def __init__(
        self,
        module: "torch.nn.Module",
        names: tuple[str, ...],
        *,
        device: "torch.device",
        precision: str,
        batch_size: int | None = None,
        img_size: int | None = None,
        compile: bool = False,
        normalize: "Callable[[torch.Tensor], torch.Tensor] | None" = None,
    ) -> None:
        import torch

        self.names, self.device, self.precision, self.normalize = names, device, precision, normalize
        self.batch_size = batch_size or first_batch_size(device.type, img_size)
        self.back_offs = 0
        # the layout that tensor cores read, and the faster one on a CPU
        module = module.eval().to(device).to(memory_format=torch.channels_last)
        self.module = torch.compile(module) if compile else module
        if device.type == "cuda":
            cuda: Any = torch.cuda
            self._up, self._down = cuda.Stream(device), cuda.Stream(device)

    def __call__(self, chunks: "list[torch.Tensor]") -> Features:
        """Encode the images of all chunks, float32 (·, c, h, w) or bytes (·, h, w, c) on the host, as one batch, or in
        as many pieces as the memory asks for."""
        import torch

        shapes = {tuple(chunk.shape[1:]) for chunk in chunks}
        if len(shapes) > 1:
            raise EncoderError(f"the transform gives images of different sizes, {shapes}; set --img-size")
        start, begun = time.perf_counter(), self._event()
        pieces: list[dict[str, torch.Tensor]] = []
        done, total = 0, sum(len(chunk) for chunk in chunks)
        while done < total:
            try:
                pieces.append(self._encode(self._gather(chunks, done)))
            except (SslRiskError, MemoryError):
                raise
            except Exception as error:  # the module may be anyone's
                if not _is_out_of_memory(error):
                    said = placed(error) or f"{type(error).__name__}: {first_line(error)}"
                    raise EncoderError(f"the encoder fails on a batch of {total} images: {said}") from error
                too_many = min(self.batch_size, total - done)
                if too_many == 1:
                    raise EncoderError(
                        f"one image of {tuple(chunks[0].shape[1:])} does not fit the memory of {self.device} "
                        f"({first_line(error)}); free it, take a smaller --img-size or --device cpu"
                    ) from error
                self.batch_size = too_many // 2
                self.back_offs += 1
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            done += self.batch_size
        tensors = {name: torch.cat([piece[name] for piece in pieces]) for name in self.names}
        if self.device.type != "cuda":
            return Features(tensors, host_seconds=time.perf_counter() - start)
        # to pinned memory without waiting, beside the next batch's products
        cuda: Any = torch.cuda
        self._down.wait_stream(cuda.current_stream(self.device))
        with cuda.stream(self._down):
            host = {name: tensor.to("cpu", non_blocking=True) for name, tensor in tensors.items()}
            for tensor in tensors.values():
                tensor.record_stream(self._down)  # not to be overwritten before it is copied
            return Features(host, begun, self._event())

    def _event(self) -> Any:
        """A CUDA event in the current stream; None on a CPU."""
        if self.device.type != "cuda":
            return None
        import torch

        cuda: Any = torch.cuda  # its events have no annotations
        event = cuda.Event(enable_timing=True)
        event.record(cuda.current_stream(self.device))
        return event

    def _gather(self, chunks: "list[torch.Tensor]", first: int) -> "torch.Tensor":
        """A batch of the chunks' images, from the `first`; for CUDA on the device, copied there from pinned memory
        while the batch before is encoded."""
        import torch

        parts, at = [], 0
        for chunk in chunks:
            begin, end = max(first - at, 0), min(first + self.batch_size - at, len(chunk))
            if begin < end:
                parts.append(chunk[begin:end])
            at += len(chunk)
        if self.device.type != "cuda":
            return torch.cat(parts) if len(parts) > 1 else parts[0]
        cuda: Any = torch.cuda
        compute = cuda.current_stream(self.device)
        with cuda.stream(self._up):
            images = torch.cat([part.to(self.device, non_blocking=True) for part in parts])
        compute.wait_stream(self._up)
        images.record_stream(compute)  # not to be overwritten before it is encoded
        return images

    def _encode(self, images: "torch.Tensor") -> "dict[str, torch.Tensor]":
        import torch

        cast: Any = nullcontext()
        if self.precision != "float32":
            cast = torch.autocast(self.device.type, dtype=getattr(torch, self.precision))
        elif torch.is_autocast_enabled(self.device.type):  # by the caller, whose validation step this is, say
            cast = torch.autocast(self.device.type, enabled=False)
        with torch.inference_mode(), cast:
            if images.device != self.device:  # neither the CPU nor CUDA
                images = images.to(self.device)
            if self.normalize is not None and images.dtype == torch.uint8:
                images = self.normalize(images)
            out = self.module(images.contiguous(memory_format=torch.channels_last))
        if not isinstance(out, Mapping):
            raise EncoderError(
                f"the module of an encoder gives features by name, not {type(out).__name__}: "
                "create_encoder(module) makes an encoder of one that gives a tensor"
            )
        missing = [name for name in self.names if name not in out]
        if missing:
            raise EncoderError(f"the encoder gives {', '.join(out)}, not the feature {missing[0]!r} that was asked for")
        features = {name: out[name].float() for name in self.names}
        for name, tensor in features.items():
            if tensor.ndim != 2 or len(tensor) != len(images):
                raise EncoderError(
                    f"feature {name!r} of {len(images)} images has shape {tuple(tensor.shape)}; "
                    "an encoder gives (images, features)"
                )
        return features


def _is_out_of_memory(error: Exception) -> bool:
    """CUDA's error has a class, the CPU allocator's only a text."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
