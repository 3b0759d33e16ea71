"""How far an interval can be trusted: one ladder for risks, differences and few-shot quantities."""

from ssl_risk_rs.results.estimate import LEAST_GROUPS, Grade

__all__ = ["FEW_GROUPS", "FEW_ROWS", "MUCH_TOO_OPTIMISTIC", "grade"]

#: with fewer rows that decide a number, the normal approximation is rough
FEW_ROWS = 10
#: groups in a set of rows below which its intervals are marked, and are indicative
FEW_GROUPS, INDICATIVE_GROUPS = 20, 10
#: degrees of freedom below which an interval is indicative
FEW_DF = 5.0
#: H/R_AF above which a training error is too optimistic to bound
MUCH_TOO_OPTIMISTIC = 4.0


def grade(
    *,
    groups: int | None,
    df: float,
    deciding: float,
    factor: float = 1.0,
    crowded: bool = False,
) -> Grade:
    """The first fault that an interval has, the worst one first.

    Parameters
    ----------
    groups : fewest groups of the sets of rows that the quantity rests on; None for independent rows
    df : degrees of freedom of its variance
    deciding : rows that decide it
    factor : of training errors alone, the largest H/R_AF
    crowded : whether it is a training error of a ridge probe with more classes than features
    """
    if groups is not None and groups < LEAST_GROUPS:
        return Grade.NONE
    if groups is not None and groups < INDICATIVE_GROUPS:
        return Grade.INDICATIVE
    if df < FEW_DF or factor > MUCH_TOO_OPTIMISTIC or crowded:
        return Grade.INDICATIVE
    if groups is not None and groups < FEW_GROUPS:
        return Grade.FEW_GROUPS
    return Grade.FEW_ROWS if deciding < FEW_ROWS else Grade.SOUND
