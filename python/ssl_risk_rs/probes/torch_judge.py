"""What probes do on rows on devices of torch: predicted class, rank of the true class, log loss, margin."""

from collections.abc import Sequence

import numpy as np
import torch

from ssl_risk_rs import _core
from ssl_risk_rs.errors import NumericalError, ShapeError
from ssl_risk_rs.probes.solver import Judged
from ssl_risk_rs.probes.torch_rows import DeviceRows

__all__ = ["judge_rows"]


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
            _judge_share(share, probe, rows, labels, outcome)
        found.append(outcome)
    return found


def _judge_share(
    share: DeviceRows, probe: "_core.LinearProbe", rows: np.ndarray, labels: np.ndarray, outcome: Judged
) -> None:
    """Fill in the outcomes of a device's rows."""
    device = share.device
    picked = share.pick(rows)
    coef, intercept, shift, scale = probe.scaled()
    if len(shift) != share.features.n_features:
        raise ShapeError(f"a probe has {len(shift)} features, the rows have {share.features.n_features}")
    weights = torch.from_numpy(coef).to(device, torch.float32).T.contiguous()
    bias = torch.from_numpy(intercept).to(device, torch.float32)
    centre, factor = torch.from_numpy(shift).to(device), torch.from_numpy(scale).to(device)
    targets = torch.from_numpy(labels[picked.rows].astype(np.int64)).to(device)
    classes = torch.arange(len(bias), device=device)

    def over(step: int) -> None:
        for block in share.blocks(picked, step):
            z = torch.addmm(bias, torch.sub(block.x, centre).mul_(factor), weights)
            finite = z.isfinite().all(1)
            if not bool(finite.all()):
                raise NumericalError(int(picked.rows[block.span][int(finite.to(torch.uint8).argmin())]))
            label = targets[block.span].unsqueeze(1)
            own = z.gather(1, label)
            above = (z > own) | ((z == own) & (classes < label))
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

    share.within_memory(6 * len(centre) + 14 * len(bias), over)
