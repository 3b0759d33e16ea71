"""Directions of the memory of steps on a device against the two-loop recursion, in float64 by numpy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from ssl_risk_rs.probes import torch_memory  # noqa: E402
from ssl_risk_rs.probes.torch_memory import Memory  # noqa: E402

D, K = 30, 7  # weights (D, K), then the intercept


def two_loops(pairs: list, gradient: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """Nocedal and Wright, algorithm 7.4, with γ P⁻¹ as the first matrix."""
    q, coefficients = gradient.copy(), []
    for step, change in reversed(pairs):
        a = (step * q).sum() / (step * change).sum()
        q -= a * change
        coefficients.append(a)
    step, change = pairs[-1]
    r = (step * change).sum() / (change * metric * change).sum() * metric * q
    for (step, change), a in zip(pairs, reversed(coefficients), strict=True):
        b = (change * r).sum() / (step * change).sum()
        r += step * (a - b)
    return -r


@pytest.mark.parametrize("part", [torch_memory.PART, 50, 217])
def test_directions_are_those_of_the_two_loop_recursion(part, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch_memory, "PART", part)  # of 217 terms: none whole, four and a rest, one
    rng = np.random.default_rng(0)
    shape = (D + 1, K)
    hessian = rng.uniform(0.1, 3, shape)  # diagonal
    metric = rng.uniform(0.3, 3, shape)
    on_device = torch.from_numpy(metric).float()
    memory, pairs = Memory(5), []
    gradient = rng.normal(size=shape)
    plain = memory.direction(torch.from_numpy(gradient), lambda v: v * on_device).numpy()
    np.testing.assert_allclose(plain, -gradient * metric, rtol=1e-5)
    for turn in range(9):
        step = rng.normal(size=shape)
        change = hessian * step
        memory = memory.remember(torch.from_numpy(step), torch.from_numpy(change))
        pairs = [*pairs, (step, change)][-5:]
        if turn in (3, 6):  # a stronger penalty, then a weaker one, which not every pair survives
            by = 0.5 if turn == 3 else -0.9
            pairs = [(s, c + by * np.concatenate([s[:-1], 0 * s[-1:]])) for s, c in pairs]
            hessian[:-1] += by
            pairs = [(s, c) for s, c in pairs if (s * c).sum() > 0]
            memory = memory.add_penalty(by)
        assert len(memory) == len(pairs) > 0
        found = memory.direction(torch.from_numpy(gradient), lambda v: v * on_device).numpy()
        assert found.dtype == np.float64
        expected = two_loops(pairs, gradient, metric)
        assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)


def test_steps_without_positive_curvature_are_left_out():
    step = torch.randn(D + 1, K, dtype=torch.float64)
    memory = Memory(5).remember(step, step)
    assert len(memory.remember(step, -step)) == 1 and len(memory.remember(0 * step, step)) == 1
    assert len(memory.add_penalty(-5.0)) == 0


def test_values_that_go_on_from_one_another_stay_as_they_were():
    """Two fits that start from the end of a third, and so many steps that rows are copied."""
    rng = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(D + 1, K, dtype=torch.float64, generator=rng)  # noqa: E731
    gradient, start = draw(), Memory(4)
    for _ in range(3):
        step = draw()
        start = start.remember(step, 2 * step)
    before = start.direction(gradient, lambda v: v)
    steps = [draw() for _ in range(20)]
    ends = []
    for _ in range(2):
        memory = start
        for step in steps:
            memory = memory.remember(step, 2 * step)
        ends.append(memory.direction(gradient, lambda v: v))
    assert torch.equal(*ends)
    assert torch.equal(before, start.direction(gradient, lambda v: v))
