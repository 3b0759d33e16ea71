"""What compare and explain are given: run folders, and features that are still to be decomposed."""

from pathlib import Path

from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import DataError
from ssl_risk_rs.results.compare import NotComparableError
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow.features import Reading, open_features

__all__ = ["features_of", "is_run", "refuse_other", "task_of"]


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


def features_of(target: str) -> str:
    """Where the features of a target are: a run folder names its bank."""
    if not is_run(target):
        return target
    bank = Run.load(target).provenance.banks.get("encoder")
    if bank is None or not Path(bank.path).exists():
        raise DataError(f"{target} is a run folder whose features are not in a bank: name the bank or the file instead")
    return bank.path


def task_of(path: str, group: str | None, reading: Reading) -> tuple[Task, str]:
    """The task of a bank or of feature files, and the encoder's name."""
    opened = open_features(path, reading, group=group)
    return opened.task, opened.encoder
