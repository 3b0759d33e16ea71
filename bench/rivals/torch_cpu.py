"""torch on the CPU: float32 and bfloat16 products by blocks, L-BFGS, and SGD as the usual linear probe."""

from dataclasses import replace
from typing import Any

import machine
import numpy as np
from contract import Answer, Method, Request, blocks, repeated, trial_weights
from problems import Loaded

from rivals.trajectory import Clock

REQUIRES = ("torch",)
PACKAGES = ("torch",)
#: of SGD: batch, epochs, and the learning rate at k = 10 and at 1000 classes, found by trials on such banks
BATCH = 2048
EPOCHS = 40
LEARNING_RATES = ((30, 0.03), (10**9, 3.0))
#: rows × features beyond which a CPU without bfloat16 products is spared them: where float32 took 6 s, torch was not
#: done in 90
MOST_EMULATED = 10_000_000


def _block(loaded: Loaded, rows: slice, dtype: Any) -> Any:
    import torch

    return torch.from_numpy(np.array(loaded.x[rows])).to(dtype)


def _gram(loaded: Loaded, request: Request, name: str) -> Answer:
    import torch

    dtype = getattr(torch, name)

    def work() -> np.ndarray:
        total = torch.zeros(loaded.d, loaded.d)
        for rows in blocks(loaded.x):
            x = _block(loaded, rows, dtype)
            total += (x.T @ x).float()
        return total.numpy()

    seconds, gram = repeated(request, work)
    return Answer(seconds, {"gram": np.asarray(gram)})


def _ridge(loaded: Loaded, request: Request, name: str) -> Answer:
    import torch

    dtype, n = getattr(torch, name), len(loaded.x)

    def work() -> tuple[np.ndarray, np.ndarray]:
        gram, cross = torch.zeros(loaded.d, loaded.d, dtype=torch.float64), torch.zeros(loaded.d, loaded.k)
        sums, labels = torch.zeros(loaded.d, dtype=torch.float64), torch.from_numpy(np.asarray(loaded.y))
        for rows in blocks(loaded.x):
            x = _block(loaded, rows, dtype)
            gram += (x.T @ x).double()
            exact = x.float()
            cross.T.index_add_(0, labels[rows], exact)
            sums += exact.sum(0).double()
        mean, shares = sums / n, torch.bincount(labels, minlength=loaded.k).double() / n
        matrix = gram / n - torch.outer(mean, mean) + request.alpha * torch.eye(loaded.d, dtype=torch.float64)
        target = cross.double() / n - torch.outer(mean, shares)
        coef = torch.cholesky_solve(target, torch.linalg.cholesky(matrix)).T
        return coef.numpy(), (shares - coef @ mean).numpy()

    seconds, result = repeated(request, work)
    coef, intercept = result  # type: ignore[misc]
    return Answer(seconds, {"coef": coef, "intercept": intercept})


def _pass(loaded: Loaded, request: Request, name: str) -> Answer:
    import torch

    dtype = getattr(torch, name)
    start, bias = (torch.from_numpy(a) for a in trial_weights(loaded.d, loaded.k))
    labels = torch.from_numpy(np.asarray(loaded.y))

    def work() -> tuple[float, np.ndarray]:
        weights, loss, gradient = start.to(dtype), 0.0, torch.zeros(loaded.d, loaded.k)
        for rows in blocks(loaded.x, 4096):
            x = _block(loaded, rows, dtype)
            p = torch.log_softmax((x @ weights).float() + bias, 1)
            loss -= float(p.gather(1, labels[rows, None]).double().sum())
            p.exp_()
            p.scatter_add_(1, labels[rows, None], torch.full((len(x), 1), -1.0))
            gradient += (x.T @ p.to(dtype)).float()
        return loss / len(loaded.x), (gradient / len(loaded.x)).numpy()

    seconds, result = repeated(request, work)
    objective, gradient = result  # type: ignore[misc]
    return Answer(seconds, {"gradient": gradient}, {"objective": objective, "passes": 1})


def _staged(loaded: Loaded) -> tuple[Any, Any]:
    import torch

    x = torch.empty(loaded.x.shape)
    for rows in blocks(loaded.x):
        x[rows] = _block(loaded, rows, torch.float32)
    return x, torch.from_numpy(np.asarray(loaded.y))


def lbfgs(loaded: Loaded, request: Request) -> Answer:
    """L-BFGS, history 10, strong Wolfe, float32; rows in memory as float32 when the clock starts."""
    import torch

    x, y = _staged(loaded)
    w = torch.zeros(loaded.d, loaded.k, requires_grad=True)
    b = torch.zeros(loaded.k, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [w, b], max_iter=20, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=0
    )
    clock = Clock(request.limit_s)

    def closure() -> Any:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(x @ w + b, y) + 0.5 * request.alpha * (w**2).sum()
        value.backward()
        clock.record(value.item())
        return value

    best = float("inf")
    while not clock.expired:
        value = optimizer.step(closure).item()
        if not value < best:  # the line search makes no more progress in float32
            break
        best = value
    answer = Answer([clock.seconds()], {"coef": w.detach().numpy().T, "intercept": b.detach().numpy()})
    answer.trajectory, answer.numbers["passes"] = clock.points, len(clock.points)
    return answer


def sgd(loaded: Loaded, request: Request, name: str) -> Answer:
    """SGD with momentum and cosine schedule, its learning rate given; evaluations are not counted."""
    import torch

    x, y = _staged(loaded)
    dtype = getattr(torch, name)
    fast = x.to(dtype)
    w, b = torch.zeros(loaded.d, loaded.k), torch.zeros(loaded.k)
    rate = next(r for most, r in LEARNING_RATES if loaded.k <= most)
    momentum_w, momentum_b = torch.zeros_like(w), torch.zeros_like(b)
    n, epochs = len(x), EPOCHS
    steps = epochs * -(-n // BATCH)
    generator = torch.Generator().manual_seed(0)
    clock = Clock(request.limit_s)
    step = 0
    with torch.no_grad():
        for epoch in range(epochs):
            for rows in torch.randperm(n, generator=generator).split(BATCH):
                batch, labels = fast[rows], y[rows]
                residual = torch.softmax((batch @ w.to(dtype)).float() + b, 1)
                residual[torch.arange(len(rows)), labels] -= 1
                residual /= len(rows)
                momentum_w.mul_(0.9).add_((batch.T @ residual.to(dtype)).float()).add_(w, alpha=request.alpha)
                momentum_b.mul_(0.9).add_(residual.sum(0))
                now = 0.5 * rate * (1 + np.cos(np.pi * step / steps))
                w.sub_(momentum_w, alpha=now)
                b.sub_(momentum_b, alpha=now)
                step += 1
            if epoch % 5 == 4 or epoch == epochs - 1 or clock.expired:
                with clock.paused():
                    losses = [
                        torch.nn.functional.cross_entropy(x[r] @ w + b, y[r], reduction="sum").item() for r in blocks(x)
                    ]
                    value = sum(losses) / n + 0.5 * request.alpha * float((w**2).sum())
                clock.record(value)
            if clock.expired:
                break
    answer = Answer([clock.seconds()], {"coef": w.numpy().T, "intercept": b.numpy()})
    answer.trajectory, answer.numbers["passes"] = clock.points, epoch + 1
    answer.notes.append(f"learning rate {rate:g} given, {epoch + 1} of {epochs} epochs")
    return answer


def _both(function: Any, name: str, goal: str = "") -> list[Method]:
    """A method in float32 and in bfloat16."""

    def run(loaded: Loaded, request: Request, dtype: str) -> Answer:
        if dtype == "bfloat16" and loaded.x.size > MOST_EMULATED and not {"avx512_bf16", "bf16"} & set(machine.isa()):
            raise SystemExit("not run: this CPU has no bfloat16 products, torch emulates them")
        return function(loaded, request, dtype)  # type: ignore[no-any-return]

    return [
        Method(name.format(dtype), lambda loaded, request, dtype=dtype: run(loaded, request, dtype), goal=goal)
        for dtype in ("float32", "bfloat16")
    ]


def _staged_bytes(n: int, d: int, k: int) -> float:
    return 4.0 * n * d + 12.0 * n * k + 100.0 * d * k


JOBS = {
    "gram": _both(_gram, "torch {} blocks"),
    "pass": _both(_pass, "torch {}"),
    "ridge": _both(_ridge, "torch {} blocks + float64 Cholesky", "one penalty"),
    "logistic": [
        Method("torch L-BFGS float32", lbfgs, _staged_bytes),
        *(replace(each, needs=lambda n, d, k: 6.0 * n * d) for each in _both(sgd, "torch SGD {}")),
    ],
}
