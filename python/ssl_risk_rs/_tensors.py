"""PyTorch tensors where arrays are taken: their values, on the host and without gradient. torch is not imported."""

from typing import Any

from ssl_risk_rs.errors import DataError

__all__ = ["is_rounded", "of_tensor"]


def of_tensor(value: object) -> object:
    """The array of a dense tensor, of whatever device, with or without gradient; anything else as it is.

    Floats of 8 bits and bfloat16, which numpy lacks, become float32 exactly. A float16 or float32 tensor in the host's
    memory is not copied.

    Raises
    ------
    DataError for a tensor that is no array of numbers: sparse, nested, quantized, without data.
    """
    if not (hasattr(value, "detach") and hasattr(value, "cpu")):
        return value
    tensor: Any = value.detach()
    kind = str(tensor.layout).removeprefix("torch.")
    if kind != "strided" or tensor.is_nested or tensor.is_quantized or tensor.device.type == "meta":
        what = "nested" if tensor.is_nested else "quantized" if tensor.is_quantized else (
            "without data (device meta)" if tensor.device.type == "meta" else f"sparse ({kind})"
        )  # fmt: skip
        raise DataError(f"a tensor of shape {tuple(tensor.shape)} is {what}; give a dense one, such as x.to_dense()")
    tensor = tensor.cpu()
    if is_rounded(tensor):
        tensor = tensor.float()
    return tensor.resolve_conj().resolve_neg().numpy()


def is_rounded(value: object) -> bool:
    """Whether a tensor is of bfloat16 or floats of 8 bits, in which whole numbers beyond 256, or less, are rounded."""
    return str(getattr(value, "dtype", "")).startswith(("torch.bfloat16", "torch.float8"))
