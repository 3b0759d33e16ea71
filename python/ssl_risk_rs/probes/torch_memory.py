"""Limited-memory BFGS directions on a device of torch; the core's `lbfgs.rs` does the same on the host.

Pairs are kept in float32: they shape a direction. No value of a recursion is waited for on the host.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

__all__ = ["Memory"]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A step and its change of the gradient, float32 (d + 1, k), at the penalty of now: `change` plus `added` times the
    penalized part of `step`; rho = 1 / (step · change)."""

    step: "torch.Tensor"
    change: "torch.Tensor"
    added: float
    rho: float

    def change_dot(self, v: "torch.Tensor") -> "torch.Tensor":
        found = _dot(self.change, v)
        return found + self.added * _dot(self.step[:-1], v[:-1]) if self.added else found

    def add_change(self, v: "torch.Tensor", by: "torch.Tensor | float") -> None:
        """v += by · (change of the gradient)."""
        v.add_(self.change * by)
        if self.added:
            v[:-1].add_(self.step[:-1] * (by * self.added))


def _dot(a: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
    """Products and sums in float64; stays on the device."""
    return (a.double() * b.double()).sum()


@dataclass(frozen=True, slots=True)
class Memory:
    """Differences of the last steps and gradients, at most `capacity` of them; values, never changed in place."""

    capacity: int
    pairs: tuple[_Pair, ...] = ()

    def remember(self, step: "torch.Tensor", change: "torch.Tensor") -> "Memory":
        """With one more pair; pairs without positive curvature are dropped."""
        step, change = step.float(), change.float()
        curvature, steps, changes = torch.stack([_dot(step, change), _dot(step, step), _dot(change, change)]).tolist()
        if curvature <= 1e-12 * (steps * changes) ** 0.5:
            return self
        pair = _Pair(step, change, 0.0, 1.0 / curvature)
        return replace(self, pairs=(*self.pairs, pair)[-self.capacity :])

    def add_penalty(self, by: float) -> "Memory":
        """The same of the objective with `by` more penalty."""
        if not self.pairs:
            return self
        moved = [replace(pair, added=pair.added + by) for pair in self.pairs]
        curvatures = torch.stack([pair.change_dot(pair.step) for pair in moved]).tolist()
        kept = tuple(
            replace(pair, rho=1.0 / curvature)
            for pair, curvature in zip(moved, curvatures, strict=True)
            if curvature > 0
        )
        return replace(self, pairs=kept)

    def direction(self, gradient: "torch.Tensor", metric: "Callable[[torch.Tensor], torch.Tensor]") -> "torch.Tensor":
        """−H g, where H agrees with the pairs and is γ P⁻¹ (`metric`) elsewhere; float64."""
        q = gradient.float()
        if not self.pairs:
            return -metric(q).double()
        coefficients = []
        for pair in reversed(self.pairs):
            a = pair.rho * _dot(pair.step, q)
            pair.add_change(q, -a.float())
            coefficients.append(a)
        last = self.pairs[-1]
        change = torch.zeros_like(q)
        last.add_change(change, 1.0)
        scaled = _dot(change, metric(change))
        gamma = torch.where(scaled > 0, 1.0 / (last.rho * scaled), 1.0)
        r = metric(q) * gamma.float()
        for pair, a in zip(self.pairs, reversed(coefficients), strict=True):
            b = pair.rho * pair.change_dot(r)
            r.add_(pair.step * (a - b).float())
        return -r.double()
