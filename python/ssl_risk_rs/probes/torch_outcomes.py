"""What scores say of rows on a device of torch: predicted class, rank of the true class, log loss, margin."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ssl_risk_rs.probes.torch_softmax import FUSED_CLASSES, HAS_TRITON

__all__ = ["Outcomes", "outcomes"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of rows, each (b,).

    predicted, rank : int32, the lowest class with the largest score, and classes ranked before the true one
    loss, margin : float32, −log p of the true class, and its score less the largest of the others, 0 without others
    finite : bool, whether all scores are
    """

    predicted: "torch.Tensor"
    rank: "torch.Tensor"
    loss: "torch.Tensor"
    margin: "torch.Tensor"
    finite: "torch.Tensor"

    @classmethod
    def empty(cls, b: int, device: "torch.device") -> "Outcomes":
        """Not yet filled."""
        kinds = (torch.int32, torch.int32, torch.float32, torch.float32, torch.bool)
        return cls(*(torch.empty(b, dtype=kind, device=device) for kind in kinds))

    @classmethod
    def joined(cls, blocks: "Sequence[Outcomes]", device: "torch.device") -> "Outcomes":
        """One after the other."""
        if not blocks:
            return cls.empty(0, device)
        names = ("predicted", "rank", "loss", "margin", "finite")
        return cls(*(torch.cat([getattr(block, name) for block in blocks]) for name in names))


def outcomes(z: "torch.Tensor", targets: "torch.Tensor") -> Outcomes:
    """Of scores z, float32 (b, k), contiguous, which may be overwritten; targets : int64 (b,)."""
    if z.is_cuda and HAS_TRITON and z.shape[1] <= FUSED_CLASSES:
        from ssl_risk_rs.probes.torch_fused import judge_scores

        found = Outcomes.empty(len(z), z.device)
        judge_scores(z, targets, found.predicted, found.rank, found.loss, found.margin, found.finite)
        return found
    finite = z.isfinite().all(1)
    label = targets.unsqueeze(1)
    own = z.gather(1, label)
    classes = torch.arange(z.shape[1], device=z.device)
    rank = ((z > own) | ((z == own) & (classes < label))).sum(1, dtype=torch.int32)
    top = z.amax(1, keepdim=True)
    predicted = (z == top).to(torch.uint8).argmax(1).int()
    total = (z - top).exp_().sum(1, dtype=torch.float64)
    loss = (total.log() + (top - own).squeeze(1)).float()
    other = z.scatter_(1, label, -torch.inf).amax(1)
    margin = torch.where(other.isfinite(), own.squeeze(1) - other, 0.0)
    return Outcomes(predicted, rank, loss, margin, finite)
