"""Sufficient statistics of rows on a device of torch, handed to the core's `Moments`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ssl_risk_rs import _core
from ssl_risk_rs.probes.torch_halves import centred_halves, has_tensor_cores, indicators, multiply, unit_of
from ssl_risk_rs.probes.torch_rows import DeviceRows

__all__ = ["add_rows"]

#: rows whose products are summed in float32 before they are added in float64; the core's rounding rules rest on it
FLUSH_ROWS = _core.FLUSH_ROWS
#: largest |x − c| outside of which float32 cannot hold squares and their sums
PLAIN = (2.0**-45, 2.0**55)
#: classes up to which a block has indicators for all, also those that it lacks
MOST_CLASSES = 4096


def add_rows(
    moments: "_core.Moments",
    share: DeviceRows,
    rows: np.ndarray,
    labels: np.ndarray,
    cells: np.ndarray,
    n_cells: int,
    *,
    shift: np.ndarray,
    wide: bool,
) -> None:
    """Add those of `rows` that a device has, cell by cell.

    wide : sum products in float64; else blocks of rows in float32, across blocks in float64

    Raises
    ------
    ParameterError for a row with NaN or infinity, which it names.
    """
    own = share.pick(rows).rows
    for cell in range(n_cells):
        members = own[cells[own] == cell]
        if len(members) == 0:
            continue
        add = _add_wide if wide else _add_halves if has_tensor_cores(share.device) else _add_plain
        sums = _sums(share, members, labels, shift, moments.n_classes, add)
        if not wide and not sums.is_plain():
            sums = _sums(share, members, labels, shift, moments.n_classes, _add_wide)
        moments.add_sums(
            cell,
            sums.counts,
            sums.sums,
            sums.least,
            sums.largest,
            sums.gram,
            precision="float64" if wide else "float32",
            n_threads=share.n_threads,
        )


class _CellSums:
    """Sums over the rows of one cell, on the host."""

    def __init__(
        self, counts: np.ndarray, sums: "torch.Tensor", least: "torch.Tensor", largest: "torch.Tensor",
        gram: "torch.Tensor",
    ) -> None:  # fmt: skip
        self.counts = counts
        self.sums, self.gram, self.least, self.largest = (_to_host(v) for v in (sums, gram, least, largest))

    def is_plain(self) -> bool:
        """Whether float32 held the squares of every feature that is not constant."""
        size = np.maximum(np.abs(self.least), np.abs(self.largest))
        return bool(((size == 0) | ((size >= PLAIN[0]) & (size <= PLAIN[1]))).all())


@dataclass(frozen=True, slots=True)
class _Centred:
    """Rows of a block, x (b, d) as stored; the centre of their sums and max |x − centre|, float32 (d,)."""

    x: "torch.Tensor"
    centre: "torch.Tensor"
    size: "torch.Tensor"


#: adds Σ (x − c)(x − c)ᵀ (d, d), and Σ x − c by target (k, d), of a block
_Add = Callable[["torch.Tensor", "torch.Tensor", _Centred, "torch.Tensor"], None]


def _to_host(v: "torch.Tensor") -> np.ndarray:
    """Through memory that is pinned, and is there for the next cell: five times as fast as into any."""
    found: np.ndarray = torch.empty(v.shape, dtype=v.dtype, pin_memory=v.is_cuda).copy_(v).numpy()
    return found


def _sums(
    share: DeviceRows, members: np.ndarray, labels: np.ndarray, shift: np.ndarray, k: int, add: _Add
) -> _CellSums:
    device, d = share.device, len(shift)
    picked = share.pick(members)
    codes = labels[members]
    targets = torch.from_numpy(codes.astype(np.int64)).to(device)
    centre = torch.from_numpy(shift).to(device)

    def over(step: int) -> _CellSums:
        sums = torch.zeros((k, d), dtype=torch.float64, device=device)
        gram = torch.zeros((d, d), dtype=torch.float64, device=device)
        least = torch.full((d,), torch.inf, device=device)
        largest = torch.full((d,), -torch.inf, device=device)
        for block in share.blocks(picked, step):
            low, high = block.x.amin(0).float() - centre, block.x.amax(0).float() - centre
            if not bool((low.isfinite() & high.isfinite()).all()):
                finite = torch.sub(block.x, centre).isfinite().all(1)
                share.name_bad_row(int(members[block.span][int(finite.to(torch.uint8).argmin())]), labels)
            torch.minimum(least, low, out=least)
            torch.maximum(largest, high, out=largest)
            size = torch.maximum(low.abs(), high.abs())
            add(gram, sums, _Centred(block.x, centre, size), targets[block.span])
        return _CellSums(np.bincount(codes, minlength=k).astype(np.uint64), sums, least, largest, gram)

    # a block, centred; its indicators by class; sums over `FLUSH_ROWS` rows
    wide = 8 if add is _add_wide else 4
    return share.within_memory((4 + 2 * wide) * d + wide * k + 4 * d * (d + k) // FLUSH_ROWS, over)


def _add_plain(
    gram: "torch.Tensor",
    sums: "torch.Tensor",
    rows: _Centred,
    targets: "torch.Tensor",
    kind: "torch.dtype" = torch.float32,
) -> None:
    x = torch.sub(rows.x, rows.centre).to(kind)
    # rows of one class add up in a product with indicators of the block's own classes
    present, place = targets.unique(return_inverse=True)
    indicator = torch.zeros((len(present), len(x)), dtype=kind, device=x.device)
    indicator[place, torch.arange(len(x), device=x.device)] = 1
    for start in range(0, len(x), FLUSH_ROWS):
        part = x[start : start + FLUSH_ROWS]
        gram.add_(part.T @ part)
        sums.index_add_(0, present, (indicator[:, start : start + FLUSH_ROWS] @ part).double())


def _add_wide(gram: "torch.Tensor", sums: "torch.Tensor", rows: _Centred, targets: "torch.Tensor") -> None:
    _add_plain(gram, sums, rows, targets, torch.float64)


def _add_halves(gram: "torch.Tensor", sums: "torch.Tensor", rows: _Centred, targets: "torch.Tensor") -> None:
    unit = unit_of(rows.size)
    x = centred_halves(rows.x, rows.centre, unit.float())
    gram.add_(multiply(x.t, x, FLUSH_ROWS, symmetric=True).div_(unit).div_(unit[:, None]))
    present, place = targets.unique(return_inverse=True) if len(sums) > MOST_CLASSES else (None, targets)
    n_classes = len(sums) if present is None else len(present)
    by_class = multiply(indicators(place, n_classes).t, x, FLUSH_ROWS)[:n_classes].div_(unit)
    if present is None:
        sums.add_(by_class)
    else:
        sums.index_add_(0, present, by_class)
