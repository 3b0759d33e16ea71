"""Settings with which a decomposition would be made again."""

from dataclasses import replace

from ssl_risk_rs._limits import TIGHTEST_TOLERANCE
from ssl_risk_rs.decomposition.settings import N_FOLDS, Settings, passes_for, products_of_pass
from ssl_risk_rs.results.run import Decomposition

__all__ = ["settings_like"]


def settings_like(result: Decomposition) -> Settings:
    """Settings that cut, tune and fit rows as those of a decomposition were; groups and images on both sides of train
    and test, of which it has told, are no error. Metrics beside the headline, and few-shot sizes, are not among them.
    """
    method, sizes = result.method, result.sizes
    own, of_older = products_of_pass(sizes.train, sizes.features, sizes.classes), sizes.train * sizes.features
    by_size = {passes_for(own), passes_for(of_older * sizes.classes)}  # older records counted all features
    common = Settings(
        probe=method.probe,
        protocol=method.protocol,
        tol=max(method.tol, TIGHTEST_TOLERANCE) if method.error_tol is None else None,  # by size, as it was
        max_passes=None if method.max_passes in by_size else method.max_passes,
        confidence=method.confidence,
        random_counts=method.random_counts,
        order=method.order,
        tune_on=method.tuned_on,
        shared_groups="warn",
        overlap="warn",
        n_threads=method.n_threads,
    )
    if method.protocol == "paper":  # which fixes the rest
        return common
    planned = sizes.planned_subsets
    if planned is None and sizes.groups_train is None:  # an older record; of groups there may be fewer than planned
        planned = sizes.subsets
    return replace(
        common,
        scaling=method.scaling,
        n_folds=sizes.folds or N_FOLDS,
        tuning_folds=sizes.folds_judged or None,
        n_subsets=planned,
        subset_size=sizes.planned_rows,
        floor=result.penalties["floor"].value,
        midpoint=result.judgements is not None and result.judgements.held_out_floor is not None,
        seed=method.seed,
    )
