"""PyTorch tensors where arrays are taken: their values, on the host and without gradient. torch is not imported."""

__all__ = ["is_bfloat16", "of_tensor"]


def of_tensor(value: object) -> object:
    """The array of a tensor, of whatever device, with or without gradient; anything else as it is.

    Floats of 8 bits and bfloat16, which numpy lacks, become float32 exactly. A float16 or float32 tensor in the host's
    memory is not copied.
    """
    if not (hasattr(value, "detach") and hasattr(value, "cpu")):
        return value
    tensor = value.detach().cpu()
    if tensor.is_floating_point() and tensor.element_size() < 4 and str(tensor.dtype) != "torch.float16":
        tensor = tensor.float()
    return tensor.resolve_conj().resolve_neg().numpy()


def is_bfloat16(value: object) -> bool:
    """Whether a tensor is of bfloat16, in which whole numbers beyond 256 are rounded."""
    return str(getattr(value, "dtype", "")) == "torch.bfloat16"
