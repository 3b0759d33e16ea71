"""Ridge probes from the normal equations of designs, on a device of torch."""

import torch

from ssl_risk_rs import _core
from ssl_risk_rs.probes.torch_judge import DeviceProbe

__all__ = ["RidgeEquations"]

#: part of the penalty by which rounding of sums may have moved eigenvalues below zero before the core's
#: eigendecomposition, which can put them back, is needed
BELOW_ZERO = 0.1
#: bytes of equations that stay on the device: five folds at 2048 features and 1,000 classes take 0.25 GB
KEPT_BYTES = 1 << 30


class RidgeEquations:
    """Covariances and targets of designs on a device, where those of a tuning's folds stay, as many as KEPT_BYTES hold;
    a design that is solved alone takes their place.

    Notes
    -----
    A penalty is a Cholesky factorization in float64.
    """

    def __init__(self, device: "torch.device") -> None:
        self.device = device
        self._kept: dict[int, tuple[_core.Design, torch.Tensor, torch.Tensor]] = {}

    def _weights(self, design: "_core.Design", alpha: float, *, alone: bool) -> "torch.Tensor | None":
        """(C + αI)⁻¹ T in scaled coordinates, float64 (d, k') for the classes that are present.

        None where eigenvalues lie too far below zero for a Cholesky factorization, or the penalty is one that the core
        refuses.
        """
        if not alpha >= design.alpha_floor > 0:
            return None
        if alone and id(design) not in self._kept:
            self._kept.clear()  # folds have been tuned on: neither they nor their designs are needed any more
        covariance, targets = self._equations(design)
        shifted = covariance.clone()
        shifted.diagonal().add_(BELOW_ZERO * alpha)
        _, below = torch.linalg.cholesky_ex(shifted)
        shifted.diagonal().add_((1 - BELOW_ZERO) * alpha)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if int(below) or int(failed):
            return None
        return torch.cholesky_solve(targets, factor)

    def solve(
        self, design: "_core.Design", alpha: float, *, alone: bool = False
    ) -> "tuple[torch.Tensor, torch.Tensor] | None":
        """Weights (d, k) and intercept (k) for all classes, float64; None where `_weights` is."""
        weights = self._weights(design, alpha, alone=alone)
        if weights is None:
            return None
        present = torch.tensor(design.classes, device=self.device)
        kept = torch.from_numpy(design.scale != 0).to(self.device)
        full = torch.zeros((len(kept), design.n_classes), dtype=torch.float64, device=self.device)
        intercept = torch.zeros(design.n_classes, dtype=torch.float64, device=self.device)
        full[:, present] = torch.where(kept[:, None], weights, 0.0)
        intercept[present] = torch.from_numpy(design.priors).to(self.device)
        return full, intercept - torch.from_numpy(design.offset).to(self.device) @ full

    def probe(self, design: "_core.Design", alpha: float) -> "DeviceProbe | None":
        """The probe of a penalty, on the device; None where `solve` is."""
        solved = self.solve(design, alpha)
        if solved is None:
            return None
        weights, bias = (v.float() for v in solved)
        centre, factor = (torch.from_numpy(v).to(self.device) for v in (design.shift, design.scale))
        return DeviceProbe(weights, bias, centre, factor)

    def _equations(self, design: "_core.Design") -> "tuple[torch.Tensor, torch.Tensor]":
        """Covariance (d, d) and targets (d, k'), float64."""
        found = self._kept.pop(id(design), None)
        if found is None:
            covariance = torch.from_numpy(design.covariance)
            targets = torch.from_numpy(design.priors[:, None] * design.means).T
            room = KEPT_BYTES - _bytes(covariance) - _bytes(targets)
            while self._kept and sum(_bytes(c) + _bytes(t) for _, c, t in self._kept.values()) > room:
                del self._kept[next(iter(self._kept))]
            found = (design, covariance.to(self.device), targets.to(self.device))
        self._kept[id(design)] = found  # the last to be thrown out
        return found[1:]


def _bytes(values: "torch.Tensor") -> int:
    return values.numel() * values.element_size()
