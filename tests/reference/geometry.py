"""Statistics of a representation by their definitions: two passes, all pairs, n × n matrices, float64."""

import math

import numpy as np

__all__ = [
    "alignment", "alpha", "class_alignment", "class_mean_coherence", "effective_dim", "effective_rank", "h_score",
    "inter_var", "intra_var", "lidar", "linear_cka", "log_marginal", "logme", "nc1", "rank_z", "rankme", "uniformity",
]  # fmt: skip


def _varying(z):
    z = np.asarray(z, float)
    return z[:, z.std(0) > 1e-7 * np.abs(z).max(0)]


def _correlation_eigenvalues(z):
    return np.sort(np.linalg.eigvalsh(np.atleast_2d(np.corrcoef(_varying(z).T))))[::-1]


def effective_rank(z):
    p = _correlation_eigenvalues(z).clip(0)
    p = p[p > 1e-13] / p.sum()
    return math.exp(-(p * np.log(p)).sum())


def effective_dim(z):
    matrix = np.atleast_2d(np.corrcoef(_varying(z).T))
    largest = np.linalg.eigvalsh(matrix).max()
    return int(np.linalg.matrix_rank(matrix, tol=max(1e-4, 0.01 * largest), hermitian=True))


def rank_z(z):
    return int(np.linalg.matrix_rank(np.asarray(z, float), rtol=0.01))


def rankme(z):
    s = np.linalg.svd(np.asarray(z, float), compute_uv=False)
    p = s / s.sum() + 1e-7
    return math.exp(-(p * np.log(p)).sum())


def alpha(z, first, last):
    """Exponent of the eigenvalues first … last, from 1, of the covariance."""
    centred = np.asarray(z, float) - np.mean(np.asarray(z, float), 0)
    eigenvalues = np.linalg.svd(centred, compute_uv=False) ** 2 / len(centred)
    j = np.arange(first, last + 1)
    return -np.polyfit(np.log(j), np.log(eigenvalues[first - 1 : last]), 1)[0]


def _unit(z):
    z = np.asarray(z, float)
    z = z[np.linalg.norm(z, axis=1) > 0]
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def uniformity(z):
    z = _unit(z)
    total, pairs = 0.0, 0
    for i in range(len(z)):
        for j in range(i):
            total += math.exp(-2 * float(((z[i] - z[j]) ** 2).sum()))
            pairs += 1
    return math.log(total / pairs)


def _classes(z, y):
    z, y = np.asarray(z, float), np.asarray(y)
    return [z[y == c] for c in np.unique(y)]


def intra_var(z, y):
    return float(np.mean([((own - own.mean(0)) ** 2).sum(1).mean() for own in _classes(z, y)]))


def inter_var(z, y):
    means = np.array([own.mean(0) for own in _classes(z, y)])
    return float(((means - means.mean(0)) ** 2).sum(1).mean())


def class_alignment(z, y):
    found = []
    for own in _classes(z, y):
        u = _unit(own)
        if len(u):
            found.append(2 * ((u - u.mean(0)) ** 2).sum(1).mean())
    return float(np.mean(found))


def nc1(z, y):
    """Covariance within classes pooled over rows, of class means over classes; pinv with a cutoff of 1 %."""
    z, y = np.asarray(z, float), np.asarray(y)
    means = np.array([own.mean(0) for own in _classes(z, y)])
    between = np.cov(means.T, ddof=0)
    within = sum(np.cov(own.T, ddof=0) * len(own) for own in _classes(z, y)) / len(z)
    return float(np.trace(np.linalg.pinv(between, rcond=0.01, hermitian=True) @ within))


def class_mean_coherence(z, y):
    means = np.array([own.mean(0) for own in _classes(z, y)])
    means = means - means.mean(0)
    cosines = [
        abs(float(a @ b)) / float(np.linalg.norm(a) * np.linalg.norm(b)) for i, a in enumerate(means) for b in means[:i]
    ]
    return max(cosines)


def h_score(z, y):
    z, y = np.asarray(z, float), np.asarray(y)
    z = z - z.mean(0)
    explained = np.zeros_like(z)
    for c in np.unique(y):
        explained[y == c] = z[y == c].mean(0)
    covariance, between = z.T @ z / len(z), explained.T @ explained / len(z)
    return float(np.trace(np.linalg.pinv(covariance, rcond=1e-10, hermitian=True) @ between))


def log_marginal(f, y, prior, noise):
    """log N(y; 0, F Fᵀ/prior + I/noise): the evidence itself, n × n."""
    n = len(y)
    covariance = f @ f.T / prior + np.eye(n) / noise
    _, logdet = np.linalg.slogdet(covariance)
    return -0.5 * (y @ np.linalg.solve(covariance, y) + logdet + n * math.log(2 * math.pi))


def logme(z, labels):
    """Largest log evidence by row, mean over classes, found by search over both precisions."""
    from scipy.optimize import minimize

    f, labels = np.asarray(z, float), np.asarray(labels)
    found = []
    for c in np.unique(labels):
        y = (labels == c).astype(float)
        best = math.inf
        for start in ((0.0, 2.0), (4.0, 3.0)):
            of = minimize(
                lambda p, y=y: -log_marginal(f, y, math.exp(p[0]), math.exp(p[1])),
                start,
                method="Nelder-Mead",
                options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000},
            )
            best = min(best, of.fun)
        found.append(-best / len(y))
    return float(np.mean(found))


def alignment(views):
    """Mean over samples of the mean squared distance of two views of unit length."""
    units = [np.asarray(v, float) / np.linalg.norm(np.asarray(v, float), axis=1, keepdims=True) for v in views]
    pairs = [((a - b) ** 2).sum(1).mean() for i, a in enumerate(units) for b in units[:i]]
    return float(np.mean(pairs))


def lidar(views):
    from scipy.linalg import sqrtm

    stack = np.stack([np.asarray(v, float) for v in views], axis=1)  # (n, V, d)
    means = stack.mean(1)
    rest = (stack - means[:, None]).reshape(-1, stack.shape[2])
    within = rest.T @ rest / len(rest) + 1e-4 * np.eye(stack.shape[2])
    whiten = np.linalg.inv(np.real(sqrtm(within)))
    eigenvalues = np.linalg.eigvalsh(whiten @ np.cov(means.T, ddof=0) @ whiten).clip(0)
    p = eigenvalues / eigenvalues.sum() + 1e-7
    return math.exp(-(p * np.log(p)).sum())


def linear_cka(x, y):
    """By n × n Gram matrices and their centring."""
    n = len(x)
    centre = np.eye(n) - 1 / n
    k, m = (centre @ np.asarray(a, float) @ np.asarray(a, float).T @ centre for a in (x, y))
    return float((k * m).sum() / math.sqrt((k * k).sum() * (m * m).sum()))
