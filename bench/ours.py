"""The package's own paths, through its public interface, on rows mapped from disk."""

import time
from typing import Any

import numpy as np
from contract import Answer, Method, Request, repeated, shot_rows
from float64 import logistic_objective
from problems import Loaded

REQUIRES = ("ssl_risk_rs",)
PACKAGES = ("ssl-risk-rs",)


def _threads(request: Request) -> int | None:
    return request.threads or None


def _inputs(loaded: Loaded) -> tuple[np.ndarray, np.ndarray]:
    """All row numbers and labels, in the types that the core takes."""
    return np.arange(len(loaded.x), dtype=np.uint32), loaded.y.astype(np.uint32)


def _moments(loaded: Loaded, request: Request):
    from ssl_risk_rs import _core

    rows, labels = _inputs(loaded)
    moments = _core.Moments(loaded.d, loaded.k, shift=_core.choose_shift(loaded.x, rows))
    moments.update(loaded.x, labels, rows, np.zeros(len(rows), np.uint8), n_threads=_threads(request))
    return moments


def gram(loaded: Loaded, request: Request) -> Answer:
    """Exact second moments, class sums and ranges by `Moments.update`; a ridge solution from them is the check."""
    seconds, moments = repeated(request, lambda: _moments(loaded, request))
    design = moments.design()  # type: ignore[attr-defined]
    coef, intercept = design.solve_ridge([max(request.alpha, 1.1e-5 * design.mean_variance)])[0].raw()
    answer = Answer(seconds, {"coef": coef, "intercept": intercept})
    answer.numbers |= {"mean_variance": design.mean_variance, "passes": 1}
    answer.numbers["alpha"] = max(request.alpha, 1.1e-5 * design.mean_variance)
    return answer


def one_pass(loaded: Loaded, request: Request, *, reduced: bool = False) -> Answer:
    """A logistic pass inside a fit: what more passes cost more, the steps between them included."""
    from ssl_risk_rs import _core

    rows, labels = _inputs(loaded)
    design = _moments(loaded, request).design()
    options: dict[str, Any] = {"n_threads": _threads(request), "tol": 1e-9}
    if hasattr(_core.LogisticFit, "reduced_passes"):
        options["reduced"] = reduced
    elif reduced:
        raise SystemExit("not run: this build has no reduced passes")
    answer = Answer()
    while len(answer.seconds) < request.repeats and sum(answer.seconds) * 12 < request.limit_s:
        few, more = (
            _core.fit_logistic(loaded.x, rows, labels, design, request.alpha, max_passes=m, **options) for m in (3, 8)
        )
        answer.seconds.append(_per_pass(few, more))
    if reduced and more.reduced_kernel in (None, more.kernel):
        raise SystemExit("not run: no pass was in bfloat16 (fewer than 32 classes, or this CPU is no faster at it)")
    coef, intercept = more.probe.raw()
    answer.arrays |= {"coef": coef, "intercept": intercept}
    answer.numbers |= {"objective": more.objective, "passes": more.passes}
    answer.notes.append(f"difference of fits of {few.passes:.1f} and {more.passes:.1f} passes")
    if hasattr(more, "reduced_passes"):
        answer.notes.append(f"{more.reduced_passes:.1f} of {more.passes:.1f} passes rounded")
    return answer


def _per_pass(few: Any, more: Any) -> float:
    """Seconds of a pass; where the difference drowns in noise, the mean of the longer fit."""
    seconds, passes = more.seconds - few.seconds, more.passes - few.passes
    return float(seconds / passes if seconds > 0 and passes > 1 else more.seconds / more.passes)


def ridge(loaded: Loaded, request: Request) -> Answer:
    """One penalty, from float16 rows to weights."""
    from ssl_risk_rs import RidgeProbe

    probe = RidgeProbe(alpha=request.alpha, n_threads=_threads(request))
    seconds, fit = repeated(request, lambda: probe.fit(loaded.x, loaded.y))
    return Answer(seconds, _weights(fit, loaded), {"passes": 1})


def _weights(fit: object, loaded: Loaded) -> dict[str, np.ndarray]:
    """Weights by class number; classes without rows never win."""
    coef, intercept = np.zeros((loaded.k, loaded.d)), np.full(loaded.k, -1e4)
    coef[fit.classes_], intercept[fit.classes_] = fit.coef_, fit.intercept_  # type: ignore[attr-defined]
    return {"coef": coef, "intercept": intercept}


def ridge_choice(loaded: Loaded, request: Request) -> Answer:
    """All penalties, the one with the fewest errors on five held-out folds, and the fit on all rows at it."""
    from ssl_risk_rs import RidgeProbeCV

    probe = RidgeProbeCV(request.alphas, n_threads=_threads(request))
    seconds, fit = repeated(request, lambda: probe.fit(loaded.x, loaded.y))
    answer = Answer(seconds, _weights(fit, loaded), {"passes": 1, "alpha": probe.alpha_})
    answer.notes.append(
        f"{len(request.alphas)} penalties, {probe.n_folds} folds, {probe.n_judged_} rows scored; "
        f"chosen {probe.alpha_:g}"
    )
    return answer


def logistic(loaded: Loaded, request: Request) -> Answer:
    """One penalty, a whole fit from float16 rows for each tolerance; step i is `targets[i]`."""
    from ssl_risk_rs import LogisticProbe

    answer = Answer()
    for i, tol in enumerate(request.targets):
        probe = LogisticProbe(alpha=request.alpha, tol=tol, max_passes=2000, n_threads=_threads(request))
        began = time.perf_counter()
        probe.fit(loaded.x, loaded.y)
        seconds = time.perf_counter() - began
        answer.seconds = [seconds]
        weights = _weights(probe, loaded)
        answer.arrays |= {f"step_{i}_{k}": v for k, v in weights.items()} | weights
        answer.numbers |= {
            f"step_{i}_seconds": seconds,
            f"step_{i}_passes": probe.n_passes_,
            f"step_{i}_gap": probe.gap_,
            f"step_{i}_certified": probe.stop_ == "certified",
        }
        if sum(v for k, v in answer.numbers.items() if k.endswith("seconds")) > 4 * request.limit_s:
            answer.notes.append("tighter tolerances not started: time limit")
            break
    return answer


def risks(loaded: Loaded, request: Request) -> Answer:
    """A whole decomposition; `goal` is the probe."""
    from ssl_risk_rs import decompose

    began = time.perf_counter()
    result = decompose(
        *(loaded.x, loaded.y, loaded.x_test, loaded.y_test), probe=request.goal, n_threads=_threads(request)
    )
    answer = Answer([time.perf_counter() - began])
    estimates = {q: result.estimate(q) for q in ("risk_af", "risk_as", "risk_cs", "risk_us")}
    names = ("approx_usability", "probe_gen", "enc_gen")
    answer.numbers |= estimates
    answer.numbers |= {
        "sum": sum(result.estimate(q) for q in names),
        "alpha": result.penalties["tuned"].absolute,
        "floor": result.penalties["floor"].absolute,
        "passes": sum(fit.passes for fit in result.fits),
        "fits": len(result.fits),
        "converged": result.converged,
        "tol": result.method.tol,
        "worst_gap": max((fit.gap or 0.0 for fit in result.fits if fit.stop == "certified"), default=float("nan")),
        "worst_bound": max(fit.gap or 0.0 for fit in result.fits),
        "certified": sum(fit.stop in ("certified", "closed_form") for fit in result.fits),
    }
    answer.notes += [note.sentence() for note in result.notes]
    answer.notes.append(f"{len(result.fits)} fits, penalty {result.penalties['tuned'].value:g}")
    return answer


def few(loaded: Loaded, request: Request) -> Answer:
    """Many fits on a handful of rows, one after the other."""
    from ssl_risk_rs import RidgeProbe

    answer, began, done = Answer(), time.perf_counter(), 0
    while done < request.n_fits and time.perf_counter() - began < request.limit_s:
        rows = shot_rows(loaded.y, request.shots, done)
        probe = RidgeProbe(alpha=request.alpha, n_threads=_threads(request)).fit(loaded.x[rows], loaded.y[rows])
        if done == 0:
            answer.arrays |= _weights(probe, loaded)
        done += 1
    answer.seconds, answer.numbers["fits"] = [time.perf_counter() - began], done
    return answer


def scaling(loaded: Loaded, request: Request) -> Answer:
    """Moments and a pass at fractions of n, d and k: numbers `gram|n|12500` in seconds, `error|n|12500`.

    The error is that of the fit's objective beside float64.
    """
    answer = Answer()
    for axis, full in (("n", len(loaded.x)), ("d", loaded.d), ("k", loaded.k)):
        for parts in (8, 4, 2, 1):
            size = {"n": len(loaded.x), "d": loaded.d, "k": loaded.k} | {axis: full // parts}
            if size["k"] < 2 or size["d"] < 4:
                continue
            x = np.ascontiguousarray(loaded.x[: size["n"], : size["d"]])
            part = Loaded(loaded.problem, x, loaded.y[: size["n"]] % size["k"], x[:1], loaded.y[:1] % size["k"])
            seconds, _ = repeated(request, lambda part=part: _moments(part, request))  # type: ignore[misc]
            fit = one_pass(part, request)
            objective = logistic_objective(part, fit.arrays["coef"], fit.arrays["intercept"], request.alpha)
            key = f"{axis}|{size[axis]}"
            answer.numbers |= {
                f"gram|{key}": min(seconds),
                f"pass|{key}": min(fit.seconds),
                f"error|{key}": abs(fit.numbers["objective"] / objective - 1),
            }
    answer.seconds = [sum(v for k, v in answer.numbers.items() if not k.startswith("error"))]
    return answer


JOBS = {
    "gram": [Method("ours", gram)],
    "pass": [
        Method("ours", one_pass),
        Method("ours bfloat16", lambda loaded, request: one_pass(loaded, request, reduced=True)),
    ],
    "ridge": [Method("ours", ridge, goal="one penalty"), Method("ours", ridge_choice, goal="20 penalties")],
    "logistic": [Method("ours", logistic)],
    "ridge-risks": [Method("ours", risks)],
    "logistic-risks": [Method("ours", risks)],
    "few": [Method("ours", few)],
    "scaling": [Method("ours", scaling)],
}
