"""Limited-memory BFGS directions on a device of torch; the core's `lbfgs.rs` does the same on the host.

Pairs are kept in float32: they shape a direction. Both recursions run on the host, over inner products of the pairs
with each other, which are kept, and with the gradient: four products with all pairs and two waits give a direction,
however many pairs there are.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

__all__ = ["Memory"]

#: pairs that a log has room for beyond those that are remembered, until it is copied
SPARE = 8
#: terms of an inner product that are summed in float32
PART = 4096


@dataclass(slots=True)
class _Log:
    """Pairs in the order they came; rows are written once, behind those that are used.

    steps, changes : float32 (room, d + 1, k)
    """

    steps: "torch.Tensor"
    changes: "torch.Tensor"
    used: int = 0

    @classmethod
    def of(cls, room: int, like: "torch.Tensor") -> "_Log":
        """Nothing yet."""
        steps, changes = (torch.empty((room, *like.shape), dtype=like.dtype, device=like.device) for _ in range(2))
        return cls(steps, changes)

    def append(self, steps: "torch.Tensor", changes: "torch.Tensor") -> None:
        """Some pairs more, (m, d + 1, k)."""
        end = self.used + len(steps)
        self.steps[self.used : end], self.changes[self.used : end] = steps, changes
        self.used = end


@dataclass(frozen=True, slots=True)
class Memory:
    """Differences of the last steps and gradients, at most `capacity` of them; values, never changed in place.

    log : where they stand, up to `end`; values that came from one another share it
    products : float64 (m, m), of each step with each change, at the penalty of now
    """

    capacity: int
    log: _Log | None = None
    end: int = 0
    products: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def __len__(self) -> int:
        return len(self.products)

    def _pairs(self) -> "tuple[torch.Tensor, torch.Tensor]":
        """Steps and changes of the gradient, float32 (m, d + 1, k)."""
        assert self.log is not None
        own = slice(self.end - len(self), self.end)
        return self.log.steps[own], self.log.changes[own]

    def remember(self, step: "torch.Tensor", change: "torch.Tensor") -> "Memory":
        """With one more pair; pairs without positive curvature are dropped."""
        step, change = step.float(), change.float()
        pair = torch.stack([step, change])
        of_step, of_change = (_dots(pair, one) for one in (step, change))
        curvature, step_size, change_size = torch.stack([of_step[1], of_step[0], of_change[1]]).tolist()
        if curvature <= 1e-12 * (step_size * change_size) ** 0.5:
            return self
        log, end, kept = self.log, self.end, min(len(self), self.capacity - 1)
        if log is None or log.used != end or end == len(log.steps):
            # it is full, or another value has gone on from here
            log = _Log.of(self.capacity + SPARE, step)
            if kept:
                log.append(*(part[-kept:] for part in self._pairs()))
        log.append(step[None], change[None])
        products = np.empty((kept + 1, kept + 1))
        products[:-1, :-1] = self.products[len(self) - kept :, len(self) - kept :]
        found = replace(self, log=log, end=log.used, products=products)
        steps, changes = found._pairs()
        products[:, -1], products[-1] = torch.stack([_dots(steps, change), _dots(changes, step)]).cpu().numpy()
        return found

    def add_penalty(self, by: float) -> "Memory":
        """The same of the objective with `by` more penalty, which the intercept does not bear."""
        if len(self) == 0:
            return self
        steps, changes = self._pairs()
        log = _Log.of(self.capacity + SPARE, steps[0])
        log.append(steps, changes)
        steps, changes = log.steps[: len(self)], log.changes[: len(self)]
        changes[:, :-1].add_(steps[:, :-1], alpha=by)
        products = torch.stack([_dots(steps, one) for one in changes], 1).cpu().numpy()
        kept = np.flatnonzero(products.diagonal() > 0)
        if len(kept) < len(self):
            on_device = torch.from_numpy(kept).to(steps.device)
            log.used = 0
            log.append(steps[on_device], changes[on_device])
        return replace(self, log=log, end=log.used, products=products[np.ix_(kept, kept)])

    def direction(self, gradient: "torch.Tensor", metric: "Callable[[torch.Tensor], torch.Tensor]") -> "torch.Tensor":
        """−H g, where H agrees with the pairs and is γ P⁻¹ (`metric`) elsewhere; float64."""
        q = gradient.float()
        if len(self) == 0:
            return -metric(q).double()
        steps, changes = self._pairs()
        products, curvature = self.products, self.products.diagonal()
        along = _dots(steps, q).cpu().numpy()
        a = np.zeros(len(along))
        for i in reversed(range(len(a))):
            a[i] = (along[i] - products[i, i + 1 :] @ a[i + 1 :]) / curvature[i]
        q = _minus(q, a, changes)
        last = changes[-1]
        r = metric(q)
        found = torch.cat([_dots(changes, r), _dots(last[None], metric(last))]).cpu().numpy()
        along, scaled = found[:-1], found[-1]
        gamma = curvature[-1] / scaled if scaled > 0 else 1.0
        by = np.zeros(len(a))
        for i in range(len(a)):
            b = (gamma * along[i] - products[:i, i] @ by[:i]) / curvature[i]
            by[i] = b - a[i]
        return -_minus(r * gamma, by, steps).double()


def _dots(pairs: "torch.Tensor", v: "torch.Tensor") -> "torch.Tensor":
    """Inner products of each of `pairs` (m, …) with v: of `PART` terms in float32, their sums in float64."""
    flat, v = pairs.reshape(len(pairs), -1), v.reshape(-1)
    parts, _ = divmod(len(v), PART)
    whole = parts * PART
    by_part = torch.bmm(flat[:, :whole].unflatten(1, (parts, PART)).transpose(0, 1), v[:whole].view(parts, PART, 1))
    rest = torch.mv(flat[:, whole:], v[whole:])
    return by_part.squeeze(2).sum(0, dtype=torch.float64) + rest


def _minus(v: "torch.Tensor", factors: np.ndarray, pairs: "torch.Tensor") -> "torch.Tensor":
    """v − Σ factor · pair."""
    by = torch.from_numpy(factors.astype(np.float32)).to(v.device)
    return torch.addmv(v.reshape(-1), pairs.reshape(len(pairs), -1).T, by, alpha=-1).reshape(v.shape)
