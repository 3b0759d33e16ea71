"""Where a logistic fit on devices of torch lives: vectors on the first device, rows on all of them.

The core's descent decides everything (steps, stops, certificate) and asks this for operations; `_core.fit_logistic_in`
says what each must give.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ssl_risk_rs.probes.torch_half_passes import HalfShare
from ssl_risk_rs.probes.torch_halves import has_tensor_cores
from ssl_risk_rs.probes.torch_memory import Memory
from ssl_risk_rs.probes.torch_metric import ClassModel, Curvature, Metric
from ssl_risk_rs.probes.torch_passes import ONE, Share, Sums, on_all, total
from ssl_risk_rs.probes.torch_products import full_float32
from ssl_risk_rs.probes.torch_rows import DeviceRows, Picked

if TYPE_CHECKING:
    from ssl_risk_rs import _core

__all__ = ["TorchSpace"]

#: products that a second moment of the sampled predictions may cost, and their number
SAMPLE_PRODUCTS = 1 << 29
SAMPLE_VALUES = 1 << 22
#: classes whose means enter a block of the metric exactly
HEAVIEST = 16
#: fewest and most steps remembered, and the bytes they may take beyond the fewest
MEMORY = (20, 60)
MEMORY_BYTES = 1 << 28

#: objective, entropy, train error, gradient, ‖∇_W F‖², excess (k,), curvature, sample (m, k)
Found = tuple[float, float, float, "torch.Tensor", float, np.ndarray, "Curvature | None", "np.ndarray | None"]


class TorchSpace:
    """The space of one fit; vectors are float64 (d + 1, k), weights and then the intercept.

    Parameters
    ----------
    shares : the rows of each device
    rows : uint32 (m,), training rows
    targets : int64 (m,), class of each among the design's present classes
    """

    def __init__(
        self,
        shares: Sequence[DeviceRows],
        rows: np.ndarray,
        targets: np.ndarray,
        design: "_core.Design",
        model: ClassModel,
    ) -> None:
        self.n_rows = len(rows)
        self.model = model
        self._shares = [_share(one, one.pick(rows), targets, design, model) for one in shares]
        self.reduces = all(one.reduces for one in self._shares)
        whole, rounded = zip(*(one.kernels for one in self._shares), strict=True)
        self.kernels = (",".join(dict.fromkeys(whole)), ",".join(dict.fromkeys(rounded)))

    def vector(self, values: np.ndarray) -> "torch.Tensor":
        """From numbers."""
        return torch.from_numpy(values).to(self.model.device)

    def values(self, v: "torch.Tensor") -> np.ndarray:
        """To numbers."""
        found: np.ndarray = v.cpu().numpy()
        return found

    def discriminant(self) -> "torch.Tensor":
        """The linear discriminant of the training rows, not yet scaled."""
        return self.model.discriminant()

    def weights_square(self, point: "torch.Tensor") -> float:
        """‖W‖²."""
        return float(point[:-1].square().sum())

    def centred(self, v: "torch.Tensor") -> "torch.Tensor":
        """Without the part that is the same for all classes."""
        return v - v.mean(1, keepdim=True)

    def step(self, point: "torch.Tensor", length: float, direction: "torch.Tensor") -> "torch.Tensor":
        """point + length · direction."""
        return torch.add(point, direction, alpha=length)

    def scaled(self, factor: float, v: "torch.Tensor") -> "torch.Tensor":
        """factor · v."""
        return v * factor

    def intercept_only(self, intercept: np.ndarray) -> "torch.Tensor":
        """Weights 0 and this intercept."""
        v = torch.zeros((len(self.model.eigenvalues) + 1, len(intercept)), dtype=torch.float64)
        v[-1] = torch.from_numpy(intercept)
        return v.to(self.model.device)

    def dot(self, a: "torch.Tensor", b: "torch.Tensor") -> float:
        """aᵀ b."""
        return float((a * b).sum())

    def losses_by_factor(self, point: "torch.Tensor", factors: Sequence[float], stride: int) -> list[float]:
        """Mean loss on every `stride`-th row for scores times each factor."""
        w, b = point[:-1].float(), point[-1].float()
        with full_float32():
            losses = np.sum(on_all(lambda share: share.losses(w, b, factors, stride), self._shares), axis=0)
        means: list[float] = (losses / max(1, -(-self.n_rows // stride))).tolist()
        return means

    def evaluate(
        self,
        point: "torch.Tensor",
        alpha: float,
        with_curvature: bool,
        with_sample: bool,
        reduced: bool,
        control: "_core.PassControl",
    ) -> Found:
        """F and its gradient at a point, by one pass over the rows."""
        w, b = point[:-1].float(), point[-1].float()
        k = len(b)
        stride = max(1, -(-self.n_rows * k // max(1, SAMPLE_PRODUCTS // k)), -(-self.n_rows * k // SAMPLE_VALUES))

        stride = stride if with_sample else 0

        def of(share: Share) -> Sums:
            return share.sums(w, b, with_curvature=with_curvature, stride=stride, rounded=reduced, control=control)

        with full_float32(rounded=reduced):
            each = on_all(of, self._shares)
        inv_n = 1.0 / self.n_rows
        gradient = total([one.gradient for one in each]) * inv_n
        gradient[:-1].add_(point[:-1], alpha=alpha)
        numbers = torch.stack([point[:-1].square().sum(), gradient[:-1].square().sum()])
        host = torch.cat([numbers, gradient[-1]]).cpu().numpy()  # one wait for the device
        loss, entropy, errors = (v * inv_n for v in np.sum([one.softmax.numbers() for one in each], axis=0).tolist())
        found = None
        if with_curvature:
            heaviest = torch.topk(total([one.table for one in each]), min(HEAVIEST, k), dim=0)
            found = Curvature(
                mass=total([one.mass for one in each]) * inv_n,
                squares=total([one.squares for one in each]) * inv_n,
                classes=heaviest.indices.T.contiguous(),
                masses=heaviest.values.T.double() * (inv_n / ONE),
            )
        sample = [torch.cat(one.sample).cpu() for one in each if one.sample]
        return (
            loss + 0.5 * alpha * float(host[0]),
            entropy,
            errors,
            gradient,
            float(host[1]),
            host[2:].copy(),
            found,
            torch.cat(sample).numpy() if sample else None,
        )

    def dual_square(
        self, point: "torch.Tensor", gradient: "torch.Tensor", excess: np.ndarray, epsilon: float, alpha: float
    ) -> float:
        """‖αV‖² of the certificate."""
        model, over = self.model, torch.from_numpy(excess).to(self.model.device)
        v = torch.add(gradient[:-1], point[:-1], alpha=-alpha).mul_(epsilon - 1.0)
        v += (epsilon * model.priors) * model.plain_means
        v += ((1.0 - epsilon) * model.offset)[:, None] * over
        return float(v.square().sum())

    def metric(self, curvature: Curvature, alpha: float) -> Metric:
        """The metric where the rows have this curvature."""
        with full_float32():
            return Metric(self.model, curvature, alpha)

    def memory(self) -> Memory:
        """No steps yet."""
        pair_bytes = 8 * (len(self.model.eigenvalues) + 1) * len(self.model.priors)
        return Memory(min(max(MEMORY_BYTES // pair_bytes, MEMORY[0]), MEMORY[1]))

    def remember(
        self,
        memory: Memory,
        to: "torch.Tensor",
        of: "torch.Tensor",
        gradient_to: "torch.Tensor",
        gradient_of: "torch.Tensor",
    ) -> Memory:
        """With the step and the gradient's change from one point to the next."""
        with full_float32():
            return memory.remember(to - of, gradient_to - gradient_of)

    def add_penalty(self, memory: Memory, by: float) -> Memory:
        """The steps of the same objective with `by` more penalty."""
        with full_float32():
            return memory.add_penalty(by)

    def direction(self, memory: Memory, gradient: "torch.Tensor", metric: Metric) -> "torch.Tensor":
        """−H g."""
        with full_float32():
            return memory.direction(gradient, metric.solve)


def _share(rows: DeviceRows, picked: Picked, targets: np.ndarray, design: "_core.Design", model: ClassModel) -> Share:
    """The rows of a device, with the products that are fastest there."""
    if has_tensor_cores(rows.device, len(model.priors)):
        return HalfShare(rows, picked, targets, design, model.variances)
    return Share(rows, picked, targets, design)
