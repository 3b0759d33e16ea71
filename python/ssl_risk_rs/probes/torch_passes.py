"""Passes of a logistic fit over rows on devices of torch.

    Σ x rᵀ, Σ r, Σ loss, Σ entropy, errors            r = softmax(x W + b) − onehot(y), x in scaled coordinates

Float32 sums are of at most `PASS_ROWS` rows; those are added in float64. The caller says how products are taken.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from ssl_risk_rs.probes.torch_products import has_tf32
from ssl_risk_rs.probes.torch_rows import DeviceRows, Picked
from ssl_risk_rs.probes.torch_softmax import SoftmaxSums, curvature, softmax_residual

if TYPE_CHECKING:
    from ssl_risk_rs import _core

__all__ = ["ONE", "PASS_ROWS", "Share", "Sums", "on_all", "total"]

T = TypeVar("T")

#: rows summed in float32 before they are added in float64
PASS_ROWS = 4096
#: whole numbers for 1 in the table of classes by classes: integers add up to the same bits in any order
ONE = float(1 << 36)


@dataclass(slots=True)
class Sums:
    """Sums over the rows of one device, there.

    gradient : float64 (d + 1, k), Σ x rᵀ, then Σ r as last row; mass, squares : float64 (k,), Σ h and Σ h²;
    table : int64 (k, k), Σ h by true class in units of 1 / `ONE`; sample : float32 (m, k), predictions of some rows
    """

    softmax: SoftmaxSums
    gradient: "torch.Tensor"
    mass: "torch.Tensor | None"
    squares: "torch.Tensor | None"
    table: "torch.Tensor | None"
    sample: "list[torch.Tensor]"

    @classmethod
    def zeros(cls, d: int, k: int, device: "torch.device", *, with_curvature: bool) -> "Sums":
        """Over no rows yet."""

        def wide(*shape: int) -> "torch.Tensor":
            return torch.zeros(shape, dtype=torch.float64, device=device)

        return cls(
            softmax=SoftmaxSums(device),
            gradient=wide(d + 1, k),
            mass=wide(k) if with_curvature else None,
            squares=wide(k) if with_curvature else None,
            table=torch.zeros((k, k), dtype=torch.int64, device=device) if with_curvature else None,
            sample=[],
        )


class Share:
    """The rows of a fit that one device has."""

    def __init__(self, rows: DeviceRows, picked: Picked, targets: np.ndarray, design: "_core.Design") -> None:
        self.rows = rows
        self.picked = picked
        self.device = rows.device
        self.targets = torch.from_numpy(targets[picked.places]).to(self.device)
        self.shift = torch.from_numpy(design.shift).to(self.device)
        self.scale = torch.from_numpy(design.scale).to(self.device)
        self._sample: tuple[int, np.ndarray, torch.Tensor] | None = None

    def sampled(self, span: slice, stride: int) -> "torch.Tensor":
        """Every `stride`-th of all rows of the fit, where they stand within the block of this span."""
        if self._sample is None or self._sample[0] != stride:
            chosen = np.flatnonzero(self.picked.places % stride == 0)
            self._sample = stride, chosen, torch.from_numpy(chosen).to(self.device)
        _, chosen, on_device = self._sample
        first, last = np.searchsorted(chosen, (span.start, span.stop)).tolist()
        found: torch.Tensor = on_device[first:last] - span.start
        return found

    @property
    def reduces(self) -> bool:
        """Whether passes may round their factors, which is faster."""
        return has_tf32(self.device)

    @property
    def kernels(self) -> tuple[str, str]:
        """Names of whole and of rounded products."""
        return "torch-float32", "torch-tf32"

    def sums(
        self,
        weights: "torch.Tensor",
        intercept: "torch.Tensor",
        *,
        with_curvature: bool,
        stride: int,
        rounded: bool,
        control: "_core.PassControl",
    ) -> Sums:
        """Over these rows; every `stride`-th row gives its predictions, none where 0.

        weights : float32 (d, k); intercept : float32 (k,); rounded : how the caller has set torch to take products
        """
        d, k = weights.shape
        weights, intercept = weights.to(self.device), intercept.to(self.device)

        def over(step: int) -> Sums:
            sums = Sums.zeros(d, k, self.device, with_curvature=with_curvature)
            for block in self.rows.scaled_blocks(self.picked, step, self.shift, self.scale):
                control.advance(len(block.x))
                targets = self.targets[block.span]
                r = torch.addmm(intercept, block.x, weights)
                softmax_residual(r, targets, sums.softmax)
                for part_x, part_r in zip(block.x.split(PASS_ROWS), r.split(PASS_ROWS), strict=True):
                    sums.gradient[:-1].add_(part_x.T @ part_r)
                sums.gradient[-1].add_(r.sum(0, dtype=torch.float64))
                if stride:
                    sums.sample.append(_predictions(r, targets, self.sampled(block.span, stride)))
                if sums.mass is not None and sums.squares is not None and sums.table is not None:
                    h = curvature(r)
                    sums.mass.add_(h.sum(0, dtype=torch.float64))
                    sums.squares.add_((h * h).sum(0, dtype=torch.float64))
                    sums.table.index_add_(0, targets, (h.double() * ONE).to(torch.int64))
            return sums

        return self.rows.within_memory((24 if with_curvature else 12) * k + 6 * d, over)

    def losses(
        self, weights: "torch.Tensor", intercept: "torch.Tensor", factors: Sequence[float], stride: int
    ) -> np.ndarray:
        """Σ loss of every `stride`-th row for scores times each factor; float64 (n_factors,)."""
        weights, intercept = weights.to(self.device), intercept.to(self.device)
        chosen = np.flatnonzero(self.picked.places % stride == 0)
        picked = self.rows.pick(self.picked.rows[chosen])
        targets = self.targets[torch.from_numpy(chosen).to(self.device)]

        def over(step: int) -> np.ndarray:
            each = [SoftmaxSums(self.device) for _ in factors]
            for block in self.rows.scaled_blocks(picked, step, self.shift, self.scale):
                z = torch.addmm(intercept, block.x, weights)
                for factor, sums in zip(factors, each, strict=True):
                    softmax_residual(z * factor, targets[block.span], sums)
            return np.array([sums.loss.item() for sums in each])

        return self.rows.within_memory(16 * weights.shape[1] + 6 * len(self.shift), over)


def _predictions(r: "torch.Tensor", targets: "torch.Tensor", rows: "torch.Tensor") -> "torch.Tensor":
    """Probabilities of some rows from their residuals."""
    q = r.index_select(0, rows)
    q[torch.arange(len(q), device=q.device), targets[rows]] += 1.0
    return q


def on_all(work: Callable[[Share], T], shares: Sequence[Share]) -> list[T]:
    """`work` of each device's share, at the same time, in the order of the shares."""
    if len(shares) == 1:
        return [work(shares[0])]
    with ThreadPoolExecutor(len(shares)) as pool:
        return list(pool.map(work, shares))


def total(tensors: "Sequence[torch.Tensor | None]") -> "torch.Tensor":
    """Their sum on the device of the first, in the order given."""
    given = [one for one in tensors if one is not None]
    added = given[0]
    for other in given[1:]:
        added = added + other.to(added.device)
    return added
