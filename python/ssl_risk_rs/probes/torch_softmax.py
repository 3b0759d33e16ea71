"""Softmax residual of a block of scores on a device of torch, with the sums that a pass takes on the way."""

from importlib import import_module
from importlib.util import find_spec

import torch

__all__ = ["SoftmaxSums", "curvature", "softmax_residual"]


def _is_importable(name: str) -> bool:
    """Whether a package is there and can be imported: triton 3.0 wants setuptools, and does not say so."""
    if find_spec(name) is None:
        return False
    try:
        import_module(name)
    except ImportError:
        return False
    return True


#: probabilities below it are written as zero: their products with features would be denormals, which cost a CPU a
#: hundred times a product
FLUSH = 1e-30
#: e to less than this is zero
SMALLEST = -87.0
#: one kernel instead of a dozen operations, up to this many classes
HAS_TRITON = _is_importable("triton")
FUSED_CLASSES = 16_384


class SoftmaxSums:
    """Σ −log p[y], Σ entropy of p, and rows whose largest score is not the label's, on the device."""

    def __init__(self, device: "torch.device") -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.entropy = torch.zeros((), dtype=torch.float64, device=device)
        self.errors = torch.zeros((), dtype=torch.int64, device=device)

    def numbers(self) -> list[float]:
        """Loss, entropy and errors, on the host."""
        return torch.stack([self.loss, self.entropy, self.errors.double()]).tolist()


def softmax_residual(z: "torch.Tensor", targets: "torch.Tensor", sums: SoftmaxSums) -> None:
    """Turn scores into softmax(z) − onehot(targets), in place, and add to `sums`.

    z : float32 (b, k); targets : int64 (b,)

    The largest score's own e⁰ = 1 is left out of sums until the end: beside it a sum of 1e-8 would be lost, and with
    it the whole loss of a row that is predicted with confidence. Of equal scores the lowest class is predicted.
    """
    if z.is_cuda and HAS_TRITON and z.shape[1] <= FUSED_CLASSES:
        from ssl_risk_rs.probes.torch_fused import softmax_rows

        loss, entropy, wrong = softmax_rows(z, targets)
        sums.loss += loss.sum()
        sums.entropy += entropy.sum()
        sums.errors += wrong.sum()
        return
    label = targets.unsqueeze(1)
    z.sub_(z.amax(1, keepdim=True))
    own = z.gather(1, label).squeeze(1)
    is_top = z == 0
    sums.errors += (is_top.to(torch.uint8).argmax(1) != targets).sum()
    e = z.exp()
    dot = z.clamp_(min=SMALLEST).mul_(e).sum(1)
    rest = e.masked_fill(is_top, 0.0).sum(1) + (is_top.sum(1) - 1)
    log_total = rest.double().log1p()
    total = 1 + rest
    sums.loss += (log_total - own).sum()
    sums.entropy += (log_total - dot / total).sum()
    torch.div(e, total.unsqueeze(1), out=z)
    torch.nn.functional.threshold(z, FLUSH, 0.0, inplace=True)
    p = z.gather(1, label).squeeze(1)
    missing = rest / total  # 1 − p of the largest p: what the others have together
    missing = torch.where(missing < FLUSH, 0.0, missing)
    z.scatter_(1, label, torch.where(own < 0, p - 1, -missing).unsqueeze(1))


def curvature(r: "torch.Tensor") -> "torch.Tensor":
    """Curvature of the rows' losses along the scores whose residuals are `r`: max(|r| (1 − |r|), r² / 8).

    The second is what p (1 − p) comes to on the way for a row that is predicted wrongly with confidence.
    """
    r = r.abs()
    return torch.maximum(r * (1 - r), 0.125 * r * r)
