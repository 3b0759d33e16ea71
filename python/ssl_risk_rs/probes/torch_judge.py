"""What probes do on rows on devices of torch: predicted class, rank of the true class, log loss, margin."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ssl_risk_rs import _core
from ssl_risk_rs.errors import NumericalError, ShapeError
from ssl_risk_rs.probes.solver import OutcomeArrays
from ssl_risk_rs.probes.torch_halves import Halves, centred_halves, has_tensor_cores, padded, scores, unit_of
from ssl_risk_rs.probes.torch_outcomes import Outcomes, outcomes
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
        if has_tensor_cores(x.device, len(self.bias)):
            size = torch.maximum((x.amin(0) - self.centre).abs(), (x.amax(0) - self.centre).abs()) * self.factor
            of_rows = unit_of(size)
            factor = (self.factor * of_rows).float()
            if bool((size.isfinite() & factor.isfinite()).all()):
                return self._scores_by_halves(x, of_rows, factor)
        return torch.addmm(self.bias, torch.sub(x, self.centre).mul_(self.factor), self.weights)

    def _scores_by_halves(self, x: "torch.Tensor", of_rows: "torch.Tensor", factor: "torch.Tensor") -> "torch.Tensor":
        """The same with units of the rows' coordinates, float64 (d,), and their product with `factor`."""
        weights = self.weights.double() / of_rows[:, None]
        unit = unit_of(weights.abs().amax())
        k = len(self.bias)
        w = Halves.of(torch.nn.functional.pad(weights * unit, (0, padded(k) - k)))
        z = scores(centred_halves(x, self.centre, factor), w)
        return torch.addcdiv(self.bias, z[:, :k], unit.float())


def judge_rows(
    shares: Sequence[DeviceRows], probes: Sequence["_core.LinearProbe"], rows: np.ndarray, labels: np.ndarray
) -> list[OutcomeArrays]:
    """As `_core.judge`; rows and labels have been checked.

    Raises
    ------
    ShapeError for a probe of other features or too few classes; NumericalError whose one argument is the number of a
    row with scores that are not finite.
    """
    most = int(labels[rows].max(initial=0))
    found: list[OutcomeArrays] = []
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
        wrong[picked.places] = (_outcomes(share, probe.to(share.device), picked, labels).rank > 0).cpu().numpy()
    return wrong


def _judge_share(
    share: DeviceRows, probe: DeviceProbe, rows: np.ndarray, labels: np.ndarray, outcome: OutcomeArrays
) -> None:
    """Fill in the outcomes of a device's rows."""
    if len(probe.centre) != share.features.n_features:
        raise ShapeError(f"a probe has {len(probe.centre)} features, the rows have {share.features.n_features}")
    picked = share.pick(rows)
    found = _outcomes(share, probe, picked, labels)
    for out, values in zip(outcome, (found.predicted, found.rank, found.loss, found.margin), strict=True):
        out[picked.places] = values.cpu().numpy()


def _outcomes(share: DeviceRows, probe: DeviceProbe, picked: Picked, labels: np.ndarray) -> Outcomes:
    """Of the rows that a device has."""
    targets = torch.from_numpy(labels[picked.rows].astype(np.int64)).to(share.device)

    def over(step: int) -> list[Outcomes]:
        return [outcomes(probe.scores(block.x), targets[block.span]) for block in share.blocks(picked, step)]

    blocks = share.within_memory(8 * len(probe.centre) + 14 * len(probe.bias), over)
    found = Outcomes.joined(blocks, share.device)
    if not bool(found.finite.all()):
        raise NumericalError(int(picked.rows[int(found.finite.to(torch.uint8).argmin())]))
    return found
