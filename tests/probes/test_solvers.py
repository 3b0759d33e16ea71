"""One suite over all solvers: what the kernels of this CPU give, rows on a device of torch give as well.

Devices of torch are tested on its CPU, whole and block by block, one and two of them; with a GPU, on it too.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ssl_risk_rs import _core, decompose
from ssl_risk_rs.errors import DeviceError, NumericalError, ParameterError, ShapeError
from ssl_risk_rs.probes.devices import choose_device, open_solver
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.kernel_solver import KernelSolver
from ssl_risk_rs.probes.solver import Goal, Solver

torch = pytest.importorskip("torch")
from ssl_risk_rs.probes import torch_judge, torch_moments, torch_passes, torch_softmax, torch_space  # noqa: E402
from ssl_risk_rs.probes.torch_metric import ClassModel  # noqa: E402
from ssl_risk_rs.probes.torch_rows import DeviceRows  # noqa: E402
from ssl_risk_rs.probes.torch_solver import TorchSolver  # noqa: E402
from ssl_risk_rs.probes.torch_space import TorchSpace  # noqa: E402

gpu = pytest.mark.gpu
N, D, K = 3000, 33, 7
#: objectives of one fit by two paths differ by the rounding of float32 passes
SAME_OBJECTIVE = 1e-6


def features(n: int = N, *, dtype: str = "float16", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a constant feature, one far from the origin, and small ones; class 5 is absent, class 6 rare."""
    rng = np.random.default_rng(seed)
    y = rng.choice([0, 1, 2, 3, 4, 6], size=n, p=[0.3, 0.2, 0.2, 0.15, 0.14, 0.01]).astype(np.uint32)
    means = 0.7 * rng.normal(size=(K, D))
    x = means[y] + rng.normal(size=(n, D)) * rng.uniform(0.3, 3, D)
    x[:, 3] = 1.5
    x[:, 4] += 200
    x[:, 5] *= 1e-2
    return x.astype(dtype), y


SOLVERS = {
    "torch-resident": lambda f: TorchSolver(f, [torch.device("cpu")], resident=True, block_rows=640),
    "torch-streamed": lambda f: TorchSolver(f, [torch.device("cpu")], block_rows=257),
    "torch-two": lambda f: TorchSolver(f, [torch.device("cpu")] * 2),
    "torch-halves": lambda f: TorchSolver(f, [torch.device("cpu")] * 2, block_rows=640),
    "cuda": lambda f: TorchSolver(f, [torch.device("cuda:0")]),
    "cuda-streamed": lambda f: TorchSolver(f, [torch.device("cuda:0")], resident=False, block_rows=500),
    "cuda-two": lambda f: TorchSolver(f, [torch.device("cuda:0"), torch.device("cpu")]),
}


def use_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take products by pairs of float16 where there are no tensor cores."""
    for user in (torch_judge, torch_moments, torch_space):
        monkeypatch.setattr(user, "has_tensor_cores", lambda *_: True)


@pytest.fixture(params=[pytest.param(name, marks=gpu if "cuda" in name else ()) for name in SOLVERS])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Makes the solver under test from features."""
    if "cuda" in request.param and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if request.param == "torch-halves":
        use_halves(monkeypatch)
    return SOLVERS[request.param]


def train_and_test(n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, test rows, cells of five."""
    order = np.random.default_rng(1).permutation(n)
    rows, rest = np.sort(order[: n * 4 // 5]), np.sort(order[n * 4 // 5 :])
    return rows.astype(np.uint32), rest.astype(np.uint32), (np.arange(n) % 5).astype(np.uint8)


def designs(one: Solver, other: Solver, y: np.ndarray, scaling: str = "standardize", **options):
    rows, _, cells = train_and_test()
    both = (s.moments(rows, y, K, cells=cells, **options).design([0, 1, 3, 4], scaling=scaling) for s in (one, other))
    return (*both, rows[cells[rows] != 2])


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
def test_an_autocast_of_the_caller_rounds_nothing(probe):
    x, y = features(dtype="float32")
    given = (x[:2000], y[:2000], x[2000:], y[2000:])
    options = {"probe": probe, "device": "torch:cpu", "tol": 1e-3}
    outside = decompose(*given, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = decompose(*given, **options)
    assert {n: e.estimate for n, e in inside.estimates.items()} == {n: e.estimate for n, e in outside.estimates.items()}


@pytest.mark.parametrize("scaling", ["none", "standardize", "minmax"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_moments_are_those_of_the_kernels(make, scaling, precision):
    x, y = features()
    f = Features.of_arrays(x[:1700], x[1700:])
    a, b, rows = designs(KernelSolver(f), make(f), y, scaling, precision=precision)
    assert a.n_samples == b.n_samples == len(rows)
    assert a.alpha_floor == pytest.approx(b.alpha_floor)
    np.testing.assert_array_equal(a.constant, b.constant)
    # sums of 2,400 rows round in another order: in float64, or blocks in float32
    rounding = 1e-12 if precision == "float64" else 2e-6
    for name in ("shift", "scale", "priors", "means", "covariance"):
        ours, theirs = getattr(b, name), getattr(a, name)
        single = 1.2e-7 if ours.dtype == np.float32 else 0.0  # the last bit of a float32
        np.testing.assert_allclose(ours, theirs, rtol=rounding + single, atol=rounding * np.abs(theirs).max())


def test_features_whose_squares_float32_cannot_hold_are_summed_in_float64(make):
    x, y = features(dtype="float32")
    x[:, 1] *= 1e25
    x[:, 2] *= 1e-25
    f = Features.of_arrays(x)
    a, b, _ = designs(KernelSolver(f), make(f), y, precision="float32")
    np.testing.assert_allclose(a.covariance, b.covariance, atol=1e-5)
    assert len(b.constant) == 1


@pytest.mark.parametrize("alpha", [1.0, 1e-3, 1e-5])
def test_ridge_probes_are_those_of_the_kernels(make, alpha):
    x, y = features()
    f = Features.of_arrays(x)
    ours, theirs = make(f), KernelSolver(f)
    a, b, _ = designs(theirs, ours, y)
    (one,), (other,) = theirs.solve_ridge(a, [alpha]), ours.solve_ridge(b, [alpha])
    for left, right in zip(one.scaled(), other.scaled(), strict=True):
        np.testing.assert_allclose(right, left, rtol=1e-6, atol=1e-12 / alpha)  # float64 over eigenvalues of alpha


@pytest.mark.parametrize("alpha", [1.0, 1e-3])
@pytest.mark.parametrize("lacking", [False, True])
def test_a_ridge_penalty_is_tried_as_its_probe_is_judged(make, alpha, lacking):
    x, y = features()
    f = Features.of_arrays(x)
    solver = make(f)
    rows, held, _ = train_and_test()
    if lacking:  # a class without training rows
        rows = rows[y[rows] != 2]
    design = solver.moments(rows, y, K).design(scaling="standardize")
    wrong, probe = solver.try_ridge(design, alpha, held, y)
    ((_, rank, *_),) = KernelSolver(f).judge(KernelSolver(f).solve_ridge(design, [alpha]), held, y)
    assert wrong.dtype == bool and (wrong != (rank > 0)).sum() <= 1  # a near tie
    assert probe is None or isinstance(solver, KernelSolver)
    with pytest.raises(ParameterError, match="must be positive"):
        solver.try_ridge(design, 0.0, held, y)


def test_folds_leave_the_device_when_a_design_is_solved_alone(monkeypatch):
    from ssl_risk_rs.probes import torch_ridge

    x, y = features()
    f = Features.of_arrays(x)
    solver = TorchSolver(f, [torch.device("cpu")])
    rows, held, cells = train_and_test()
    moments = solver.moments(rows, y, K, cells=cells)
    folds = [moments.design([c for c in range(5) if c != fold], scaling="standardize") for fold in range(3)]
    for design in folds:
        solver.try_ridge(design, 1.0, held, y)
    kept = solver._ridge._kept
    assert [entry[0] for entry in kept.values()] == folds
    solver.solve_ridge(folds[1], [1.0])  # one of them: the others stay
    assert len(kept) == 3
    whole = moments.design(scaling="standardize")
    solver.solve_ridge(whole, [1.0])
    assert [entry[0] for entry in kept.values()] == [whole]
    monkeypatch.setattr(torch_ridge, "KEPT_BYTES", 1)  # the one at work is kept all the same
    for design in folds:
        solver.try_ridge(design, 1.0, held, y)
    assert [entry[0] for entry in kept.values()] == [folds[-1]]


def test_rows_of_arrays_are_copied_in_any_order():
    x, _ = features(dtype="float32")
    rng = np.random.default_rng(0)
    half = x.astype(np.float16)
    for blocks in ((x,), (x[:700], x[700:]), (x[:1], x[1:]), (half[:700], x[700:]), (half,)):
        f = Features.of_arrays(*blocks)
        whole = np.concatenate([block.astype(f.dtype) for block in blocks])
        for rows in (np.arange(len(x)), rng.permutation(len(x)), rng.integers(0, len(x), 900), np.zeros(0, int)):
            for n_threads in (1, 3):
                out = np.full((len(rows), x.shape[1]), np.nan, f.dtype)
                f.read_into(rows.astype(np.uint32), out, n_threads=n_threads)
                np.testing.assert_array_equal(out, whole[rows])
    f = Features.of_arrays(x)
    with pytest.raises(ParameterError, match="asked for, there are"):
        f.read_into(np.array([len(x)], np.uint32), out[:1].astype(np.float32))
    with pytest.raises(ParameterError, match="read float32"):
        f.read_into(np.array([0], np.uint32), np.empty((1, x.shape[1]), np.float16))
    with pytest.raises(ShapeError, match="buffer for rows"):
        f.read_into(np.array([0], np.uint32), np.empty((2, x.shape[1]), np.float32))


def test_a_ridge_penalty_below_the_floor_is_refused_in_the_same_words(make):
    x, y = features()
    f = Features.of_arrays(x)
    _, b, _ = designs(KernelSolver(f), make(f), y, precision="float32")
    with pytest.raises(ParameterError, match="no longer determine"):
        make(f).solve_ridge(b, [1e-9])
    with pytest.raises(ParameterError, match="must be positive"):
        make(f).solve_ridge(b, [0.0])


@pytest.mark.parametrize(("alpha", "tol"), [(1e-1, 1e-6), (1e-3, 1e-5), (1e-5, 1e-4)])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_logistic_fits_are_those_of_the_kernels(make, alpha, tol, dtype):
    x, y = features(dtype=dtype)
    f = Features.of_arrays(x[:100], x[100:])
    ours, theirs = make(f), KernelSolver(f)
    a, b, rows = designs(theirs, ours, y)
    one = theirs.fit_logistic(rows, y, a, alpha, Goal(tol, 300))
    other = ours.fit_logistic(rows, y, b, alpha, Goal(tol, 300))
    assert one.converged and other.converged
    assert other.objective == pytest.approx(one.objective, rel=max(SAME_OBJECTIVE, 2 * tol))
    _, test, _ = train_and_test()
    (left,), (right,) = theirs.judge([one.probe], test, y), theirs.judge([other.probe], test, y)
    # both ends are within tol of one optimum: rows may differ where two scores nearly tie
    differ = left[0] != right[0]
    assert differ.mean() <= 0.01 and (np.abs(left[3][differ]) < 0.3).all()


def test_one_more_pass_at_the_same_point_agrees_to_1e_6(make):
    """The objective at one probe by both paths, without a descent between them."""
    x, y = features()
    f = Features.of_arrays(x)
    ours, theirs = make(f), KernelSolver(f)
    a, b, rows = designs(theirs, ours, y)
    first = theirs.fit_logistic(rows, y, a, 1e-3, Goal(1e-3, 300))
    one = theirs.fit_logistic(rows, y, a, 1e-3, Goal(1e-9, 1), start=first)
    other = ours.fit_logistic(rows, y, b, 1e-3, Goal(1e-9, 1), start=first)
    assert other.objective == pytest.approx(one.objective, rel=SAME_OBJECTIVE)
    assert other.gap == pytest.approx(one.gap, rel=1e-2)  # a small difference of two values that round
    assert other.train_error == pytest.approx(one.train_error, abs=1 / len(rows))
    assert other.kernel in ("torch-float32", "torch-float16x2")


def test_a_fit_ends_by_the_training_error_where_that_is_asked_for(make):
    x, y = features()
    solver, rows = make(Features.of_arrays(x)), np.arange(N, dtype=np.uint32)
    design = solver.moments(rows, y, K).design(scaling="standardize")
    stops = [solver.fit_logistic(rows, y, design, 1e-5, Goal(1e-9, 60, error_tol=tol)).stop for tol in (0.9, None)]
    assert stops[0] == "error_estimated" != stops[1]


def test_a_draft_ends_early_without_a_bound_and_is_gone_on_from(make):
    x, y = features()
    solver, rows = make(Features.of_arrays(x)), np.arange(N, dtype=np.uint32)
    design = solver.moments(rows, y, K).design(scaling="standardize")
    draft = solver.fit_logistic(rows, y, design, 1e-4, Goal(1e-2, 60, draft=True))
    whole = solver.fit_logistic(rows, y, design, 1e-4, Goal(1e-4, 300))
    after = solver.fit_logistic(rows, y, design, 1e-4, Goal(1e-4, 300), start=draft)
    assert draft.gap == np.inf and draft.stop == "estimated" and draft.passes < whole.passes
    assert draft.objective == pytest.approx(whole.objective, rel=2e-2)
    assert after.converged and after.objective == pytest.approx(whole.objective, rel=2e-4)  # tol of each


def test_judgements_are_those_of_the_kernels(make):
    x, y = features()
    f = Features.of_arrays(x)
    theirs = KernelSolver(f)
    a, _, rows = designs(theirs, theirs, y)
    probes = [
        theirs.fit_logistic(rows, y, a, 1e-2, Goal(1e-3, 50)).probe,
        *theirs.solve_ridge(a, [1e-2]),
        _core.LinearProbe(np.zeros((K, D)), np.zeros(K)),  # all scores equal: the lowest class is predicted
    ]
    shuffled = np.random.default_rng(3).permutation(N).astype(np.uint32)
    for left, right in zip(theirs.judge(probes, shuffled, y), make(f).judge(probes, shuffled, y), strict=True):
        for ours, their in zip(right, left, strict=True):
            assert ours.dtype == their.dtype
        ties = np.abs(left[3]) < 1e-5
        np.testing.assert_array_equal(right[0][~ties], left[0][~ties])
        np.testing.assert_array_equal(right[1] > 0, left[1] > 0)
        np.testing.assert_allclose(right[2], left[2], rtol=2e-6, atol=2e-6)  # float32 scores of 33 products
        np.testing.assert_allclose(right[3], left[3], rtol=1e-5, atol=1e-5)


def test_a_bank_is_read_as_its_arrays_are(make, tmp_path: Path):
    pytest.importorskip("polars")
    from ssl_risk_rs import FeatureBank
    from ssl_risk_rs.bank import exchange

    x, y = features()
    np.savez(tmp_path / "f.npz", X_train=x[:2400], y_train=y[:2400], X_test=x[2400:], y_test=y[2400:])
    exchange.import_bank(tmp_path / "f.npz", tmp_path / "bank")
    bank = Features.of_bank(FeatureBank.open(tmp_path / "bank"))
    rows = np.random.default_rng(0).permutation(N)[:1000].astype(np.uint32)
    out = np.empty((1000, D), bank.dtype)
    bank.read_into(rows, out)
    np.testing.assert_array_equal(out, x[rows])
    of_bank, of_array = (make(f).moments(np.sort(rows), y, K).design() for f in (bank, Features.of_arrays(x)))
    np.testing.assert_array_equal(of_bank.covariance, of_array.covariance)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_named_in_the_same_words(make, value):
    x, y = features()
    x[1234, 17] = value
    f = Features.of_arrays(x)
    rows = np.arange(N, dtype=np.uint32)
    with pytest.raises(ParameterError, match="row 1234, feature 17 is"):
        make(f).moments(rows, y, K)
    probe = _core.LinearProbe(np.ones((K, D)), np.zeros(K))
    with pytest.raises(ParameterError, match="row 1234, feature 17 is"):
        make(f).judge([probe], rows, y)


def test_scores_that_overflow_are_an_error(make):
    x, y = features()
    f = Features.of_arrays(x)
    probe = _core.LinearProbe(np.full((K, D), 1e38), np.zeros(K))
    with pytest.raises(NumericalError, match="scores of row"):
        make(f).judge([probe], np.arange(N, dtype=np.uint32), y)


def test_what_does_not_fit_together_is_refused(make):
    x, y = features()
    f = Features.of_arrays(x)
    solver = make(f)
    design = solver.moments(np.arange(1000, dtype=np.uint32), y, K).design()
    with pytest.raises(ParameterError, match="of other rows"):
        solver.fit_logistic(np.arange(1, 1001, dtype=np.uint32), y, design, 1e-3, Goal(1e-3, 9))
    with pytest.raises(ShapeError, match="classes"):
        solver.judge([_core.LinearProbe(np.ones((2, D)), np.zeros(2))], np.arange(50, dtype=np.uint32), y)
    with pytest.raises(ShapeError, match="features"):
        solver.judge([_core.LinearProbe(np.ones((K, 2)), np.zeros(K))], np.arange(50, dtype=np.uint32), y)
    with pytest.raises(ParameterError, match="row"):
        solver.judge([], np.array([N], np.uint32), y)
    with pytest.raises(ParameterError, match="classes"):
        solver.moments(np.arange(9, dtype=np.uint32), np.full(N, K, np.uint32), K)


def test_memory_that_does_not_suffice_makes_blocks_smaller(monkeypatch: pytest.MonkeyPatch):
    x, y = features()
    f = Features.of_arrays(x)
    solver = TorchSolver(f, [torch.device("cpu")], block_rows=1024)
    design = solver.moments(np.arange(N, dtype=np.uint32), y, K).design(scaling="standardize")
    sizes = []

    def scarce(z, targets, sums):
        sizes.append(len(z))
        if len(z) > 300:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        torch_softmax.softmax_residual(z, targets, sums)

    fit = solver.fit_logistic(np.arange(N, dtype=np.uint32), y, design, 1e-2, Goal(1e-4, 60))
    monkeypatch.setattr(torch_passes, "softmax_residual", scarce)
    again = solver.fit_logistic(np.arange(N, dtype=np.uint32), y, design, 1e-2, Goal(1e-4, 60))
    assert {1024, 512, 256} <= set(sizes) and sizes[-1] <= 256
    assert again.objective == pytest.approx(fit.objective, rel=SAME_OBJECTIVE)

    def none_at_all(z, targets, sums):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch_passes, "softmax_residual", none_at_all)
    with pytest.raises(DeviceError, match="no memory for 64 rows of 33 features"):
        solver.fit_logistic(np.arange(N, dtype=np.uint32), y, design, 1e-2, Goal(1e-4, 60))


def test_rows_that_do_not_fit_a_device_are_streamed(monkeypatch: pytest.MonkeyPatch):
    x, _ = features()
    empty = torch.empty

    def scarce(*shape, **options):
        if "device" in options and not options.get("pin_memory"):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", scarce)
    rows = DeviceRows(Features.of_arrays(x), torch.device("cpu"), resident=True)
    assert not rows.resident
    blocks = [block.x.numpy() for block in rows.blocks(rows.pick(np.arange(N, dtype=np.uint32)), 700)]
    np.testing.assert_array_equal(np.concatenate(blocks), x)


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="this torch has no AcceleratorError")
def test_a_device_that_is_lost_names_what_is_safe(monkeypatch: pytest.MonkeyPatch):
    x, y = features()
    solver = TorchSolver(Features.of_arrays(x), [torch.device("cpu")])

    def lost(*_):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch_passes, "softmax_residual", lost)
    design = solver.moments(np.arange(N, dtype=np.uint32), y, K).design()
    with pytest.raises(DeviceError, match=r"unspecified launch failure.*run the same line again, or with --device cpu"):
        solver.fit_logistic(np.arange(N, dtype=np.uint32), y, design, 1e-2, Goal(1e-4, 9))


def space_of_all_rows() -> tuple[TorchSpace, _core.Design]:
    """The space of a fit on all rows, and their design."""
    x, y = features()
    solver = TorchSolver(Features.of_arrays(x), [torch.device("cpu")])
    rows = np.arange(N, dtype=np.uint32)
    design = solver.moments(rows, y, K).design()
    model = ClassModel(design, torch.device("cpu"))
    return TorchSpace(solver.shares, rows, np.searchsorted(design.classes, y), design, model), design


def test_what_a_pass_raises_ends_the_fit(monkeypatch: pytest.MonkeyPatch):
    space, design = space_of_all_rows()

    def broken(*_):
        raise LookupError("this pass is broken")

    monkeypatch.setattr(space, "evaluate", broken, raising=True)
    with pytest.raises(LookupError, match="this pass is broken"):
        _core.fit_logistic_in(space, design, 1e-3)
    monkeypatch.setattr(space, "evaluate", lambda point, *_: (1.0, 1.0, 0.0, point, 1.0, np.zeros(2), None, None))
    with pytest.raises(ShapeError, match="classes of an evaluation"):
        _core.fit_logistic_in(space, design, 1e-3)
    monkeypatch.setattr(space, "evaluate", lambda point, *_: (1.0, 1.0, 0.0, point, 1.0, np.zeros(6), None, None))
    with pytest.raises(ParameterError, match="lacks the curvature"):
        _core.fit_logistic_in(space, design, 1e-3)


def test_a_direction_upwards_says_nothing_of_the_gap(monkeypatch: pytest.MonkeyPatch):
    """Down the gradient instead, whose square is no Newton decrement: a small one does not end a fit."""
    space, design = space_of_all_rows()

    def evaluate(point, *_):  # F falls as a geometric series that has next to nothing left
        objective, gradient = 1.0 + 1e-3 * 0.5 ** next(passes), torch.full_like(point, 1e-6)
        return objective, 0.0, 0.0, gradient, 1.0, np.full(len(design.classes), 0.1), object(), None

    monkeypatch.setattr(space, "evaluate", evaluate)
    monkeypatch.setattr(space, "metric", lambda *_: None)
    monkeypatch.setattr(space, "dual_square", lambda *_: 1e6)
    for sign, stop in [(-1.0, "estimated"), (1.0, "max_passes")]:
        passes = iter(range(100))
        monkeypatch.setattr(space, "direction", lambda _, gradient, __, sign=sign: sign * gradient)
        assert _core.fit_logistic_in(space, design, 1e-3, max_passes=30, reduced=False).stop == stop


@pytest.mark.parametrize(("hidden", "goes_on"), [(0.0, True), (1.0, False)])
def test_rounded_passes_go_on_where_rounding_hid_nothing(monkeypatch: pytest.MonkeyPatch, hidden, goes_on):
    """After a step that gained nothing one exact pass judges, at the same point, what the rounded ones have hidden."""
    space, design = space_of_all_rows()
    space.reduces, rounded = True, []

    def evaluate(point, alpha, with_curvature, with_sample, reduced, control):
        rounded.append(reduced)
        falls = [1.0, 0.9, 0.9 - 3e-6, 0.9 - 3e-6]  # the second step gains nothing; the fourth pass is the exact one
        objective = falls[len(rounded) - 1] if len(rounded) <= 4 else 0.8 * 0.97 ** len(rounded)
        gradient = torch.full_like(point, 0.01)
        if not reduced:
            gradient[0] += hidden
        return objective, 0.0, 0.0, gradient, 1.0, np.full(len(design.classes), 0.1), object(), None

    monkeypatch.setattr(space, "evaluate", evaluate)
    monkeypatch.setattr(space, "metric", lambda *_: None)
    monkeypatch.setattr(space, "dual_square", lambda *_: 1e6)
    monkeypatch.setattr(space, "remember", lambda memory, *_: memory)
    monkeypatch.setattr(space, "direction", lambda _, gradient, __: -gradient)
    _core.fit_logistic_in(space, design, 1e-3, max_passes=12)
    assert rounded[:5] == [True, True, True, False, goes_on]
    assert len(rounded) == 12 and not rounded[-1]


def test_the_users_choice_of_products_comes_back(make):
    x, y = features()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        make(Features.of_arrays(x)).moments(np.arange(N, dtype=np.uint32), y, K)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("probe", ["ridge", "logistic"])
@pytest.mark.parametrize("protocol", ["strict", "paper"])
def test_a_decomposition_is_the_same_on_a_device(probe, protocol):
    x, y = features(dtype="float32")
    y[y == 5] = 0
    arrays = (x[:2400], y[:2400], x[2400:], y[2400:])
    one, other = (decompose(*arrays, probe=probe, protocol=protocol, device=name) for name in ("cpu", "torch:cpu"))
    assert (one.method.device, other.method.device) == ("cpu", "torch:cpu")
    assert "probes on torch:cpu" in str(other) and "probes on" not in str(one)
    for name in ("risk_af", "risk_as", "risk_cs", "risk_us"):
        assert other.estimate(name) == pytest.approx(one.estimate(name), abs=1.5 / 600)  # a row of the test set
    assert [(fit.role, fit.n) for fit in other.fits] == [(fit.role, fit.n) for fit in one.fits]  # none is made twice


def test_torch_is_not_loaded_to_learn_that_there_is_no_gpu():
    code = (
        "import sys; from ssl_risk_rs.probes import devices; devices._may_have_gpu = lambda: False\n"
        "assert devices.choose_device('auto', 1e20) == 'cpu' and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch):
    assert choose_device("cpu", 1e20) == "cpu"
    assert choose_device("torch:cpu", 1.0) == "torch:cpu"
    assert choose_device("auto", 1e3) == "cpu"
    assert choose_device("auto:cuda:1", 1e3) == "cpu"  # where it pays
    assert choose_device("auto:cpu", 1e20) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", 1e20) == "cpu"
    for name in ("cuda", "auto:cuda:1"):
        with pytest.raises(ParameterError, match="sees no CUDA device"):
            choose_device(name, 1e20)
    with pytest.raises(ParameterError, match="'gpu' is unknown to torch"):
        choose_device("gpu", 1e20)
    with pytest.raises(ParameterError, match="'gpu' is unknown to torch"):
        choose_device("auto:gpu", 1e20)
    with pytest.raises(ParameterError, match="'automatic' is unknown to torch"):
        choose_device("automatic", 1e20)
    with pytest.raises(ParameterError, match="float64"):
        choose_device("mps", 1e20)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto", 1e20) == "cuda:0"
    assert choose_device("cuda", 1.0) == "cuda:0"
    with pytest.raises(ParameterError, match="there are 1, from cuda:0"):
        choose_device("cuda:0,cuda:3", 1e20)


def test_sums_taken_elsewhere_are_checked():
    moments = _core.Moments(2, 3, n_cells=2)
    good = {
        "counts": np.array([2, 0, 1], np.uint64),
        "sums": np.ones((3, 2)),
        "least": np.zeros(2, np.float32),
        "largest": np.ones(2, np.float32),
        "gram": np.eye(2),
        "precision": "float32",
    }
    moments.add_sums(1, **good)
    for name, value, error, words in [
        ("counts", np.ones(2, np.uint64), ShapeError, "counts by class"),
        ("sums", np.ones((2, 3)), ShapeError, "sums has shape"),
        ("least", np.zeros(3, np.float32), ShapeError, "least values"),
        ("largest", np.full(2, np.nan, np.float32), ParameterError, "finite"),
        ("gram", np.full((2, 2), np.inf), ParameterError, "finite"),
        ("counts", np.full(3, 2**60, np.uint64), ParameterError, "more rows"),
        ("precision", "auto", ParameterError, "must be named"),
    ]:
        with pytest.raises(error, match=words):
            moments.add_sums(1, **{**good, name: value})
    with pytest.raises(ParameterError, match="cell 2 of 2"):
        moments.add_sums(2, **good)
    assert moments.design([1]).n_samples == 3


def test_rows_of_several_sums_are_counted_together():
    """2⁵³ at most, and what is refused adds nothing."""
    moments = _core.Moments(1, 2)
    lot = {
        "counts": np.full(2, 2**51, np.uint64),
        "sums": np.zeros((2, 1)),
        "least": -np.ones(1, np.float32),
        "largest": np.ones(1, np.float32),
        "gram": np.full((1, 1), 2.0**52),
        "precision": "float64",
    }
    for _ in range(2):
        moments.add_sums(0, **lot)
    with pytest.raises(ParameterError, match="more rows than can be counted"):
        moments.add_sums(0, **lot)
    assert moments.design().n_samples == 2**53


def test_a_solver_is_opened_by_name():
    f = Features.of_arrays(features()[0])
    assert open_solver(f).device == "cpu"
    assert open_solver(f, "torch:cpu,torch:cpu").device == "torch:cpu,torch:cpu"


@pytest.mark.parametrize("device", ["torch:cpu", pytest.param("cuda", marks=gpu)])
def test_estimators_fit_on_a_device(device):
    from ssl_risk_rs import LogisticProbe, RidgeProbe, RidgeProbeCV

    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    x, y = features(dtype="float32")
    for make in (RidgeProbe, RidgeProbeCV, lambda **options: LogisticProbe(1e-2, tol=1e-6, **options)):
        one, other = (make(scaling="standardize", device=name).fit(x, y) for name in ("cpu", device))
        np.testing.assert_allclose(one.decision_function(x), other.decision_function(x), atol=5e-3)
        if isinstance(one, RidgeProbeCV):
            assert one.alpha_ == pytest.approx(other.alpha_)  # in units of a mean variance that rounds
            counted = one.judged_ == other.judged_  # on the CPU clearly worse penalties leave the race
            assert counted.any()
            assert np.abs(one.errors_ - other.errors_)[counted].max() <= 1  # near-ties


# --- edges

CPU = torch.device("cpu")


def both_fit(solver: TorchSolver, f: Features, y: np.ndarray) -> None:
    theirs, rows = KernelSolver(f), np.arange(N, dtype=np.uint32)
    design = theirs.moments(rows, y, K).design(scaling="standardize")
    one = theirs.fit_logistic(rows, y, design, 1e-1, Goal(1e-6, 300))
    other = solver.fit_logistic(rows, y, design, 1e-1, Goal(1e-6, 300))
    assert one.converged and other.converged
    assert other.objective == pytest.approx(one.objective, rel=3e-6)


def test_a_block_of_more_rows_than_are_summed_in_float32_has_all_in_its_gradient(monkeypatch):
    """Rows beyond the first PASS_ROWS of a block enter the gradient too."""
    monkeypatch.setattr(torch_passes, "PASS_ROWS", 257)
    x, y = features()
    f = Features.of_arrays(x)
    both_fit(TorchSolver(f, [CPU], block_rows=1000), f, y)


def test_three_devices_add_up():
    """The sums of every device count."""
    x, y = features()
    f = Features.of_arrays(x)
    both_fit(TorchSolver(f, [CPU] * 3), f, y)


def test_a_class_just_beyond_those_of_a_probe_is_refused():
    """As many classes as the probe has are allowed, and no more."""
    x, y = features()
    solver, rows = TorchSolver(Features.of_arrays(x), [CPU]), np.flatnonzero(y <= 2).astype(np.uint32)
    with pytest.raises(ShapeError, match="2 classes, a row's class is 2"):
        solver.judge([_core.LinearProbe(np.ones((2, D)), np.zeros(2))], rows, y)


def test_a_row_whose_scores_overflow_is_named_by_its_number_among_all():
    """Not by its place among the judged rows."""
    x, y = features(dtype="float32")
    x[2100, 7] = 1e38
    solver, rows = TorchSolver(Features.of_arrays(x), [CPU]), np.arange(2000, N, dtype=np.uint32)
    with pytest.raises(Exception, match="row 2100"):
        solver.judge([_core.LinearProbe(np.full((K, D), 1e3), np.zeros(K))], rows, y)


@pytest.mark.parametrize("resident", [True, False])
def test_rows_whose_ends_look_in_line_are_taken_as_they_are(resident):
    """Rows are in line where all numbers are, not only the first and the last."""
    x, y = features()
    f = Features.of_arrays(x)
    rows = np.arange(100, 1100, dtype=np.uint32)
    rows[1:-1] = np.random.default_rng(0).permutation(rows[1:-1])
    probe = KernelSolver(f).solve_ridge(KernelSolver(f).moments(rows, y, K).design(), [1e-2])
    (left,), (right,) = (s.judge(probe, rows, y) for s in (KernelSolver(f), TorchSolver(f, [CPU], resident=resident)))
    np.testing.assert_allclose(right[2], left[2], rtol=1e-5, atol=1e-5)
