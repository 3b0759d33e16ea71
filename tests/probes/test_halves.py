"""Pairs of float16: what they hold, their products, and passes by them against float64."""

import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from ssl_risk_rs import _core  # noqa: E402
from ssl_risk_rs.probes import torch_halves  # noqa: E402
from ssl_risk_rs.probes.features import Features  # noqa: E402
from ssl_risk_rs.probes.torch_half_passes import HalfShare  # noqa: E402
from ssl_risk_rs.probes.torch_halves import Halves, multiply, scores, unit_of  # noqa: E402
from ssl_risk_rs.probes.torch_metric import ClassModel  # noqa: E402
from ssl_risk_rs.probes.torch_passes import ONE, Sums  # noqa: E402
from ssl_risk_rs.probes.torch_rows import DeviceRows  # noqa: E402

gpu = pytest.mark.gpu
N, D, K = 1500, 40, 6
#: a pair keeps 22 bits; one float16 keeps 11
WHOLE, FIRST = 2.0**-22, 2.0**-11
DEVICES = [pytest.param("cpu"), pytest.param("cuda", marks=gpu)]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> "torch.device":
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device(request.param)


def test_pairs_keep_22_bits_over_their_range():
    v = torch.ldexp(1 + torch.rand(10_000, dtype=torch.float64), torch.arange(10_000) % 27 - 12)  # below 2¹⁵
    assert ((Halves.of(v).value(torch.float64) - v).abs() <= WHOLE * v).all()
    assert ((Halves.of(v, whole=False).value(torch.float64) - v).abs() <= FIRST * v).all()
    # below float16's normal numbers the second half counts 2⁻³⁵, and rounds by half of it or little more
    small = torch.rand(10_000, dtype=torch.float64) * 2.0**-14
    assert ((Halves.of(small).value(torch.float64) - small).abs() <= 1.01 * 2.0**-36).all()


def test_units_bring_any_size_into_range(device):
    sizes = torch.tensor([0.0, 1e-45, 1e-30, 0.3, 0.5, 1.0, 65504.0, 1e30, 3e38])
    filled = sizes.double() * unit_of(sizes.to(device)).cpu()
    assert (filled < 2.0**15).all() and (filled[2:] >= 2.0**14).all()


@pytest.mark.parametrize("lows", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("shape", [(1, 70, 16), (33, 1, 16), (7, 300, 16), (130, 65, 48), (257, 1000, 144)])
def test_products_are_those_of_the_values(device, lows, shape):
    m, terms, n = shape
    rng = torch.Generator().manual_seed(m)
    a = Halves.of(torch.randn(m, terms, generator=rng).abs(), whole=lows[0])
    b = Halves.of(torch.randn(terms, n, generator=rng), whole=lows[1])
    exact = a.value(torch.float64) @ b.value(torch.float64)
    size = a.value(torch.float64).abs() @ b.value(torch.float64).abs()
    there = [Halves(h.high.to(device), None if h.low is None else h.low.to(device)) for h in (a, b)]
    allowed = 1e-6 if any(lows) else 2e-5  # sums in tensor cores lose bits
    for found in (multiply(*there, 128), scores(*there)):
        assert found.shape == (m, n)
        assert ((found.cpu().double() - exact).abs() <= allowed * size).all()
    # the same with the factors' columns in memory where rows are expected
    turned = multiply(*(Halves(*(v if v is None else v.T.contiguous().T for v in (h.high, h.low))) for h in there), 128)
    assert ((turned.cpu() - exact).abs() <= allowed * size).all()


@pytest.mark.parametrize("d", [1, 300])
def test_a_symmetric_product_is(device, d):
    x = Halves.of(torch.randn(700, d))
    exact = x.value(torch.float64).T @ x.value(torch.float64)
    there = Halves(x.high.to(device), x.low.to(device))
    found = multiply(there.t, there, 256, symmetric=True).cpu()
    assert torch.equal(found, found.T)
    assert (found - exact).abs().max() <= 1e-6 * exact.abs().max()


def far_features(far: float, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose features lie `far` deviations from 0, one is constant, one is small."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, K, N).astype(np.uint32)
    x = rng.normal(size=(K, D))[y] + rng.normal(size=(N, D)) + far
    x[:, 3], x[:, 5] = 1.5, x[:, 5] * 1e-2
    if far == 7.5:  # just within what is multiplied as it is stored, and one feature farther than the others
        x[:, 7] += 30
    return x.astype(dtype), y


CONTROL = SimpleNamespace(advance=lambda _: None)


def share(x: np.ndarray, y: np.ndarray, device: "torch.device", scaling: str) -> tuple[HalfShare, "_core.Design"]:
    features = Features.of_arrays(x)
    rows = np.arange(0, N, dtype=np.uint32)[::-1].copy()  # in no order that memory has
    moments = _core.Moments(D, K, shift=_core.choose_shift(features.source, rows))
    moments.update(features.source, y, rows, np.zeros(N, np.uint8))
    design = moments.design(scaling=scaling)
    held = DeviceRows(features, device, block_rows=401)
    model = ClassModel(design, device)
    return HalfShare(held, held.pick(rows), y[rows].astype(np.int64), design, model.variances), design


def exact_sums(x: np.ndarray, y: np.ndarray, design: "_core.Design", w: np.ndarray, b: np.ndarray) -> dict:
    """The same in float64 by numpy."""
    wide = (x.astype(np.float64) - design.shift) * design.scale
    z = wide @ w + b
    z -= z.max(1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    p = np.exp(log_p)
    r = p.copy()
    r[np.arange(N), y] -= 1
    size = np.abs(r)
    h = np.maximum(size * (1 - size), r * r / 8)
    return {
        "loss": -log_p[np.arange(N), y].sum(),
        "entropy": -(p * log_p).sum(),
        "gradient": np.concatenate([wide.T @ r, r.sum(0, keepdims=True)]),
        "table": np.stack([h[y == c].sum(0) for c in range(K)]),
        "mass": h.sum(0),
        "squares": (h * h).sum(0),
        "p": p,
    }


@pytest.mark.parametrize("scaling", ["standardize", "none"])
@pytest.mark.parametrize(
    ("far", "dtype", "stored"),
    [(1.0, "float16", True), (7.5, "float16", True), (300.0, "float16", False), (300.0, "float32", False)],
)
def test_passes_give_what_float64_gives(device, far, dtype, stored, scaling):
    x, y = far_features(far, dtype)
    held, design = share(x, y, device, scaling)
    assert held.stored == stored
    rng = np.random.default_rng(1)
    w, b = (0.2 * rng.normal(size=s) for s in ((D, K), K))
    point = [torch.from_numpy(v.astype(np.float32)) for v in (w, b)]
    exact = exact_sums(x, y, design, *(v.double().numpy() for v in point))
    for rounded, allowed in ((False, 2e-6), (True, 1e-3)):
        found: Sums = held.sums(*point, with_curvature=True, stride=3, rounded=rounded, control=CONTROL)
        loss, entropy, _ = found.softmax.numbers()
        assert loss == pytest.approx(exact["loss"], rel=allowed)
        assert entropy == pytest.approx(exact["entropy"], rel=allowed)
        gradient = found.gradient.cpu().numpy()
        assert np.linalg.norm(gradient - exact["gradient"]) <= 2 * allowed * np.linalg.norm(exact["gradient"])
        # the metric's curvature is kept in float16 by true class
        np.testing.assert_allclose(found.table.cpu().numpy() / ONE, exact["table"], rtol=max(1e-3, 4 * allowed))
        np.testing.assert_allclose(found.mass.cpu(), exact["mass"], rtol=max(1e-5, 4 * allowed))
        np.testing.assert_allclose(found.squares.cpu(), exact["squares"], rtol=max(1e-5, 8 * allowed))
        order = np.arange(N)[::-1]
        kept = [order[i] for i in range(N) if i % 3 == 0]
        np.testing.assert_allclose(torch.cat(found.sample).cpu(), exact["p"][kept], atol=10 * allowed)


def test_torch_that_cannot_widen_products_has_no_tensor_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch_halves, "HAS_TRITON", True)
    for widens in (True, False):
        monkeypatch.setattr(torch_halves, "WIDENS", widens)
        assert torch_halves.has_tensor_cores(torch.device("cuda"), 1000) == widens
    monkeypatch.setattr(torch_halves, "WIDENS", True)
    assert not torch_halves.has_tensor_cores(torch.device("cuda"), 20_000)
    assert not torch_halves.has_tensor_cores(torch.device("cpu"))


def test_weights_of_zero_are_a_pass_like_any(device):
    x, y = far_features(1.0, "float16")
    held, design = share(x, y, device, "standardize")
    zero = torch.zeros(D, K), torch.zeros(K)
    exact = exact_sums(x, y, design, *(v.double().numpy() for v in zero))
    found = held.sums(*zero, with_curvature=False, stride=0, rounded=False, control=CONTROL)
    assert found.softmax.numbers()[0] == pytest.approx(N * np.log(K))
    gradient = found.gradient.cpu().numpy()
    assert np.linalg.norm(gradient - exact["gradient"]) <= 2e-6 * np.linalg.norm(exact["gradient"])
    assert found.mass is None and found.sample == []


PROGRAM = """
import torch
from ssl_risk_rs.probes import torch_fused_halves as fused
from ssl_risk_rs.probes.torch_halves import Halves, centred_halves, multiply, residuals
from ssl_risk_rs.probes.torch_units import RESIDUAL_UNIT
from ssl_risk_rs.probes.torch_softmax import SoftmaxSums

fused.TILE, fused.PROGRAMS = 32, 3  # several tiles, and several steps of a program, with few numbers
plain = torch.device("cpu")
for m, terms, n in [(7, 100, 16), (70, 130, 48)]:
    for lows in [(True, True), (True, False), (False, True)]:
        for symmetric in (False, True):
            a = Halves.of(torch.randn(m, terms), whole=lows[0])
            b = a.t if symmetric else Halves.of(torch.randn(terms, n), whole=lows[1])
            if a.low is None and b.low is None:
                continue
            found = fused.multiply_halves(a.high, a.low, b.high, b.low, 90, symmetric=symmetric)
            assert found.shape == (2, m, b.high.shape[1])
            found = found.sum(0, dtype=torch.float64)
            exact = a.value(torch.float64) @ b.value(torch.float64)
            size = a.value(torch.float64).abs() @ b.value(torch.float64).abs()
            if symmetric:
                found, exact = found.tril(), exact.tril()
            assert ((found - exact).abs() <= 1e-6 * size).all(), (m, terms, n, lows, symmetric)
for b, k in [(1, 2), (7, 3), (37, 10), (20, 1000), (3, 5000)]:
    for size in (0.1, 1.0, 30.0):
        for whole in (True, False):
            torch.manual_seed(b * k)
            width = -(-k // 16) * 16
            z, bias, targets = torch.randn(b, width) * size, torch.randn(k), torch.randint(0, k, (b,))
            unit = torch.tensor(4.0)
            z[0, 1] += 4 * (bias[0] - bias[1]) + z[0, 0] - z[0, 1]  # two nearly equal scores
            sums = SoftmaxSums(plain)
            given = (z, unit, bias, targets)
            right = residuals(*given, sums, whole=whole, curved=True)
            left = fused.softmax_halves(*given, whole=whole, curved=True)
            allowed = 1e-6 if whole else 5e-4
            value = Halves(left.high, left.low).value() / RESIDUAL_UNIT
            assert (value - right.halves.value() / RESIDUAL_UNIT).abs().max() <= allowed, (b, k, size, whole)
            assert (value[:, k:] == 0).all()
            assert abs(left.loss.sum() - sums.loss) <= 1e-6 * (b + sums.loss)
            assert abs(left.entropy.sum() - sums.entropy) <= 1e-6 * b * (1 + sums.entropy)
            assert left.wrong.sum() == sums.errors
            total, mass, squares = left.partial.sum(1, dtype=torch.float64)[:, :k]
            assert (total - value.double().sum(0)[:k]).abs().max() <= 1e-6 * b
            assert (mass - right.curved.mass).abs().max() <= 1e-6 * b
            assert (squares - right.curved.squares).abs().max() <= 1e-6 * b
            assert (left.curvature.float() - right.curved.halves.high.float()).abs().max() <= 40  # of 2**15
for d in (3, 1030):
    for kind in (torch.float16, torch.float32):
        x, shift, factor = (torch.randn(9, d) * 3 + 40).to(kind), torch.randn(d) + 40, torch.rand(d) * 1000
        for whole in (True, False):
            high, low = fused.centre_rows(x, shift, factor, whole=whole)
            right = centred_halves(x, shift, factor, whole=whole)
            # the interpreter and a compiler may fuse a difference and a product
            assert torch.allclose(Halves(high, low).value(), right.value(), rtol=1e-6 if whole else 1e-3)
print("same")
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="this torch comes without Triton")
def test_the_kernels_give_what_torch_gives():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "same", done.stderr
