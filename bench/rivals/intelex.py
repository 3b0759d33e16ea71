"""scikit-learn-intelex (oneDAL): the same estimators as scikit-learn's, on Intel's kernels."""

from contract import Answer, Method, Request
from problems import Loaded

from rivals.scikit_learn import logistic_by, ridge_by

REQUIRES = ("sklearnex",)
PACKAGES = ("scikit-learn-intelex", "daal")


def ridge(loaded: Loaded, request: Request) -> Answer:
    """One penalty, from float16 rows to weights."""
    from sklearnex.linear_model import Ridge

    return ridge_by(Ridge, loaded, request)


def logistic(loaded: Loaded, request: Request) -> Answer:
    """One penalty by L-BFGS on oneDAL's objective, which is n times ours."""
    from sklearnex.linear_model import LogisticRegression

    return logistic_by(LogisticRegression, loaded, request, scale=1 / len(loaded.x))


JOBS = {
    "ridge": [
        Method("scikit-learn-intelex Ridge float32", ridge, lambda n, d, k: 10.0 * n * d + 8.0 * n * k, "one penalty")
    ],
    "logistic": [
        Method(
            "scikit-learn-intelex lbfgs float32", logistic, lambda n, d, k: 6.0 * n * d + 24.0 * n * k + 400.0 * d * k
        )
    ],
}
