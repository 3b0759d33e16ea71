"""scikit-learn: Ridge by Cholesky and LogisticRegression by L-BFGS in float32, RidgeClassifierCV."""

import time

import numpy as np
from contract import Answer, Method, Request, repeated, shot_rows
from problems import Loaded

from rivals.trajectory import Clock, watched_minimize

REQUIRES = ("sklearn",)
PACKAGES = ("scikit-learn",)
#: RidgeClassifierCV sees a third of the rows: its time and memory do not allow more at 2048 features
CV_SHARE = 3


def ridge(loaded: Loaded, request: Request) -> Answer:
    """One penalty, from float16 rows to weights."""
    from sklearn.linear_model import Ridge

    return ridge_by(Ridge, loaded, request, solver="cholesky")


def ridge_by(estimator: type, loaded: Loaded, request: Request, **options: object) -> Answer:
    """Ridge on one-hot targets by an estimator of scikit-learn's interface."""
    parts: list[float] = []

    def work() -> object:
        x = loaded.x.astype(np.float32)
        targets = np.eye(loaded.k, dtype=np.float32)[loaded.y]
        began = time.perf_counter()
        fit = estimator(alpha=len(x) * request.alpha, **options).fit(x, targets)
        parts.append(time.perf_counter() - began)
        return fit

    seconds, fit = repeated(request, work)
    answer = Answer(seconds, {"coef": np.asarray(fit.coef_), "intercept": np.asarray(fit.intercept_)})
    answer.notes.append(f"fit alone, without conversion: {np.median(parts):.2f} s")
    return answer


def ridge_cv(loaded: Loaded, request: Request) -> Answer:
    """All penalties with a choice by leave-one-out squared error."""
    from sklearn.linear_model import RidgeClassifierCV

    n = len(loaded.x) // CV_SHARE
    began = time.perf_counter()
    x = loaded.x[:n].astype(np.float32)
    fit = RidgeClassifierCV(alphas=n * np.array(request.alphas)).fit(x, loaded.y[:n])
    # targets are −1 and 1: half of the weights are those of one-hot targets
    coef, intercept = np.zeros((loaded.k, loaded.d)), np.full(loaded.k, -1e4)
    coef[fit.classes_], intercept[fit.classes_] = fit.coef_ / 2, (fit.intercept_ + 1) / 2
    answer = Answer([time.perf_counter() - began], {"coef": coef, "intercept": intercept})
    answer.numbers |= {"alpha": fit.alpha_ / n, "rows": n}
    answer.notes.append(f"{n} of {len(loaded.x)} rows; leave-one-out squared error")
    return answer


def logistic(loaded: Loaded, request: Request) -> Answer:
    """One penalty by L-BFGS, until it ends or the limit; float32 rows in memory when the clock starts."""
    from sklearn.linear_model import LogisticRegression

    return logistic_by(LogisticRegression, loaded, request, scale=1.0)


def logistic_by(estimator: type, loaded: Loaded, request: Request, *, scale: float) -> Answer:
    """Logistic regression by an estimator of scikit-learn's interface; `scale` brings its objective to ours."""
    began = time.perf_counter()
    x = loaded.x.astype(np.float32)
    loading = time.perf_counter() - began
    clock = Clock(request.limit_s)
    with watched_minimize(clock, scale):
        fit = estimator(C=1 / (len(x) * request.alpha), tol=1e-7, max_iter=100_000).fit(x, loaded.y)
    answer = Answer([clock.seconds()], {"coef": np.asarray(fit.coef_), "intercept": np.asarray(fit.intercept_)})
    answer.trajectory, answer.numbers["passes"] = clock.points, len(clock.points)
    answer.notes.append(f"float32 conversion not counted: {loading:.2f} s")
    return answer


def few(loaded: Loaded, request: Request) -> Answer:
    """Many small fits; with fewer rows than features the Cholesky solver works in the dual."""
    from sklearn.linear_model import Ridge

    answer, began, done = Answer(), time.perf_counter(), 0
    while done < request.n_fits and time.perf_counter() - began < request.limit_s:
        rows = shot_rows(loaded.y, request.shots, done)
        x, targets = loaded.x[rows].astype(np.float32), np.eye(loaded.k, dtype=np.float32)[loaded.y[rows]]
        fit = Ridge(alpha=len(rows) * request.alpha, solver="cholesky").fit(x, targets)
        if done == 0:
            answer.arrays |= {"coef": fit.coef_, "intercept": fit.intercept_}
        done += 1
    answer.seconds, answer.numbers["fits"] = [time.perf_counter() - began], done
    return answer


JOBS = {
    "ridge": [
        Method("scikit-learn Ridge cholesky float32", ridge, lambda n, d, k: 12.0 * n * d + 8.0 * n * k, "one penalty"),
        Method(
            "scikit-learn RidgeClassifierCV, a third of the rows",
            ridge_cv,
            lambda n, d, k: (20.0 * n * d + 32.0 * n * k) / CV_SHARE + 32.0 * d * d,
            "20 penalties",
        ),
    ],
    "logistic": [
        Method("scikit-learn lbfgs float32", logistic, lambda n, d, k: 6.0 * n * d + 16.0 * n * k + 200.0 * d * k)
    ],
    "few": [Method("scikit-learn Ridge cholesky", few)],
}
