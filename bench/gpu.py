"""Probes on a GPU beside what a user with one would write, and beside the kernels of the same machine's CPU.

    python bench/gpu.py stages full              # copy, moments, passes
    python bench/gpu.py fits iterate             # one logistic fit: seconds to each accuracy, and the rivals'
    python bench/gpu.py decompose full --probe logistic
    python bench/gpu.py decompose full --probe ridge --penalties 20

Each row has its accuracy: the objective against the best one that any method of the table found, in float64 sums, and
0-1 errors on the rows of training and test. Rivals get their rows as they like them, standardized float32 on the
device, before the clock starts; ours begins with rows in the host's memory.
"""

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import machine
import numpy as np
import problems
import torch
from problems import Loaded
from ssl_risk_rs import _core
from ssl_risk_rs.decomposition import strict, tuning
from ssl_risk_rs.decomposition.decomposing import decompose
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.kernel_solver import KernelSolver
from ssl_risk_rs.probes.solver import Goal, Solver
from ssl_risk_rs.probes.torch_metric import ClassModel
from ssl_risk_rs.probes.torch_products import full_float32
from ssl_risk_rs.probes.torch_solver import TorchSolver, targets_of
from ssl_risk_rs.probes.torch_space import TorchSpace

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scikit-learn dispatches to torch only where SciPy does
TARGETS = (1e-2, 1e-3, 1e-4)
#: of SGD: batch, epochs and the learning rate for 1,000 classes, found by trials on such banks
BATCH, EPOCHS, LEARNING_RATE = 2048, 40, 3.0


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    job: str
    problem: str
    method: str
    device: str
    seconds: float
    objective: float = float("nan")
    gap: float = float("nan")
    train_error: float = float("nan")
    test_error: float = float("nan")
    passes: float = float("nan")
    note: str = ""


def inputs(loaded: Loaded) -> tuple[Features, np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels, training and test rows."""
    features = Features.of_arrays(loaded.x, loaded.x_test)
    labels = np.concatenate([loaded.y, loaded.y_test]).astype(np.uint32)
    rows = np.arange(len(labels), dtype=np.uint32)
    return features, labels, rows[: len(loaded.x)], rows[len(loaded.x) :]


def timed(work: Callable[[], object]) -> tuple[float, object]:
    torch.cuda.synchronize()
    began = time.perf_counter()
    result = work()
    torch.cuda.synchronize()
    return time.perf_counter() - began, result


def stages(loaded: Loaded, name: str) -> Iterator[Row]:
    """Seconds of each part of a fit."""
    device = torch.device("cuda:0")
    gpu = torch.cuda.get_device_name(device)
    torch.zeros(1, device=device)
    features, labels, rows, _ = inputs(loaded)
    seconds, solver = timed(lambda: TorchSolver(features, [device]))
    assert isinstance(solver, TorchSolver)
    yield Row("copy", name, "ours", gpu, seconds, note=f"resident: {solver.shares[0].resident}")
    cells = (np.arange(len(labels)) % 5).astype(np.uint8)
    seconds, moments = timed(lambda: solver.moments(rows, labels, loaded.k, cells=cells))
    yield Row("moments, 5 cells", name, "ours", gpu, seconds)
    assert isinstance(moments, _core.Moments)
    seconds, design = timed(lambda: moments.design(scaling="standardize"))
    assert isinstance(design, _core.Design)
    yield Row("design", name, "ours (host)", gpu, seconds)
    seconds, probes = timed(lambda: solver.solve_ridge(design, [1e-2, 1e-3, 1e-4]))
    yield Row("ridge, 3 penalties", name, "ours", gpu, seconds)
    seconds, _ = timed(lambda: solver.judge(probes[:1], rows, labels))  # type: ignore[index]
    yield Row("judge all rows", name, "ours", gpu, seconds)
    seconds, model = timed(lambda: ClassModel(design, device))
    assert isinstance(model, ClassModel)
    yield Row("class model", name, "ours", gpu, seconds)
    space = TorchSpace(solver.shares, rows, targets_of(rows, labels, design), design, model)

    class Control:
        """Nobody cancels."""

        def advance(self, _: int) -> None:
            """Nothing."""

    rng = np.random.default_rng(0)
    point = space.vector(np.concatenate([0.02 * rng.normal(size=(loaded.d, loaded.k)), np.zeros((1, loaded.k))]))
    exact = space.evaluate(point, 1e-3, True, True, False, Control())
    for reduced in (False, True):
        for curvature in (False, True):
            for _ in range(3):
                seconds, found = timed(
                    lambda r=reduced, c=curvature: space.evaluate(point, 1e-3, c, False, r, Control())
                )
            method = f"pass, {space.kernels[reduced]}" + (", curvature" if curvature else "")
            moved = float((found[3] - exact[3]).norm() / exact[3].norm())  # type: ignore[index]
            note = f"gradient moved {moved:.1e}, objective {found[0] / exact[0] - 1:.1e}"  # type: ignore[index]
            yield Row(method, name, "ours", gpu, seconds, note=note)
    streamed = TorchSolver(features, [device], resident=False)
    far = TorchSpace(streamed.shares, rows, targets_of(rows, labels, design), design, model)
    for reduced in (False, True):
        for _ in range(2):
            seconds, found = timed(lambda r=reduced: far.evaluate(point, 1e-3, False, False, r, Control()))
        moved = float((found[3] - exact[3]).norm() / exact[3].norm())  # type: ignore[index]
        rate = rows.size * loaded.d * loaded.x.itemsize / seconds / 1e9
        method = f"pass, {far.kernels[reduced]}, streamed"
        yield Row(method, name, "ours", gpu, seconds, note=f"{rate:.1f} GB/s, gradient moved {moved:.1e}")
    seconds, metric = timed(lambda: space.metric(exact[6], 1e-3))
    yield Row("metric", name, "ours", gpu, seconds)
    memory = space.memory()
    for _ in range(20):
        other = space.step(point, 1.0, space.vector(0.01 * rng.normal(size=point.shape)))
        memory = space.remember(memory, other, point, other, point)
    for _ in range(2):
        seconds, _found = timed(lambda: space.direction(memory, exact[3], metric))
    yield Row("direction, 20 steps", name, "ours", gpu, seconds)
    seconds, _found = timed(lambda: space.dual_square(point, exact[3], exact[5], 0.01, 1e-3))
    yield Row("certificate", name, "ours", gpu, seconds)
    c = torch.from_numpy(design.covariance)
    for place, matrix in (("host", c), ("device", c.to(device))):
        for kind in (torch.float32, torch.float64):
            seconds, _ = timed(lambda m=matrix, k=kind: torch.linalg.eigh(m.to(k)))
            yield Row(f"eigh {kind} on the {place}", name, "torch", gpu, seconds)


def fits(loaded: Loaded, name: str, alpha: float, limit: float, *, cpu_too: bool) -> Iterator[Row]:
    """One logistic probe to each accuracy, ours on GPU and CPU, and rivals on the GPU."""
    device = torch.device("cuda:0")
    gpu = torch.cuda.get_device_name(device)
    torch.zeros(1, device=device)
    features, labels, rows, test = inputs(loaded)

    def ours(make: Callable[[], Solver], tol: float, where: str) -> Row:
        began = time.perf_counter()
        solver = make()
        design = solver.moments(rows, labels, loaded.k).design(scaling="standardize")
        fit = solver.fit_logistic(rows, labels, design, alpha, Goal(tol, 300))
        seconds = time.perf_counter() - began
        (outcome,) = solver.judge([fit.probe], test, labels)
        note = f"tol {tol:g}, {fit.stop}, {fit.reduced_passes:.0f} rounded, bound {fit.gap:.1e}"
        return Row("fit", name, "ours", where, seconds, fit.objective, float("nan"), fit.train_error,
                   float((outcome[1] > 0).mean()), fit.passes, note)  # fmt: skip

    ours(lambda: TorchSolver(features, [device]), 1e-1, gpu)  # libraries are loaded, kernels compiled
    for tol in (*TARGETS, 1e-5):
        yield ours(lambda: TorchSolver(features, [device]), tol, gpu)
    for tol in TARGETS[:2] if cpu_too else ():
        yield ours(lambda: KernelSolver(features), tol, machine._cpu().get("model name", "CPU"))
    solver = KernelSolver(features)
    design = solver.moments(rows, labels, loaded.k).design(scaling="standardize")
    x, x_test = (standardized(part, design, device) for part in (loaded.x, loaded.x_test))
    y, y_test = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (loaded.y, loaded.y_test))
    data = (x, y, x_test, y_test)
    for rounded in (False, True):
        yield from lbfgs(data, alpha, name, gpu, limit, rounded)
    yield from sgd(data, alpha, name, gpu)
    yield from scikit_learn(data, alpha, name, gpu, limit)
    yield from cuml_quasi_newton(data, alpha, name, gpu, limit)


def standardized(part: np.ndarray, design: "_core.Design", device: "torch.device") -> "torch.Tensor":
    out = torch.empty(part.shape, device=device)
    shift, scale = (torch.from_numpy(v).to(device) for v in (design.shift, design.scale))
    for start in range(0, len(part), 65536):
        block = torch.from_numpy(np.array(part[start : start + 65536])).to(device)
        out[start : start + 65536] = torch.sub(block, shift).mul_(scale)
    return out


def judged(data: tuple["torch.Tensor", ...], w: "torch.Tensor", b: "torch.Tensor", alpha: float) -> dict[str, float]:
    """Objective with float64 sums, and errors."""
    x, y, x_test, y_test = data
    loss, wrong = 0.0, [0, 0]
    with full_float32(), torch.no_grad():
        for i, (rows, labels) in enumerate(((x, y), (x_test, y_test))):
            for start in range(0, len(rows), 65536):
                z = torch.addmm(b, rows[start : start + 65536], w)
                own = labels[start : start + 65536]
                if i == 0:
                    loss += torch.nn.functional.cross_entropy(z, own, reduction="none").sum(dtype=torch.float64).item()
                wrong[i] += int((z.argmax(1) != own).sum())
        penalty = 0.5 * alpha * float(w.double().square().sum())
    return {
        "objective": loss / len(x) + penalty,
        "train_error": wrong[0] / len(x),
        "test_error": wrong[1] / len(x_test),
    }


def lbfgs(
    data: tuple["torch.Tensor", ...], alpha: float, name: str, gpu: str, limit: float, rounded: bool
) -> Iterator[Row]:
    """torch's L-BFGS, history 10, strong Wolfe; a row whenever 15 % more time has gone."""
    x, y, *_ = data
    w = torch.zeros(x.shape[1], int(y.max()) + 1, device=x.device, requires_grad=True)
    b = torch.zeros(w.shape[1], device=x.device, requires_grad=True)
    step = 32768
    calls = 0
    with full_float32(rounded=rounded):
        optimizer = torch.optim.LBFGS(
            [w, b], max_iter=5, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=0
        )

        def closure() -> "torch.Tensor":
            nonlocal calls
            calls += 1
            optimizer.zero_grad()
            total = torch.zeros((), device=x.device)
            for start in range(0, len(x), step):
                part = torch.nn.functional.cross_entropy(
                    x[start : start + step] @ w + b, y[start : start + step], reduction="sum"
                ) / len(x)
                part.backward()
                total += part.detach()
            penalty = 0.5 * alpha * (w**2).sum()
            penalty.backward()
            return total + penalty.detach()

        torch.cuda.synchronize()
        began, spent, shown, last = time.perf_counter(), 0.0, 0.0, float("inf")
        while spent < limit:
            optimizer.step(closure)
            torch.cuda.synchronize()
            spent = time.perf_counter() - began
            if spent < 1.15 * shown:
                continue
            shown, paused = spent, time.perf_counter()
            found = judged(data, w.detach(), b.detach(), alpha)
            began += time.perf_counter() - paused
            yield Row("fit", name, "torch L-BFGS" + (", TF32" if rounded else ""), gpu, spent, passes=calls, **found)
            if found["objective"] >= last:  # float32 shows no more progress
                return
            last = found["objective"]


def sgd(data: tuple["torch.Tensor", ...], alpha: float, name: str, gpu: str) -> Iterator[Row]:
    """SGD with momentum, cosine schedule, bfloat16 products, its learning rate given; a row every few epochs."""
    x, y, *_ = data
    fast = x.bfloat16()
    k = int(y.max()) + 1
    w, b = torch.zeros(x.shape[1], k, device=x.device), torch.zeros(k, device=x.device)
    momentum_w, momentum_b = torch.zeros_like(w), torch.zeros_like(b)
    steps, at = EPOCHS * -(-len(x) // BATCH), 0
    torch.manual_seed(0)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(x), device=x.device)
        for start in range(0, len(x), BATCH):
            rows = order[start : start + BATCH]
            xb = fast[rows]
            p = torch.softmax((xb @ w.bfloat16()).float() + b, 1)
            p[torch.arange(len(rows), device=x.device), y[rows]] -= 1
            p /= len(rows)
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * at / steps))
            momentum_w.mul_(0.9).add_((xb.T @ p.bfloat16()).float() + alpha * w)
            momentum_b.mul_(0.9).add_(p.sum(0))
            w.sub_(rate * momentum_w)
            b.sub_(rate * momentum_b)
            at += 1
        if epoch % 5 == 4:
            torch.cuda.synchronize()
            spent, paused = time.perf_counter() - began, time.perf_counter()
            yield Row("fit", name, "torch SGD, bfloat16", gpu, spent, passes=epoch + 1, **judged(data, w, b, alpha))
            began += time.perf_counter() - paused


def scikit_learn(data: tuple["torch.Tensor", ...], alpha: float, name: str, gpu: str, limit: float) -> Iterator[Row]:
    """scikit-learn's logistic regression on arrays of torch, where this version can."""
    import sklearn
    from sklearn.linear_model import LogisticRegression

    x, y, *_ = data
    label = f"scikit-learn {sklearn.__version__}, array API"
    for iterations in (25, 50, 100, 200):
        model = LogisticRegression(C=1 / (len(x) * alpha), max_iter=iterations, tol=1e-10)
        try:
            with sklearn.config_context(array_api_dispatch=True):
                seconds, _ = timed(lambda m=model: m.fit(x, y))
            w, b = (torch.as_tensor(v, device=x.device).float() for v in (model.coef_, model.intercept_))
        except Exception as error:  # what it cannot do it says in many ways
            yield Row("fit", name, label, gpu, float("nan"), note=f"{type(error).__name__}: {str(error)[:150]}")
            return
        yield Row("fit", name, label, gpu, seconds, passes=iterations, **judged(data, w.T.contiguous(), b, alpha))
        if seconds > limit / 2:
            return


def cuml_quasi_newton(
    data: tuple["torch.Tensor", ...], alpha: float, name: str, gpu: str, limit: float
) -> Iterator[Row]:
    """cuML's logistic regression (L-BFGS in CUDA), where it is installed; a row for each limit of iterations."""
    try:
        import cuml
        import cupy
    except ModuleNotFoundError:
        return
    x, y, *_ = data
    label = f"cuML {cuml.__version__}"
    rows, labels = cupy.from_dlpack(x), cupy.from_dlpack(y)
    for iterations in (5, 10, 25, 50, 75, 100, 150, 200, 400):
        model = cuml.LogisticRegression(C=1 / (len(x) * alpha), max_iter=iterations, tol=1e-12)
        if iterations == 5:
            model.fit(rows, labels)  # kernels are loaded
        seconds, _ = timed(lambda m=model: m.fit(rows, labels))
        w, b = (torch.from_dlpack(v).float() for v in (model.coef_, model.intercept_))
        found = judged(data, w.T.contiguous(), b, alpha)
        yield Row("fit", name, label, gpu, seconds, passes=int(model.n_iter_[0]), **found)
        if seconds > limit / 2 or int(model.n_iter_[0]) < iterations:
            return


def decomposed(loaded: Loaded, name: str, probe: str, device: str, penalties: int | None) -> Iterator[Row]:
    """The whole decomposition, beginning with rows in the host's memory; `penalties` tries so many from 1e3 to 1e-5."""
    if penalties is not None:
        tries = partial(tuning.tune, alphas=np.logspace(3, -5, penalties).tolist())
        strict.tune = tries  # type: ignore[assignment]
    gpu = torch.cuda.get_device_name(0) if "cuda" in device else machine._cpu().get("model name", "CPU")
    if "cuda" in device:
        torch.zeros(1, device=device)
    marks: list[tuple[float, str]] = []
    began = time.perf_counter()
    result = decompose(
        loaded.x, loaded.y, loaded.x_test, loaded.y_test, probe=probe, device=device,
        report=lambda event: marks.append((time.perf_counter() - began, f"{event.stage} {event.detail}")),
    )  # fmt: skip
    seconds = time.perf_counter() - began
    shown = {}
    for (start, what), (end, _) in zip(marks, [*marks[1:], (seconds, "")], strict=True):
        shown[what] = shown.get(what, 0.0) + end - start
    risks = {q: round(result.estimate(q) * 100, 4) for q in ("risk_af", "risk_as", "risk_cs", "risk_us")}
    passes = sum(fit.passes for fit in result.fits)
    print(json.dumps({"method": asdict(result.method), "stages": shown}, default=str, indent=1), file=sys.stderr)
    for fit in result.fits:
        print(fit, file=sys.stderr)
    tried = len(result.penalties["tuned"].grid)
    of_folds = sum(fit.role.startswith("fold") for fit in result.fits)
    note = f"{tried} penalties, {of_folds} fits of folds; {json.dumps(risks)}"
    yield Row(f"decompose, {probe}", name, "ours", gpu, seconds, passes=passes, note=note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=["stages", "fits", "decompose"])
    parser.add_argument("problem", choices=sorted(problems.PROBLEMS))
    parser.add_argument("--probe", choices=["logistic", "ridge"], default="logistic")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--penalties", type=int, help="tried by a decomposition (default: its own decades)")
    parser.add_argument("--alpha", type=float, default=1e-3)
    parser.add_argument("--without-cpu", action="store_true", help="fits: not on the CPU's own kernels")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds of each rival")
    parser.add_argument("--out", type=Path, help="a .csv, beside which a .txt names the machine")
    given = parser.parse_args()
    loaded = problems.load(given.problem)
    if given.job == "stages":
        found = stages(loaded, given.problem)
    elif given.job == "fits":
        found = fits(loaded, given.problem, given.alpha, given.limit, cpu_too=not given.without_cpu)
    else:
        found = decomposed(loaded, given.problem, given.probe, given.device, given.penalties)
    rows = []
    for row in found:
        rows.append(row)
        print(" | ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in asdict(row).values()), flush=True)
    best = min((row.objective for row in rows if row.objective == row.objective), default=float("nan"))
    lines = [asdict(row) | {"gap": row.objective / best - 1 if best == best else row.gap} for row in rows]
    if given.out:
        with given.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
        gpu = torch.cuda.get_device_properties(0)
        facts = machine.describe(["torch", "triton", "numpy", "scikit-learn", "cuml-cu13"])
        given.out.with_suffix(".txt").write_text(f"gpu: {gpu.name}, {gpu.total_memory / 1e9:.0f} GB\n{facts}")


if __name__ == "__main__":
    main()
