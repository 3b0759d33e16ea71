"""Float32 numbers as pairs of float16, whose products tensor cores take many times as fast as float32's.

    v ≈ (high + low / 2¹¹) / unit        22 bits of v; unit is a power of 2 that fills float16's range

Tensor cores multiply float16 exactly but round their sums towards zero, by a share of the sum at every step. Sums of
`CHAIN` terms are therefore added outside of them, in float32 that rounds to nearest: products of pairs are as exact as
float32's own. The product of two second halves, 2⁻²² of the whole at most, is left out. Source: Ootomo and Yokota,
Recovering single precision accuracy from Tensor Cores (IJHPCA 2022).
Where there is no such device, the same pairs are multiplied in float32: that is what the kernels are tested against.
"""

from dataclasses import dataclass

import torch

from ssl_risk_rs.probes.torch_softmax import FUSED_CLASSES, HAS_TRITON, SoftmaxSums, curvature, softmax_residual
from ssl_risk_rs.probes.torch_units import CURVATURE_UNIT, LOW, RESIDUAL_UNIT

__all__ = [
    "Curved",
    "Halves",
    "Residuals",
    "centred_halves",
    "has_tensor_cores",
    "indicators",
    "multiply",
    "padded",
    "residuals",
    "scores",
    "unit_of",
]

#: whether products of float16 may be float32 as a whole: in CUDA's torch from 2.8 on
WIDENS = torch.version.cuda is not None and "dtype" in torch.ops.aten.bmm.overloads()
#: sizes have this exponent in their unit, where float16 ends at 2¹⁶; exponents of units
TOP, UNITS = 15, (-120, 120)


@dataclass(frozen=True, slots=True)
class Halves:
    """high, low : float16, of the same shape; without `low`, `high` is all there is."""

    high: "torch.Tensor"
    low: "torch.Tensor | None" = None

    @classmethod
    def of(cls, v: "torch.Tensor", *, whole: bool = True) -> "Halves":
        """Of numbers that fill float16's range; without the second half unless `whole`."""
        high = v.half()
        return cls(high, ((v - high.to(v.dtype)) * LOW).half() if whole else None)

    @property
    def t(self) -> "Halves":
        """Transposed."""
        return Halves(self.high.T, None if self.low is None else self.low.T)

    def value(self, dtype: "torch.dtype" = torch.float32) -> "torch.Tensor":
        """high + low / 2¹¹."""
        high = self.high.to(dtype)
        return high if self.low is None else high.add_(self.low.to(dtype), alpha=1 / LOW)


@dataclass(frozen=True, slots=True)
class Curved:
    """Curvature h of a block's scores.

    halves : (b, k padded), h times `CURVATURE_UNIT`, first halves only; mass, squares : float64 (k,), Σ h and Σ h²
    """

    halves: Halves
    mass: "torch.Tensor"
    squares: "torch.Tensor"


@dataclass(frozen=True, slots=True)
class Residuals:
    """What a block of scores gives.

    halves : (b, k padded), residuals times `RESIDUAL_UNIT`; sums : float64 (k,), Σ of those halves, in units of 1
    """

    halves: Halves
    sums: "torch.Tensor"
    curved: Curved | None


def has_tensor_cores(device: "torch.device", n_classes: int = 2) -> bool:
    """Whether the kernels run there, for so many classes."""
    if device.type != "cuda" or not HAS_TRITON or not WIDENS or n_classes > FUSED_CLASSES:
        return False
    return torch.cuda.get_device_capability(device)[0] >= 8


def unit_of(size: "torch.Tensor") -> "torch.Tensor":
    """Powers of 2 that bring sizes to between 2¹⁴ and 2¹⁵, float64; sizes of 0 to anything."""
    exponent = (TOP - torch.frexp(size).exponent).clamp(*UNITS)
    return torch.ldexp(torch.ones_like(size, dtype=torch.float64), exponent)


def indicators(targets: "torch.Tensor", n_classes: int) -> Halves:
    """1 where a row is of a class, (b, k padded)."""
    found = torch.zeros((len(targets), padded(n_classes)), dtype=torch.float16, device=targets.device)
    return Halves(found.scatter_(1, targets.unsqueeze(1), 1.0))


def padded(k: int) -> int:
    """Columns that are kept for k classes: rows begin at multiples of 32 bytes."""
    return -(-k // 16) * 16


def multiply(a: Halves, b: Halves, chunk: int, *, symmetric: bool = False) -> "torch.Tensor":
    """Products of the values, float64 (m, n): float32 sums of at most `chunk` terms, added in float64.

    a : (m, t); b : (t, n)
    symmetric : the product is, and what lies above its diagonal need not be made
    """
    if a.low is None and b.low is None:
        # both are rounded as it is: what sums in tensor cores lose is less
        found = _by_chunks(a.high, b.high, chunk)
    elif a.high.is_cuda:
        from ssl_risk_rs.probes.torch_fused_halves import multiply_halves

        found = multiply_halves(a.high, a.low, b.high, b.low, chunk, symmetric=symmetric)
    else:
        found = _by_chunks(a.value(), b.value(), chunk)
    total: torch.Tensor = found.sum(0, dtype=torch.float64)
    return total.tril() + total.tril(-1).T if symmetric else total


def _by_chunks(a: "torch.Tensor", b: "torch.Tensor", chunk: int) -> "torch.Tensor":
    """Products of each `chunk` of the terms, float32 (chunks, m, n)."""
    whole, rest = divmod(a.shape[1], chunk)
    parts = []
    if whole:
        end = whole * chunk
        of_a = a[:, :end].unflatten(1, (whole, chunk)).transpose(0, 1)
        parts.append(_product(of_a, b[:end].unflatten(0, (whole, chunk))))
    if rest:
        parts.append(_product(a[None, :, -rest:], b[None, -rest:]))
    if not parts:
        return torch.zeros((1, a.shape[0], b.shape[1]), device=a.device)
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _product(a: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
    """Float32 products of pairs of matrices, (p, m, t) by (p, t, n)."""
    if a.dtype == torch.float16 and a.is_cuda:
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a.float(), b.float())


def scores(a: Halves, b: Halves) -> "torch.Tensor":
    """Products of the values, float32 (m, n)."""
    if not a.high.is_cuda:
        return a.value() @ b.value()
    if a.low is None and b.low is None:
        return torch.mm(a.high, b.high, out_dtype=torch.float32)
    from ssl_risk_rs.probes.torch_fused_halves import multiply_halves

    found: torch.Tensor = multiply_halves(a.high, a.low, b.high, b.low, a.high.shape[1])[0]
    return found


def centred_halves(x: "torch.Tensor", shift: "torch.Tensor", factor: "torch.Tensor", *, whole: bool = True) -> Halves:
    """(x − shift) · factor, computed in float32, as halves.

    x : float16 or float32 (b, d); shift, factor : float32 (d,)
    """
    if x.is_cuda:
        from ssl_risk_rs.probes.torch_fused_halves import centre_rows

        return Halves(*centre_rows(x, shift, factor, whole=whole))
    return Halves.of(torch.sub(x, shift).mul_(factor), whole=whole)


def residuals(
    z: "torch.Tensor",
    unit: "torch.Tensor",
    bias: "torch.Tensor",
    targets: "torch.Tensor",
    sums: SoftmaxSums,
    *,
    whole: bool,
    curved: bool,
) -> Residuals:
    """softmax(z / unit + bias) − onehot(targets) as halves, and what is summed on the way; see `softmax_residual`.

    z : float32 (b, k padded), kept; unit : float32 (); bias : float32 (k,); targets : int64 (b,)
    """
    k = len(bias)
    if z.is_cuda:
        from ssl_risk_rs.probes.torch_fused_halves import softmax_halves

        found = softmax_halves(z, unit, bias, targets, whole=whole, curved=curved)
        sums.loss += found.loss.sum()
        sums.entropy += found.entropy.sum()
        sums.errors += found.wrong.sum()
        total, *of_curvature = found.partial.sum(1, dtype=torch.float64)[:, :k]
        made = None if found.curvature is None else Curved(Halves(found.curvature), *of_curvature)
        return Residuals(Halves(found.high, found.low), total, made)
    r = torch.addcdiv(bias, z[:, :k], unit)
    softmax_residual(r, targets, sums)
    wide = torch.nn.functional.pad(r, (0, z.shape[1] - k))
    halves = Halves.of(wide * RESIDUAL_UNIT, whole=whole)
    total = halves.value(torch.float64).sum(0)[:k] / RESIDUAL_UNIT
    h = curvature(wide)
    mass, squares = h.sum(0, dtype=torch.float64)[:k], h.square().sum(0, dtype=torch.float64)[:k]
    made = Curved(Halves.of(h * CURVATURE_UNIT, whole=False), mass, squares) if curved else None
    return Residuals(halves, total, made)
