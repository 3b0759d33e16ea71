"""Banks and feature files → errors of their nearest neighbours."""

from collections.abc import Callable, Sequence

from ssl_risk_rs._names import distinct, refuse_twice
from ssl_risk_rs.decomposition.knn import NEIGHBOURS, TEMPERATURE, classify
from ssl_risk_rs.events import Event, Report
from ssl_risk_rs.results.knn import Neighbours
from ssl_risk_rs.workflow.features import Reading, open_features

__all__ = ["classify_targets"]


def classify_targets(
    targets: Sequence[str],
    *,
    test: str | None = None,
    group: str | None = None,
    reading: Reading | None = None,
    k: int = NEIGHBOURS,
    temperature: float | None = TEMPERATURE,
    held_rows: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    n_threads: int | None = None,
    report: Report | None = None,
) -> tuple[Neighbours, ...]:
    """Classify the rows of each bank (a folder or a key in the store) or feature file by their nearest training rows.

    Parameters
    ----------
    test : of a single file: the test rows, in a file of their own
    group : column whose groups are held out whole, and by which intervals are
    others : as of `decomposition.knn.knn`

    Raises
    ------
    ParameterError for a target named twice; those of `open_features` and `classify`.
    """
    refuse_twice(targets, "one representation is classified once")
    opened = [open_features(target, reading or Reading(), test=test, group=group) for target in targets]
    names = distinct([one.encoder for one in opened], targets)

    def progress_of(name: str) -> Callable[[int, int], None]:
        return lambda done, total: None if report is None else report(Event("judge", done, total, detail=name))

    return tuple(
        classify(
            one.task, k=k, temperature=temperature, name=name, data=one.data, held_rows=held_rows,
            confidence=confidence, seed=seed, n_threads=n_threads, progress=progress_of(name),
        )
        for name, one in zip(names, opened, strict=True)
    )  # fmt: skip
