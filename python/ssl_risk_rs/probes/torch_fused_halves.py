"""Triton kernels for pairs of float16; `torch_halves` defines their results. Imported only on a GPU with Triton."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from ssl_risk_rs.probes import torch_units

__all__ = ["SoftmaxHalves", "centre_rows", "multiply_halves", "softmax_halves"]

FLUSH = tl.constexpr(1e-30)
SMALLEST = tl.constexpr(-87.0)
LOW = tl.constexpr(torch_units.LOW)
RESIDUAL_UNIT = tl.constexpr(torch_units.RESIDUAL_UNIT)
CURVATURE_UNIT = tl.constexpr(torch_units.CURVATURE_UNIT)
#: side of a tile of a product, terms that tensor cores add up, and programs in a row that share factors in the cache
TILE, CHAIN, GROUP = 128, 64, 8
#: bytes of shared memory that are left to the compiler
KEPT_BYTES = 4096
#: scores that a program holds at a time, and programs that a device has work for
HELD, PROGRAMS = 2048, 1056


# Triton has no annotations, and compiles functions whose arguments have none: hence what is ignored below
@triton.jit  # type: ignore[untyped-decorator]
def _multiply(  # type: ignore[no-untyped-def]
    a_ptr, a_low_ptr, b_ptr, b_low_ptr, out_ptr, m, n, terms, chunk, a_m, a_t, b_t, b_n, out_chunk, out_m,
    LOW_A: tl.constexpr, LOW_B: tl.constexpr, SYMMETRIC: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, CHAIN: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    # tiles that follow each other share rows and columns, which the cache then holds
    tiles_m, tiles_n = tl.cdiv(m, TILE_M), tl.cdiv(n, TILE_N)
    tile, part = tl.program_id(0), tl.program_id(1)
    first = tile // (GROUP * tiles_n) * GROUP
    size = tl.minimum(tiles_m - first, GROUP)
    at_m = first + tile % (GROUP * tiles_n) % size
    at_n = tile % (GROUP * tiles_n) // size
    if SYMMETRIC and at_n * TILE_N >= (at_m + 1) * TILE_M:
        return
    rows, columns = at_m * TILE_M + tl.arange(0, TILE_M), at_n * TILE_N + tl.arange(0, TILE_N)
    in_m, in_n = (rows < m)[:, None], (columns < n)[None, :]
    begin = part * chunk
    end = tl.minimum(begin + chunk, terms)
    total = tl.zeros((TILE_M, TILE_N), tl.float32)
    for start in range(begin, end, CHAIN):
        t = start + tl.arange(0, CHAIN)
        in_a, in_b = in_m & (t < end)[None, :], in_n & (t < end)[:, None]
        of_a = rows.to(tl.int64)[:, None] * a_m + t.to(tl.int64)[None, :] * a_t
        of_b = t.to(tl.int64)[:, None] * b_t + columns.to(tl.int64)[None, :] * b_n
        a = tl.load(a_ptr + of_a, mask=in_a, other=0.0)
        b = tl.load(b_ptr + of_b, mask=in_b, other=0.0)
        if LOW_B:
            chain = tl.dot(a, tl.load(b_low_ptr + of_b, mask=in_b, other=0.0))
            if LOW_A:
                chain = tl.dot(tl.load(a_low_ptr + of_a, mask=in_a, other=0.0), b, chain)
        else:
            chain = tl.dot(tl.load(a_low_ptr + of_a, mask=in_a, other=0.0), b)
        total += tl.dot(a, b, chain * (1.0 / LOW))
    of_out = part.to(tl.int64) * out_chunk + rows.to(tl.int64)[:, None] * out_m + columns[None, :]
    tl.store(out_ptr + of_out, total, mask=in_m & in_n)


def multiply_halves(
    a: "torch.Tensor",
    a_low: "torch.Tensor | None",
    b: "torch.Tensor",
    b_low: "torch.Tensor | None",
    chunk: int,
    *,
    symmetric: bool = False,
) -> "torch.Tensor":
    """(a + a_low / 2¹¹) (b + b_low / 2¹¹) for each `chunk` of the terms, float32 (chunks, m, n); one low half is given.

    a, a_low : float16 (m, terms); b, b_low : float16 (terms, n); halves of a pair have the same strides
    symmetric : tiles above the diagonal are left as memory was
    """
    (m, terms), n = a.shape, b.shape[1]
    chunks = max(1, triton.cdiv(terms, chunk))
    out = torch.empty((chunks, m, n), dtype=torch.float32, device=a.device)
    tile_n = min(TILE, max(16, triton.next_power_of_2(n)))
    with torch.cuda.device(a.device) if a.is_cuda else torch.no_grad():
        _multiply[(triton.cdiv(m, TILE) * triton.cdiv(n, tile_n), chunks)](
            a, a if a_low is None else a_low, b, b if b_low is None else b_low, out, m, n, terms, chunk,
            a.stride(0), a.stride(1), b.stride(0), b.stride(1), out.stride(0), out.stride(1),
            LOW_A=a_low is not None, LOW_B=b_low is not None, SYMMETRIC=symmetric,
            TILE_M=TILE, TILE_N=tile_n, CHAIN=CHAIN, GROUP=GROUP, num_warps=8,
            num_stages=_stages(a.device, TILE * (1 + (a_low is not None)) + tile_n * (1 + (b_low is not None))),
        )  # fmt: skip
    return out


def _stages(device: "torch.device", columns: int) -> int:
    """Steps of a product whose factors are read ahead: as many as the device's shared memory holds, at most 3.

    columns : rows and columns of a tile's factors, `CHAIN` float16 each
    """
    if device.type != "cuda":
        return 1
    properties = triton.runtime.driver.active.utils.get_device_properties(device.index or 0)
    held: int = (properties["max_shared_mem"] - KEPT_BYTES) // (2 * CHAIN * columns)
    return max(1, min(3, held))


@triton.jit  # type: ignore[untyped-decorator]
def _centre(  # type: ignore[no-untyped-def]
    x_ptr, shift_ptr, factor_ptr, high_ptr, low_ptr, d, WHOLE: tl.constexpr, BLOCK: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * d
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < d
    x = tl.load(x_ptr + at + columns, mask=inside).to(tl.float32)
    shift = tl.load(shift_ptr + columns, mask=inside)
    factor = tl.load(factor_ptr + columns, mask=inside)
    value = (x - shift) * factor
    high = value.to(tl.float16)
    tl.store(high_ptr + at + columns, high, mask=inside)
    if WHOLE:
        tl.store(low_ptr + at + columns, ((value - high.to(tl.float32)) * LOW).to(tl.float16), mask=inside)


def centre_rows(
    x: "torch.Tensor", shift: "torch.Tensor", factor: "torch.Tensor", *, whole: bool
) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """(x − shift) · factor as float16 and what that leaves, times 2¹¹, as float16 unless not `whole`.

    x : float16 or float32 (b, d), contiguous; shift, factor : float32 (d,)
    """
    b, d = x.shape
    high = torch.empty((b, d), dtype=torch.float16, device=x.device)
    low = torch.empty_like(high) if whole else None
    block = min(1024, triton.next_power_of_2(d))
    with torch.cuda.device(x.device) if x.is_cuda else torch.no_grad():
        _centre[(b, triton.cdiv(d, block))](
            x, shift, factor, high, high if low is None else low, d, WHOLE=whole, BLOCK=block
        )
    return high, low


@dataclass(frozen=True, slots=True)
class SoftmaxHalves:
    """high, low, curvature : float16 (b, columns); loss, entropy : float64 (b,); wrong : int8 (b,)
    partial : float32 (1 or 3, programs, columns), sums of the halves, of curvature, and of its squares
    """

    high: "torch.Tensor"
    low: "torch.Tensor | None"
    curvature: "torch.Tensor | None"
    loss: "torch.Tensor"
    entropy: "torch.Tensor"
    wrong: "torch.Tensor"
    partial: "torch.Tensor"


@triton.jit  # type: ignore[untyped-decorator]
def _softmax(  # type: ignore[no-untyped-def]
    z_ptr, unit_ptr, bias_ptr, target_ptr, high_ptr, low_ptr, curvature_ptr, loss_ptr, entropy_ptr, wrong_ptr,
    sums_ptr, mass_ptr, squares_ptr, b, k, width, steps,
    WHOLE: tl.constexpr, CURVED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    columns = tl.arange(0, BLOCK)
    is_class = columns < k
    inverse = 1.0 / tl.load(unit_ptr)
    bias = tl.load(bias_ptr + columns, mask=is_class, other=0.0)
    sums = tl.zeros((BLOCK,), tl.float32)
    mass = tl.zeros((BLOCK,), tl.float32)
    squares = tl.zeros((BLOCK,), tl.float32)
    for step in range(steps):
        rows = (tl.program_id(0) * steps + step) * ROWS + tl.arange(0, ROWS)
        is_row = rows < b
        target = tl.load(target_ptr + rows, mask=is_row, other=0)
        at = rows.to(tl.int64)[:, None] * width + columns[None, :]
        stored = is_row[:, None] & (columns < width)[None, :]
        inside = is_row[:, None] & is_class[None, :]
        z = tl.load(z_ptr + at, mask=inside, other=0.0)
        z = tl.where(is_class[None, :], z * inverse + bias[None, :], float("-inf"))
        shifted = z - tl.max(z, 1)[:, None]
        is_target = columns[None, :] == target[:, None]
        own = tl.sum(tl.where(is_target, shifted, 0.0), 1)
        is_top = shifted == 0.0
        first = tl.min(tl.where(is_top, columns[None, :], BLOCK), 1)
        e = tl.exp(shifted)
        rest = tl.sum(tl.where(is_top, 0.0, e), 1) + (tl.sum(tl.where(is_top, 1.0, 0.0), 1) - 1.0)
        dot = tl.sum(e * tl.maximum(shifted, SMALLEST), 1)
        total = 1.0 + rest
        log_total = tl.log(1.0 + rest.to(tl.float64))
        tl.store(loss_ptr + rows, log_total - own.to(tl.float64), mask=is_row)
        tl.store(entropy_ptr + rows, log_total - (dot / total).to(tl.float64), mask=is_row)
        tl.store(wrong_ptr + rows, (first != target).to(tl.int8), mask=is_row)
        p = e / total[:, None]
        p = tl.where(p < FLUSH, 0.0, p)
        missing = rest / total
        missing = tl.where(missing < FLUSH, 0.0, missing)[:, None]
        r = tl.where(is_target, tl.where(own[:, None] < 0.0, p - 1.0, -missing), p)
        r = tl.where(inside, r, 0.0)
        scaled = r * RESIDUAL_UNIT
        high = scaled.to(tl.float16)
        kept = high.to(tl.float32)
        tl.store(high_ptr + at, high, mask=stored)
        if WHOLE:
            low = ((scaled - kept) * LOW).to(tl.float16)
            kept += low.to(tl.float32) * (1.0 / LOW)
            tl.store(low_ptr + at, low, mask=stored)
        sums += tl.sum(kept, 0)
        if CURVED:
            size = tl.abs(r)
            h = tl.maximum(size * (1.0 - size), 0.125 * size * size)
            mass += tl.sum(h, 0)
            squares += tl.sum(h * h, 0)
            tl.store(curvature_ptr + at, (h * CURVATURE_UNIT).to(tl.float16), mask=stored)
    of_program = tl.program_id(0) * width + columns
    tl.store(sums_ptr + of_program, sums * (1.0 / RESIDUAL_UNIT), mask=columns < width)
    if CURVED:
        tl.store(mass_ptr + of_program, mass, mask=columns < width)
        tl.store(squares_ptr + of_program, squares, mask=columns < width)


def softmax_halves(
    z: "torch.Tensor", unit: "torch.Tensor", bias: "torch.Tensor", targets: "torch.Tensor", *, whole: bool, curved: bool
) -> SoftmaxHalves:
    """See `torch_halves.residuals`; z is contiguous."""
    b, width = z.shape
    block = triton.next_power_of_2(width)
    rows = max(1, HELD // block)
    steps = max(1, triton.cdiv(b, rows * PROGRAMS))
    programs = triton.cdiv(b, rows * steps)

    def half(needed: bool) -> "torch.Tensor | None":
        return torch.empty((b, width), dtype=torch.float16, device=z.device) if needed else None

    high, low, h = torch.empty((b, width), dtype=torch.float16, device=z.device), half(whole), half(curved)
    partial = torch.empty((3 if curved else 1, programs, width), dtype=torch.float32, device=z.device)
    loss = torch.empty(b, dtype=torch.float64, device=z.device)
    entropy = torch.empty_like(loss)
    wrong = torch.empty(b, dtype=torch.int8, device=z.device)
    with torch.cuda.device(z.device) if z.is_cuda else torch.no_grad():
        _softmax[(programs,)](
            z, unit, bias, targets, high, high if low is None else low, high if h is None else h, loss, entropy, wrong,
            partial[0], partial[len(partial) // 2], partial[-1], b, len(bias), width, steps,
            WHOLE=whole, CURVED=curved, ROWS=rows, BLOCK=block, num_warps=4 if block <= HELD else 16,
        )  # fmt: skip
    return SoftmaxHalves(high, low, h, loss, entropy, wrong, partial)
