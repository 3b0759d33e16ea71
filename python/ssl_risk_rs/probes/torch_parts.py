"""Logistic fits on rows that several processes hold: each makes the passes over its rows, whose sums add up here.

A pass sends the weights (d + 1, k) to every holder and gets the gradient of its rows, as large, and a few numbers back.
The descent is the core's, its vectors are on this machine's CPU.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from ssl_risk_rs import _core
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.holders import Holders
from ssl_risk_rs.probes.torch_metric import ClassModel
from ssl_risk_rs.probes.torch_passes import Share, Sums
from ssl_risk_rs.probes.torch_products import full_float32
from ssl_risk_rs.probes.torch_rows import DeviceRows
from ssl_risk_rs.probes.torch_solver import targets_of
from ssl_risk_rs.probes.torch_space import TorchSpace

__all__ = ["FitPart", "HeldShare", "class_model", "parts_space"]


@dataclass(frozen=True, slots=True)
class FitPart:
    """What a holder has to know of a fit.

    rows : uint32 (m,), counted from its first; places : int64 (m,), of these among all rows of the fit; targets : int64
    (m,), class of each among those present; shift, scale : float32 (d,)
    """

    token: str
    rows: np.ndarray
    places: np.ndarray
    targets: np.ndarray
    shift: np.ndarray
    scale: np.ndarray


class HeldShare:
    """The rows of a fit in the process that holds them."""

    def __init__(self, features: Features, offset: int, part: FitPart) -> None:
        self.token = part.token
        rows = DeviceRows(features, torch.device("cpu"))
        picked = rows.pick(part.rows + np.uint32(offset))
        self.share = Share(rows, picked, part.targets, cast(Any, part))
        # which rows a sample takes goes by their places among all
        self.share.picked = replace(picked, places=part.places)

    def sums(self, weights: np.ndarray, intercept: np.ndarray, with_curvature: bool, stride: int) -> Sums:
        """See `Share`."""
        w, b = torch.from_numpy(weights), torch.from_numpy(intercept)
        with full_float32():
            return self.share.sums(
                w, b, with_curvature=with_curvature, stride=stride, rounded=False, control=cast(Any, _Silent())
            )

    def losses(self, weights: np.ndarray, intercept: np.ndarray, factors: Sequence[float], stride: int) -> np.ndarray:
        """See `Share`."""
        with full_float32():
            return self.share.losses(torch.from_numpy(weights), torch.from_numpy(intercept), factors, stride)


class _Silent:
    """Stands for a `PassControl` where nobody can be asked: the caller asks when the pass is over."""

    def advance(self, rows: int) -> None:
        """Nothing."""


class _FarShare:
    """A holder's rows as `TorchSpace` takes shares."""

    def __init__(self, holders: "Holders", index: int, part: FitPart) -> None:
        self.holders = holders
        self.index = index
        self.n_rows = len(part.rows)
        self.part = holders.keep(part)

    def sums(
        self,
        w: "torch.Tensor",
        b: "torch.Tensor",
        *,
        with_curvature: bool,
        stride: int,
        rounded: bool,
        control: "_core.PassControl",
    ) -> Sums:
        """See `Share`; holders do not round."""
        reply = self.holders.submit(self.index, "sums", self.part, w.numpy(), b.numpy(), with_curvature, stride)
        found: Sums = reply.result()
        control.advance(self.n_rows)
        return found

    def losses(self, w: "torch.Tensor", b: "torch.Tensor", factors: Sequence[float], stride: int) -> np.ndarray:
        """See `Share`."""
        reply = self.holders.submit(self.index, "losses", self.part, w.numpy(), b.numpy(), list(factors), stride)
        found: np.ndarray = reply.result()
        return found


class _PartsSpace(TorchSpace):
    """A space whose rows are elsewhere."""

    def __init__(self, shares: Sequence[_FarShare], n_rows: int, model: ClassModel) -> None:
        self.n_rows = n_rows
        self.reduces = False
        self.kernels = ("torch-float32", "torch-float32")
        self.model = model
        self._shares = cast(Any, list(shares))


def class_model(design: "_core.Design") -> ClassModel:
    """What the fits on one training set share."""
    return ClassModel(design, torch.device("cpu"))


def parts_space(
    holders: "Holders",
    picked: Sequence[tuple[np.ndarray, np.ndarray]],
    rows: np.ndarray,
    labels: np.ndarray,
    design: "_core.Design",
    model: ClassModel,
) -> TorchSpace:
    """The space of a fit for `_core.fit_logistic_in`.

    picked : for each holder, places among `rows` and numbers within its own
    """
    targets = targets_of(rows, labels, design)
    token = secrets.token_hex(8)
    shares = [
        _FarShare(holders, i, FitPart(token, own, places, targets[places], design.shift, design.scale))
        for i, (places, own) in enumerate(picked)
        if len(own)
    ]
    return _PartsSpace(shares, len(rows), model)
