"""The metric of logistic fits on a device of torch; the core's `metric.rs` derives it and says why.

    P_c = m_c S_w + αI + s_c min(1, S_w / v) + Σ_{j in top J} h[j, c] μ_j μ_jᵀ + rest_c diag(S_b)

In the eigenbasis of S_w the first terms are diagonal and the rest is a rank-J update (Woodbury). The intercept is one
more coordinate with eigenvalue 0, mean 1 and no penalty.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ssl_risk_rs import _core

__all__ = ["ClassModel", "Curvature", "Metric"]

#: share of the mean variance below which a direction has less of what a row adds along itself
ROW_VARIANCE = 0.1
#: what float32 still holds
SMALLEST = 1.2e-38
#: entries of class means gathered at a time
GATHERED = 1 << 26
#: by how much an eigendecomposition may miss its matrix, in units of the largest eigenvalue, before the host makes it
DECOMPOSED = 1e-5


@dataclass(frozen=True, slots=True)
class Curvature:
    """Curvature of the rows, means over them.

    mass, squares : float64 (k,), of h and h²; classes, masses : int64 and float64 (k, J), the true classes whose rows
    have most of each class's mass, and that mass
    """

    mass: "torch.Tensor"
    squares: "torch.Tensor"
    classes: "torch.Tensor"
    masses: "torch.Tensor"


class ClassModel:
    """What the fits on one training set share: one symmetric eigendecomposition."""

    def __init__(self, design: "_core.Design", device: "torch.device") -> None:
        self.device = device
        self.priors = torch.from_numpy(design.priors).to(device)
        means = torch.from_numpy(design.means).to(device)  # (k, d)
        within = torch.from_numpy(design.covariance).to(device)
        self.variances = within.diagonal().clone()  # (d,), in the design's coordinates
        within -= means.T @ (self.priors[:, None] * means)
        values, basis = _eigen(within)
        values = values.clamp(min=0.0)
        rotated = basis.T @ means.T  # (d, k)
        self.eigenvalues = values
        self.between = (rotated.square() * self.priors).sum(1)
        self.basis = basis.float()
        self.means = rotated.T.float().contiguous()  # (k, d), in the eigenbasis
        self.plain_means = means.T.contiguous()  # (d, k), in the design's coordinates
        self.offset = torch.from_numpy(design.offset).to(device)
        mean_variance = float(values.sum()) / len(values)
        self.row_size = float(values.sum()) / design.n_samples
        self.row_variance = max(ROW_VARIANCE * mean_variance, 1e-300)
        self.ridge = max(0.1 * design.mean_variance, SMALLEST)

    def discriminant(self) -> "torch.Tensor":
        """Linear discriminant with a ridge of a tenth of the mean variance, float64 (d + 1, k), not yet scaled."""
        rotated = self.means.T.double() / (self.eigenvalues + self.ridge)[:, None]
        weights = self.basis.double() @ rotated
        half = 0.5 * (self.means.T * rotated).sum(0)
        return torch.cat([weights, (self.priors.log() - half)[None]])


def _eigen(matrix: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Eigenvalues and eigenvectors, on the device if that comes out right, else by LAPACK on the host."""
    if matrix.device.type != "cpu":
        try:
            values, basis = torch.linalg.eigh(matrix)
            missed = (matrix @ basis - basis * values).abs().max()
            if bool(missed <= DECOMPOSED * values.abs().max()):
                return values, basis
        except RuntimeError:  # torch.linalg.LinAlgError, or a library that gives up
            pass
    values, basis = torch.linalg.eigh(matrix.cpu())
    return values.to(matrix.device), basis.to(matrix.device)


class Metric:
    """The metric for one curvature; applies P⁻¹."""

    def __init__(self, model: ClassModel, curvature: Curvature, alpha: float) -> None:
        self.model = model
        mass = curvature.mass.clamp(min=1e-12)
        rest = (mass - curvature.masses.sum(1)).clamp(min=0.0)
        own = model.row_size * curvature.squares / mass
        low = (model.eigenvalues / model.row_variance).clamp(max=1.0)
        diagonal = (
            mass[:, None] * model.eigenvalues + rest[:, None] * model.between + own[:, None] * low + alpha
        ).clamp(min=1e-300)
        # the intercept has no diagonal of its own; a hundredth of its mass keeps the update regular
        of_intercept = torch.maximum(rest, 0.01 * mass)
        kept = curvature.masses > 1e-6 * mass[:, None]
        self.classes = curvature.classes
        self.roots = torch.where(kept, curvature.masses, 0.0).sqrt()  # (k, J)
        self.inverse = diagonal.reciprocal()  # (k, d)
        self.inverse_intercept = of_intercept.reciprocal()  # (k,)
        count = self.roots.shape[1]
        self.core = torch.empty((len(mass), count, count), dtype=torch.float64, device=model.device)
        for span, terms in self._terms():
            wide = terms.double()
            gram = (wide * self.inverse[span, None, :]) @ wide.transpose(1, 2)
            roots = self.roots[span]
            gram += roots[:, :, None] * roots[:, None, :] * self.inverse_intercept[span, None, None]
            gram.diagonal(dim1=1, dim2=2).add_(1.0)
            factor, failed = torch.linalg.cholesky_ex(gram)
            inverse = torch.cholesky_inverse(factor)
            # not reached in exact arithmetic; without its rank-one terms the metric is still one
            self.core[span] = torch.where((failed > 0)[:, None, None], 0.0, inverse)

    def _terms(self) -> "Iterator[tuple[slice, torch.Tensor]]":
        """√h μ of the heaviest true classes, float32 (classes, J, d), some classes at a time."""
        count, d = self.roots.shape[1], self.model.means.shape[1]
        step = max(1, GATHERED // (count * d))
        for start in range(0, len(self.classes), step):
            span = slice(start, min(start + step, len(self.classes)))
            gathered = self.model.means[self.classes[span]]
            yield span, gathered * self.roots[span, :, None].float()

    def solve(self, v: "torch.Tensor") -> "torch.Tensor":
        """P⁻¹ v for float32 (d + 1, k), without the part that is the same for all classes: softmax does not see it."""
        basis = self.model.basis
        rotated = (basis.T @ v[:-1]).T.double()  # (k, d)
        u = rotated * self.inverse
        intercept = v[-1].double() * self.inverse_intercept
        for span, terms in self._terms():
            roots = self.roots[span]
            projected = (terms @ u[span].float()[:, :, None]).squeeze(2).double() + roots * intercept[span, None]
            t = (self.core[span] @ projected[:, :, None]).squeeze(2)
            along = (t.float()[:, None, :] @ terms).squeeze(1)
            u[span] -= along * self.inverse[span]
            intercept[span] -= (roots * t).sum(1) * self.inverse_intercept[span]
        out = torch.cat([basis @ u.T.float(), intercept.float()[None]])
        return out - out.mean(1, keepdim=True)
