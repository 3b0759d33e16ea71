"""Which device fits and judges probes, and the solver of a device."""

import ctypes
import sys
from pathlib import Path
from typing import TypeAlias

from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.kernel_solver import KernelSolver
from ssl_risk_rs.probes.parts import PartedFeatures, PartsSolver
from ssl_risk_rs.probes.solver import Solver

__all__ = ["Device", "choose_device", "open_solver"]

#: "auto", "cpu", "cuda", "cuda:1", several joined by commas, or "torch:cpu": torch's own products on the CPU;
#: "auto:cuda:1" is that GPU where it pays
Device: TypeAlias = str

#: products of a logistic pass (n · d · k) from which a GPU pays for bringing torch and the rows there: a fit of 30
#: passes takes two cores a quarter of a minute. A GPU starts some hundred small kernels for each pass, however few rows
#: there are: 1,800 images of ten classes take it a minute, and one core 1.5 s
GPU_PRODUCTS = 5e9


def choose_device(device: Device, products: float) -> Device:
    """What "auto" stands for: a GPU, the one it names if any, where a pass of `products` = n · d · k pays for it.

    Raises
    ------
    ParameterError for a device that is not there, or without torch.
    """
    if not isinstance(device, str):
        if type(device).__module__ != "torch":
            raise ParameterError(f"device must be text, such as 'auto', 'cpu' or 'cuda:1', got {device!r}")
        device = str(device)  # a torch.device
    first, _, rest = device.partition(":")
    is_auto = first == "auto"
    named = rest if is_auto else device
    if named == "cpu" or (is_auto and (products < GPU_PRODUCTS or not (named or _may_have_gpu()))):
        return "cpu"
    try:
        from ssl_risk_rs.probes import torch_devices
    except ImportError as error:
        if is_auto and not named:
            return "cpu"
        if not isinstance(error, ModuleNotFoundError):  # it is there, and broken or half loaded
            raise ParameterError(f"device {named!r} needs torch, which cannot be loaded here: {error}") from error
        raise ParameterError(
            f"device {named!r} needs torch, which is not installed:  python -m pip install torch  or use --device cpu "
            "(device='cpu')"
        ) from error
    if not named:
        return torch_devices.best()
    return ",".join("torch:cpu" if one.type == "cpu" else str(one) for one in torch_devices.named(named))


def _may_have_gpu() -> bool:
    """Whether torch could see a GPU: where it is loaded it is asked, else there must be a driver that it would load."""
    if "torch" in sys.modules or sys.platform != "linux" or Path("/dev/kfd").exists():  # AMD's driver
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def open_solver(features: Features, device: Device = "cpu", *, n_threads: int | None = None) -> Solver:
    """A solver for these rows on a device that `choose_device` gave."""
    if isinstance(features, PartedFeatures):
        return PartsSolver(features, n_threads=n_threads)
    if device == "cpu":
        return KernelSolver(features, n_threads=n_threads)
    from ssl_risk_rs.probes import torch_devices
    from ssl_risk_rs.probes.torch_solver import TorchSolver

    return TorchSolver(features, torch_devices.named(device), n_threads=n_threads)
