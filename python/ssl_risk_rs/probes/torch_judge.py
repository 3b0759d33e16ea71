"""What probes do on rows on devices of torch: predicted class, rank of the true class, log loss, margin."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ssl_risk_rs import _core
from ssl_risk_rs.errors import NumericalError, ShapeError
from ssl_risk_rs.probes.solver import Judged
from ssl_risk_rs.probes.torch_rows import DeviceRows, Picked

__all__ = ["DeviceProbe", "judge_rows", "wrong_rows"]


@dataclass(frozen=True, slots=True)
class DeviceProbe:
    """A probe on a device, float32: scores are ((x − centre) · factor) weights + bias.

    weights : (d, k); bias : (k); centre, factor : (d)
    """

    weights: "torch.Tensor"
    bias: "torch.Tensor"
    centre: "torch.Tensor"
    factor: "torch.Tensor"

    @classmethod
    def of(cls, probe: "_core.LinearProbe", device: "torch.device") -> "DeviceProbe":
        """A probe of the core, copied to a device."""
        coef, intercept, shift, scale = probe.scaled()
        return cls(
            torch.from_numpy(coef).to(device).float().T.contiguous(),
            torch.from_numpy(intercept).to(device, torch.float32),
            torch.from_numpy(shift).to(device),
            torch.from_numpy(scale).to(device),
        )

    def to(self, device: "torch.device") -> "DeviceProbe":
        """The same on a device."""
        return DeviceProbe(*(v.to(device) for v in (self.weights, self.bias, self.centre, self.factor)))

    def scores(self, x: "torch.Tensor") -> "torch.Tensor":
        """Of rows x (b, d), float32 (b, k)."""
        return torch.addmm(self.bias, torch.sub(x, self.centre).mul_(self.factor), self.weights)


def judge_rows(
    shares: Sequence[DeviceRows], probes: Sequence["_core.LinearProbe"], rows: np.ndarray, labels: np.ndarray
) -> list[Judged]:
    """As `_core.judge`; rows and labels have been checked.

    Raises
    ------
    ShapeError for a probe of other features or too few classes; NumericalError whose one argument is the number of a
    row with scores that are not finite.
    """
    most = int(labels[rows].max(initial=0))
    found: list[Judged] = []
    for probe in probes:
        if probe.n_classes <= most:
            raise ShapeError(f"a probe has {probe.n_classes} classes, a row's class is {most}")
        outcome = (
            np.empty(len(rows), np.uint32),
            np.empty(len(rows), np.uint32),
            np.empty(len(rows), np.float32),
            np.empty(len(rows), np.float32),
        )
        for share in shares:
            _judge_share(share, DeviceProbe.of(probe, share.device), rows, labels, outcome)
        found.append(outcome)
    return found


def wrong_rows(shares: Sequence[DeviceRows], probe: DeviceProbe, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether a probe predicts each row wrongly, bool (m,); rows and labels have been checked.

    Raises
    ------
    NumericalError as `judge_rows`.
    """
    wrong = np.empty(len(rows), bool)
    for share in shares:
        picked = share.pick(rows)
        wrong[picked.places] = _wrong_of_share(share, probe.to(share.device), picked, labels).cpu().numpy()
    return wrong


def _wrong_of_share(share: DeviceRows, probe: DeviceProbe, picked: Picked, labels: np.ndarray) -> "torch.Tensor":
    """The same of the rows that a device has."""
    targets = torch.from_numpy(labels[picked.rows].astype(np.int64)).to(share.device)
    wrong = torch.empty(len(picked), dtype=torch.bool, device=share.device)

    def over(step: int) -> None:
        for block in share.blocks(picked, step):
            z = probe.scores(block.x)
            _check_finite(z, picked.rows[block.span])
            wrong[block.span] = _above(z, targets[block.span].unsqueeze(1))[0].any(1)

    share.within_memory(6 * len(probe.centre) + 14 * len(probe.bias), over)
    return wrong


def _check_finite(z: "torch.Tensor", rows: np.ndarray) -> None:
    finite = z.isfinite().all(1)
    if not bool(finite.all()):
        raise NumericalError(int(rows[int(finite.to(torch.uint8).argmin())]))


def _above(z: "torch.Tensor", label: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
    """Which classes are ranked before the true one (b, k), and the score of the true one (b, 1)."""
    own = z.gather(1, label)
    classes = torch.arange(z.shape[1], device=z.device)
    return (z > own) | ((z == own) & (classes < label)), own


def _judge_share(share: DeviceRows, probe: DeviceProbe, rows: np.ndarray, labels: np.ndarray, outcome: Judged) -> None:
    """Fill in the outcomes of a device's rows."""
    device = share.device
    picked = share.pick(rows)
    if len(probe.centre) != share.features.n_features:
        raise ShapeError(f"a probe has {len(probe.centre)} features, the rows have {share.features.n_features}")
    targets = torch.from_numpy(labels[picked.rows].astype(np.int64)).to(device)

    def over(step: int) -> None:
        for block in share.blocks(picked, step):
            z = probe.scores(block.x)
            _check_finite(z, picked.rows[block.span])
            label = targets[block.span].unsqueeze(1)
            above, own = _above(z, label)
            top = z.amax(1, keepdim=True)
            predicted = (z == top).to(torch.uint8).argmax(1)
            total = (z - top).exp_().sum(1, dtype=torch.float64)
            loss = total.log() + (top - own).squeeze(1)
            other = z.scatter_(1, label, -torch.inf).amax(1)
            margin = torch.where(other.isfinite(), own.squeeze(1) - other, 0.0)
            places = picked.places[block.span]
            outcome[0][places] = predicted.cpu().numpy()
            outcome[1][places] = above.sum(1).cpu().numpy()
            outcome[2][places] = loss.float().cpu().numpy()
            outcome[3][places] = margin.cpu().numpy()

    share.within_memory(6 * len(probe.centre) + 14 * len(probe.bias), over)
