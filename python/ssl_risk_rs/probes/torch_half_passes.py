"""Passes of a logistic fit over rows on a GPU with tensor cores, by pairs of float16 (`torch_halves`).

Rows of float16 are multiplied as they are stored, and the design's coordinates come from the weights:

    (x − shift) · scale · w = x · (scale w) − shift · (scale w)

Where a mean is so far from 0 that the difference would lose digits, and for rows of float32, each block is brought to
the design's coordinates and split in two. Rounded passes leave the second halves out.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from ssl_risk_rs.probes.torch_halves import (
    Curved,
    Halves,
    centred_halves,
    indicators,
    multiply,
    padded,
    residuals,
    scores,
    unit_of,
)
from ssl_risk_rs.probes.torch_passes import ONE, PASS_ROWS, Share, Sums
from ssl_risk_rs.probes.torch_rows import DeviceRows, Picked
from ssl_risk_rs.probes.torch_units import CURVATURE_UNIT, RESIDUAL_UNIT

if TYPE_CHECKING:
    from ssl_risk_rs import _core

__all__ = ["HalfShare"]

#: means in standard deviations, the largest and the root of the mean square, up to which rows are used as stored
FARTHEST, FAR = 64.0, 8.0
#: largest size of a feature by smallest deviation of another up to which one unit serves the weights of all
SPREAD = 2.0**15


class HalfShare(Share):
    """See `Share`.

    Parameters
    ----------
    variances : float64 (d,), of the fit's rows, in the design's coordinates
    """

    def __init__(
        self,
        rows: DeviceRows,
        picked: Picked,
        targets: np.ndarray,
        design: "_core.Design",
        variances: "torch.Tensor",
    ) -> None:
        super().__init__(rows, picked, targets, design)
        shift, scale = self.shift.double(), self.scale.double()
        deviations = variances.to(self.device).clamp(min=0.0).sqrt()
        self.stored = rows.dtype == np.float16 and _may_be_stored(shift, scale, deviations)
        # the design's coordinates are (x − centre) · factor, where x is what is multiplied
        if self.stored:
            self.centre, self.factor = shift, scale
        else:
            # no row of n lies farther than √n deviations from the mean; the units leave room for that
            unit = unit_of(deviations * design.n_samples**0.5)
            self.to_halves = (self.scale * unit).float()
            self.centre, self.factor = torch.zeros_like(shift), 1.0 / unit

    @property
    def reduces(self) -> bool:
        """See `Share`."""
        return True

    @property
    def kernels(self) -> tuple[str, str]:
        """See `Share`."""
        return "torch-float16x2", "torch-float16"

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
        """See `Share`; a rounded pass takes first halves only."""
        d, k = weights.shape
        given = weights.to(self.device).double() * self.factor[:, None]
        unit = unit_of(given.abs().amax())
        w = Halves.of(torch.nn.functional.pad(given * unit, (0, padded(k) - k)), whole=not rounded)
        # what the weights' halves leave out is left out of the shift as well
        moved = self.centre @ w.value(torch.float64)[:, :k]
        bias = (intercept.to(self.device).double() - moved / unit).float()
        unit = unit.float()

        def over(step: int) -> Sums:
            sums = Sums.zeros(d, k, self.device, with_curvature=with_curvature)
            for block in self.rows.blocks(self.picked, step):
                control.advance(len(block.x))
                targets = self.targets[block.span]
                x = self._halves(block.x, whole=not rounded)
                z = scores(x, w)
                r = residuals(z, unit, bias, targets, sums.softmax, whole=not rounded, curved=with_curvature)
                sums.gradient[:-1].add_(multiply(x.t, r.halves, PASS_ROWS)[:, :k])
                sums.gradient[-1].add_(r.sums)
                if stride:
                    some = z.index_select(0, self.sampled(block.span, stride))[:, :k]
                    sums.sample.append(torch.addcdiv(bias, some, unit).softmax(1))
                if r.curved is not None:
                    _add_curvature(sums, r.curved, targets)
            sums.gradient[:-1].div_(RESIDUAL_UNIT).addr_(self.centre, sums.gradient[-1], alpha=-1.0)
            sums.gradient[:-1].mul_(self.factor[:, None])
            return sums

        # rows, scores, both halves of residuals, curvature and indicators, and sums over `PASS_ROWS` rows
        return self.rows.within_memory((6 if self.stored else 10) * d + 12 * padded(k) + 12 * d * k // PASS_ROWS, over)

    def _halves(self, x: "torch.Tensor", *, whole: bool) -> Halves:
        return Halves(x) if self.stored else centred_halves(x, self.shift, self.to_halves, whole=whole)


def _may_be_stored(shift: "torch.Tensor", scale: "torch.Tensor", deviations: "torch.Tensor") -> bool:
    """Whether rows can be multiplied as they are stored; deviations are those of the scaled features."""
    varies = (scale > 0) & (deviations > 0)
    if not bool(varies.any()):
        return True
    stored = deviations[varies] / scale[varies]
    far = shift[varies].abs() / stored
    size = torch.hypot(shift[varies], stored)
    found = torch.stack([far.max(), far.square().mean().sqrt(), size.max() / stored.min()]).tolist()
    return bool(found[0] <= FARTHEST and found[1] <= FAR and found[2] <= SPREAD)


def _add_curvature(sums: Sums, curved: Curved, targets: "torch.Tensor") -> None:
    """Add a block's curvature, by class and by true class."""
    assert sums.mass is not None
    assert sums.squares is not None
    assert sums.table is not None
    sums.mass.add_(curved.mass)
    sums.squares.add_(curved.squares)
    k = len(sums.mass)
    by_class = multiply(indicators(targets, k).t, curved.halves, PASS_ROWS)[:k, :k]
    sums.table.add_((by_class * (ONE / CURVATURE_UNIT)).to(torch.int64))
