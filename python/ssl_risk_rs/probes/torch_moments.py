"""Sufficient statistics of rows on a device of torch, handed to the core's `Moments`."""

import numpy as np
import torch

from ssl_risk_rs import _core
from ssl_risk_rs.probes.torch_rows import DeviceRows

__all__ = ["add_rows"]

#: rows whose products are summed in float32 before they are added in float64; the core's rounding rules rest on it
FLUSH_ROWS = 2048
#: largest |x − c| outside of which float32 cannot hold squares and their sums
PLAIN = (2.0**-45, 2.0**55)


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
        sums = _sums(share, members, labels, shift, moments.n_classes, wide=wide)
        if not wide and not sums.is_plain():
            sums = _sums(share, members, labels, shift, moments.n_classes, wide=True)
        precision = "float64" if wide else "float32"
        moments.add_sums(cell, sums.counts, sums.sums, sums.least, sums.largest, sums.gram, precision=precision)


class _CellSums:
    """Sums over the rows of one cell, on the host."""

    def __init__(
        self, counts: np.ndarray, sums: "torch.Tensor", least: "torch.Tensor", largest: "torch.Tensor",
        gram: "torch.Tensor",
    ) -> None:  # fmt: skip
        self.counts = counts
        self.sums, self.gram = sums.cpu().numpy(), gram.cpu().numpy()
        self.least, self.largest = least.cpu().numpy(), largest.cpu().numpy()

    def is_plain(self) -> bool:
        """Whether float32 held the squares of every feature that is not constant."""
        size = np.maximum(np.abs(self.least), np.abs(self.largest))
        return bool(((size == 0) | ((size >= PLAIN[0]) & (size <= PLAIN[1]))).all())


def _sums(
    share: DeviceRows, members: np.ndarray, labels: np.ndarray, shift: np.ndarray, k: int, *, wide: bool
) -> _CellSums:
    device, d = share.device, len(shift)
    picked = share.pick(members)
    codes = labels[members]
    targets = torch.from_numpy(codes.astype(np.int64)).to(device)
    centre = torch.from_numpy(shift).to(device)
    kind = torch.float64 if wide else torch.float32

    def over(step: int) -> _CellSums:
        sums = torch.zeros((k, d), dtype=torch.float64, device=device)
        gram = torch.zeros((d, d), dtype=torch.float64, device=device)
        least = torch.full((d,), torch.inf, device=device)
        largest = torch.full((d,), -torch.inf, device=device)
        for block in share.blocks(picked, step):
            x = torch.sub(block.x, centre)
            finite = x.isfinite().all(1)
            if not bool(finite.all()):
                share.name_bad_row(int(members[block.span][int(finite.to(torch.uint8).argmin())]), labels)
            torch.minimum(least, x.amin(0), out=least)
            torch.maximum(largest, x.amax(0), out=largest)
            x = x.to(kind)
            # rows of one class add up in a product with indicators of the block's own classes
            present, place = targets[block.span].unique(return_inverse=True)
            indicator = torch.zeros((len(present), len(x)), dtype=kind, device=device)
            indicator[place, torch.arange(len(x), device=device)] = 1
            for start in range(0, len(x), FLUSH_ROWS):
                part = x[start : start + FLUSH_ROWS]
                gram.add_(part.T @ part)
                sums.index_add_(0, present, (indicator[:, start : start + FLUSH_ROWS] @ part).double())
        return _CellSums(np.bincount(codes, minlength=k).astype(np.uint64), sums, least, largest, gram)

    wide_factor = 2 if wide else 1
    return share.within_memory((8 + 4 * wide_factor) * d + 4 * wide_factor * k, over)
