"""What a pass does beside products, as Triton kernels that read and write memory once.

torch's own operations go over the scores a dozen times, and three times over the rows. Imported only on a GPU whose
torch comes with Triton; `torch_softmax`, `torch_outcomes` and `DeviceRows.scaled_blocks` define the results.
"""

import torch
import triton
import triton.language as tl

__all__ = ["judge_scores", "scale_rows", "softmax_rows"]

FLUSH = tl.constexpr(1e-30)
SMALLEST = tl.constexpr(-87.0)
#: scores that a program holds at a time
HELD = 2048


# Triton has no annotations, and compiles functions whose arguments have none: hence what is ignored below
@triton.jit  # type: ignore[untyped-decorator]
def _softmax_row(z_ptr, target_ptr, loss_ptr, entropy_ptr, wrong_ptr, k, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < k
    target = tl.load(target_ptr + row)
    z = tl.load(z_ptr + row * k + columns, mask=inside, other=float("-inf"))
    shifted = z - tl.max(z, 0)
    own = tl.sum(tl.where(columns == target, shifted, 0.0), 0)
    is_top = shifted == 0.0
    first = tl.min(tl.where(is_top, columns, BLOCK), 0)
    e = tl.exp(shifted)
    rest = tl.sum(tl.where(is_top, 0.0, e), 0) + (tl.sum(tl.where(is_top, 1.0, 0.0), 0) - 1.0)
    dot = tl.sum(e * tl.maximum(shifted, SMALLEST), 0)
    total = 1.0 + rest
    log_total = tl.log(1.0 + rest.to(tl.float64))
    tl.store(loss_ptr + row, log_total - own.to(tl.float64))
    tl.store(entropy_ptr + row, log_total - (dot / total).to(tl.float64))
    tl.store(wrong_ptr + row, (first != target).to(tl.int8))
    p = e / total
    p = tl.where(p < FLUSH, 0.0, p)
    missing = rest / total
    missing = tl.where(missing < FLUSH, 0.0, missing)
    of_label = tl.where(own < 0.0, p - 1.0, -missing)
    tl.store(z_ptr + row * k + columns, tl.where(columns == target, of_label, p), mask=inside)


def softmax_rows(z: "torch.Tensor", targets: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Turn scores into residuals, in place; loss float64 (b,), entropy float64 (b,) and wrong int8 (b,) of each row.

    z : float32 (b, k), contiguous, k at most a few ten thousand; targets : int64 (b,)
    """
    b, k = z.shape
    loss = torch.empty(b, dtype=torch.float64, device=z.device)
    entropy = torch.empty_like(loss)
    wrong = torch.empty(b, dtype=torch.int8, device=z.device)
    block = triton.next_power_of_2(k)
    warps = 4 if block <= 2048 else 8 if block <= 8192 else 16
    with torch.cuda.device(z.device) if z.is_cuda else torch.no_grad():
        _softmax_row[(b,)](z, targets, loss, entropy, wrong, k, BLOCK=block, num_warps=warps)
    return loss, entropy, wrong


@triton.jit  # type: ignore[untyped-decorator]
def _scale_row(  # type: ignore[no-untyped-def]
    x_ptr, numbers_ptr, shift_ptr, scale_ptr, out_ptr, d, GATHERED: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    source = tl.load(numbers_ptr + row) if GATHERED else row
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < d
    x = tl.load(x_ptr + source * d + columns, mask=inside).to(tl.float32)
    shift = tl.load(shift_ptr + columns, mask=inside)
    scale = tl.load(scale_ptr + columns, mask=inside)
    tl.store(out_ptr + row * d + columns, (x - shift) * scale, mask=inside)


def scale_rows(
    x: "torch.Tensor", numbers: "torch.Tensor | None", shift: "torch.Tensor", scale: "torch.Tensor"
) -> "torch.Tensor":
    """(x − shift) · scale in float32, of the rows `numbers`, int64 (b,), or of all.

    x : float16 or float32 (n, d), contiguous; shift, scale : float32 (d,)
    """
    b, d = len(x) if numbers is None else len(numbers), x.shape[1]
    out = torch.empty((b, d), dtype=torch.float32, device=x.device)
    block = min(1024, triton.next_power_of_2(d))
    with torch.cuda.device(x.device) if x.is_cuda else torch.no_grad():
        grid = (b, triton.cdiv(d, block))
        _scale_row[grid](x, numbers, shift, scale, out, d, GATHERED=numbers is not None, BLOCK=block)
    return out


@triton.jit  # type: ignore[untyped-decorator]
def _judge(  # type: ignore[no-untyped-def]
    z_ptr, target_ptr, predicted_ptr, rank_ptr, loss_ptr, margin_ptr, finite_ptr, b, k,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    is_row, is_class = rows < b, (columns < k)[None, :]
    target = tl.load(target_ptr + rows, mask=is_row, other=0)[:, None]
    z = tl.load(z_ptr + rows.to(tl.int64)[:, None] * k + columns[None, :], mask=is_row[:, None] & is_class, other=0.0)
    finite = tl.sum(tl.where(is_class & ((z - z) != 0.0), 1, 0), 1) == 0
    z = tl.where(is_class, z, float("-inf"))
    is_target = columns[None, :] == target
    own = tl.sum(tl.where(is_target, z, 0.0), 1)
    before = (z > own[:, None]) | ((z == own[:, None]) & (columns[None, :] < target))
    top = tl.max(z, 1)
    is_top = z == top[:, None]
    rest = tl.sum(tl.where(is_top, 0.0, tl.exp(z - top[:, None])), 1)
    tops = tl.sum(tl.where(is_top, 1.0, 0.0), 1)
    total = tops.to(tl.float64) + rest.to(tl.float64)
    other = tl.max(tl.where(is_target, float("-inf"), z), 1)
    tl.store(predicted_ptr + rows, tl.min(tl.where(is_top, columns[None, :], BLOCK), 1), mask=is_row)
    tl.store(rank_ptr + rows, tl.sum(before.to(tl.int32), 1), mask=is_row)
    tl.store(loss_ptr + rows, (tl.log(total) + (top - own).to(tl.float64)).to(tl.float32), mask=is_row)
    tl.store(margin_ptr + rows, tl.where(other > float("-inf"), own - other, 0.0), mask=is_row)
    tl.store(finite_ptr + rows, finite, mask=is_row)


def judge_scores(
    z: "torch.Tensor",
    targets: "torch.Tensor",
    predicted: "torch.Tensor",
    rank: "torch.Tensor",
    loss: "torch.Tensor",
    margin: "torch.Tensor",
    finite: "torch.Tensor",
) -> None:
    """Fill in what `torch_outcomes.Outcomes` says; z : float32 (b, k), contiguous."""
    b, k = z.shape
    block = triton.next_power_of_2(k)
    rows = max(1, HELD // block)
    with torch.cuda.device(z.device) if z.is_cuda else torch.no_grad():
        _judge[(triton.cdiv(b, rows),)](
            z, targets, predicted, rank, loss, margin, finite, b, k,
            ROWS=rows, BLOCK=block, num_warps=4 if block <= HELD else 16,
        )  # fmt: skip
