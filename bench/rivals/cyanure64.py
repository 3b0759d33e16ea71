"""cyanure in float64, the library's own choice of solver: in float32 it stops before 1e-4."""

import time

import numpy as np
from contract import Answer, Method, Request
from problems import Loaded

REQUIRES = ("cyanure",)
PACKAGES = ("cyanure",)
#: never in one process with others: after a fit of it, torch's bfloat16 products there give NaN
ALONE = True
#: it has no time limit: problems whose epoch takes too long for it are not started
MOST_PRODUCTS = 2e9


def logistic(loaded: Loaded, request: Request) -> Answer:
    """One penalty, from the library's record of its way; it has no time limit, so epochs are limited instead."""
    from cyanure.estimators import Classifier

    if loaded.x.size * loaded.k > MOST_PRODUCTS:
        raise SystemExit(f"not run: more than {MOST_PRODUCTS:g} products n·d·k take it hours")
    began = time.perf_counter()
    x = np.asfortranarray(loaded.x.astype(np.float64))
    answer = Answer(notes=[f"float64 conversion not counted: {time.perf_counter() - began:.2f} s"])

    def fit(epochs: int) -> tuple[object, float]:
        began = time.perf_counter()
        found = Classifier(
            loss="multiclass-logistic", penalty="l2", lambda_1=request.alpha, fit_intercept=True, tol=1e-6,
            max_iter=epochs, duality_gap_interval=1, verbose=False, multi_class="multinomial",
        ).fit(x, loaded.y)  # fmt: skip
        return found, time.perf_counter() - began

    _, trial = fit(3)
    found, seconds = fit(max(3, int(3 * request.limit_s / trial)))
    # rows: epoch, objective, best dual, gap, -, seconds by the library's own clock
    _, objective, _, _, _, clock = found.optimization_info_[0]  # type: ignore[attr-defined]
    answer.trajectory = [(float(t), float(f)) for t, f in zip(clock, objective, strict=True) if t > 0]
    answer.seconds, answer.numbers["passes"] = [seconds], len(answer.trajectory)
    answer.arrays |= {"coef": np.asarray(found.coef_).T, "intercept": np.ravel(found.intercept_)}  # type: ignore[attr-defined]
    return answer


JOBS = {
    "logistic": [
        Method("cyanure auto float64", logistic, lambda n, d, k: 24.0 * n * d + 32.0 * n * k),
    ]
}
