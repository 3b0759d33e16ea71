"""The GPUs that encoders can run on."""

__all__ = ["device_names"]


def device_names() -> list[str]:
    """Name, memory and product name of each CUDA device that torch sees."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 1e9
        found.append(f"cuda:{index} {torch.cuda.get_device_name(index)}, {memory:.0f} GB")
    return found
