"""Devices of torch that probes can be fitted on."""

import torch

from ssl_risk_rs.errors import ParameterError

__all__ = ["best", "named"]


def best() -> str:
    """The first GPU, else "cpu": this package's own kernels."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def named(device: str) -> "list[torch.device]":
    """The devices of a name; ParameterError if one is not there or cannot take float64 sums."""
    found = []
    for name in device.split(","):
        name = "cpu" if name == "torch:cpu" else "cuda:0" if name == "cuda" else name
        try:
            one = torch.device(name)
        except RuntimeError as error:
            raise ParameterError(
                f"device {name!r} is unknown to torch; probes run on auto, cpu, cuda, cuda:1, or cuda:0,cuda:1"
            ) from error
        if one.type not in ("cpu", "cuda"):
            raise ParameterError(
                f"device {name!r} cannot add in float64, which probes need: use --device cpu (device='cpu')"
            )
        if one.type == "cuda" and not torch.cuda.is_available():
            raise ParameterError(
                f"device {name!r}: torch {torch.__version__} sees no CUDA device; use --device cpu (device='cpu')"
            )
        if one.type == "cuda" and (one.index or 0) >= torch.cuda.device_count():
            raise ParameterError(f"device {name!r}: there are {torch.cuda.device_count()}, from cuda:0")
        found.append(one)
    return found
