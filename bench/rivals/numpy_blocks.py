"""numpy, by hand: float32 products over blocks of rows, a Cholesky factorization by scipy."""

import time

import numpy as np
from contract import Answer, Method, Request, blocks, repeated, shot_rows
from problems import Loaded

REQUIRES = ("numpy", "scipy")
PACKAGES = ("numpy", "scipy")


def gram(loaded: Loaded, request: Request) -> Answer:
    """XᵀX; only the products are timed, the conversion to float32 is a note (numpy's is slow)."""
    answer = Answer()
    for _ in range(request.repeats):
        total, conversion = np.zeros((loaded.d, loaded.d)), 0.0
        seconds = 0.0
        for rows in blocks(loaded.x):
            began = time.perf_counter()
            x = loaded.x[rows].astype(np.float32)
            middle = time.perf_counter()
            total += x.T @ x
            conversion += middle - began
            seconds += time.perf_counter() - middle
        answer.seconds.append(seconds)
        if sum(answer.seconds) > request.limit_s:
            break
    answer.notes.append(f"float16 conversion not counted: {conversion:.2f} s")
    answer.arrays["gram"] = total
    return answer


def _ridge(loaded: Loaded, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import cho_factor, cho_solve

    n, d, k = len(loaded.x), loaded.d, loaded.k
    shift = loaded.x[:2048].astype(np.float32).mean(0)
    gram, sums, cross = np.zeros((d, d), np.float32), np.zeros(d), np.zeros((k, d), np.float32)
    for rows in blocks(loaded.x):
        x = loaded.x[rows].astype(np.float32)
        x -= shift
        gram += x.T @ x
        sums += x.sum(0)
        cross += np.eye(k, dtype=np.float32)[loaded.y[rows]].T @ x
    mean, shares = sums / n, np.bincount(loaded.y, minlength=k) / n
    gram = gram / n - np.outer(mean, mean) + alpha * np.eye(d)
    cross = cross.T / n - np.outer(mean, shares)
    coef = cho_solve(cho_factor(gram.astype(np.float32), overwrite_a=True), cross.astype(np.float32)).T
    return coef, shares - coef @ (mean + shift)


def ridge(loaded: Loaded, request: Request) -> Answer:
    """One penalty, from float16 rows to weights."""
    seconds, (coef, intercept) = repeated(request, lambda: _ridge(loaded, request.alpha))
    return Answer(seconds, {"coef": coef, "intercept": intercept})


def few(loaded: Loaded, request: Request) -> Answer:
    """Many small fits in the dual: kernel matrix (n, n) and its Cholesky factor, float64."""
    from scipy.linalg import cho_factor, cho_solve

    answer, began, done = Answer(), time.perf_counter(), 0
    while done < request.n_fits and time.perf_counter() - began < request.limit_s:
        rows = shot_rows(loaded.y, request.shots, done)
        x, targets = loaded.x[rows].astype(np.float64), np.eye(loaded.k)[loaded.y[rows]]
        mean, shares = x.mean(0), targets.mean(0)
        x -= mean
        kernel = x @ x.T + len(x) * request.alpha * np.eye(len(x))
        coef = (x.T @ cho_solve(cho_factor(kernel), targets - shares)).T
        if done == 0:
            answer.arrays |= {"coef": coef, "intercept": shares - coef @ mean}
        done += 1
    answer.seconds, answer.numbers["fits"] = [time.perf_counter() - began], done
    return answer


JOBS = {
    "gram": [Method("numpy float32", gram)],
    "ridge": [Method("numpy float32 blocks + Cholesky", ridge, goal="one penalty")],
    "few": [Method("numpy dual + Cholesky", few)],
}
