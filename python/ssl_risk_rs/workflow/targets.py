"""What compare and explain are given: run folders, and features that are still to be decomposed."""

from pathlib import Path

from ssl_risk_rs.bank import FeatureBank, is_bank
from ssl_risk_rs.decomposition.provenance import bank_facts
from ssl_risk_rs.decomposition.targets import HEADLINE_OF, Target, bank_values, retargeted
from ssl_risk_rs.decomposition.task import Task, make_task
from ssl_risk_rs.errors import DataError, NotComparableError
from ssl_risk_rs.results.run import Run

__all__ = ["is_run", "refuse_other", "target_of", "task_of_run"]

#: what a bank's header tells of its features that a bank in its place would have otherwise
_SAME = (
    "encoder",
    "weights_hash",
    "feature",
    "precision",
    "data_fingerprint",
    "view",
    "dtype",
    "n_features",
)
_KIND_OF = {headline: kind for kind, headline in HEADLINE_OF.items()}


def is_run(target: str) -> bool:
    """Whether it is a run folder."""
    return (Path(target).expanduser() / "run.json").is_file()


def refuse_other(target: str, field: str, value: object, asked: object) -> None:
    """Refuse a run folder that was made with another value of a field than is asked for."""
    if asked in (None, value):
        return
    made = f"without {field}" if value is None else f"with {field} {value}"
    raise NotComparableError(
        field, f"{target} was made {made}, and {asked} is asked for: leave it out, or name the features"
    )


def target_of(run: Run) -> Target | None:
    """What a run predicts; None for the labels."""
    column = run.provenance.target
    return None if column is None else Target(column, _KIND_OF[run.main.method.metric])


def task_of_run(run: Run, name: str) -> Task:
    """The features that a run was made of, with its groups and its target.

    Raises
    ------
    DataError if they are in no bank that is still there, or others are in it now; BankError if it is damaged. `name` is
    the run's, for messages.
    """
    facts = run.provenance.banks.get("encoder")
    if facts is None:
        raise DataError(f"{name} is a run folder whose features are not in a bank: name the file of features instead")
    if not is_bank(Path(facts.path)):
        raise DataError(
            f"{name} is a run folder whose features were in {facts.path}, where there is no feature bank"
            f"{'' if Path(facts.path).is_absolute() else ' as seen from this folder'}: name the bank instead"
        )
    bank = FeatureBank.open(facts.path)
    now = bank_facts(bank)
    # an encoder's features are told by its weights and data; of others only their content tells
    for field in (*_SAME, *(("content_hash",) if facts.weights_hash is None else ())):
        was, is_now = getattr(facts, field), getattr(now, field)
        if was is not None and was != is_now:
            raise DataError(
                f"{name} is a run folder whose features were in {facts.path}, and other features are there now "
                f"({field} {is_now!r}, it was {was!r}): name the bank of its features instead, or make the run anew"
            )
    task = make_task(bank, groups=run.provenance.group)
    if (target := target_of(run)) is None:
        return task
    return retargeted(task, bank_values(bank, target), target, drop_unlabelled=True)  # as the run's own rows were
