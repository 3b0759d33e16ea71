"""The feature banks that a run is made of: the encoder's, its supervised twin's and a control's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.encoders.sources.files import file_facts, own_files
from ssl_risk_rs.events import Report
from ssl_risk_rs.extraction.cached import ensure_banks, told_by_files
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.workflow.before import checker
from ssl_risk_rs.workflow.others import Others, choose_others
from ssl_risk_rs.workflow.question import Question

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.results.run import Run

__all__ = [
    "Ensure", "OtherBanks", "RunBanks", "banks_of", "ensure_for", "is_made_of", "other_banks",
    "others_facts", "with_others",
]  # fmt: skip

#: feature → complete bank of an encoder on the images of a question: what is missing is encoded
Ensure = Callable[[str, Encoding], "dict[str, FeatureBank]"]


@dataclass(frozen=True, slots=True)
class OtherBanks:
    """Who the twin and the control are, and their banks; None where there is none."""

    names: Others
    supervised: "FeatureBank | None" = None
    control: "FeatureBank | None" = None

    def paths(self) -> dict[str, Path]:
        """role → folder of the bank."""
        banks = {"supervised": self.supervised, "control": self.control}
        return {role: bank.path for role, bank in banks.items() if bank is not None}


@dataclass(frozen=True, slots=True)
class RunBanks:
    """The encoder's bank and the others."""

    encoder: "FeatureBank"
    others: OtherBanks

    def paths(self) -> dict[str, Path]:
        """role → folder of the bank."""
        return {"encoder": self.encoder.path, **self.others.paths()}


def ensure_for(
    data: str,
    question: Question,
    *,
    store: "str | Path | None" = None,
    say: Callable[[str], None] = lambda _: None,
    report: Report | None = None,
) -> Ensure:
    """`ensure_banks` for the encoders of one line, which see the same images; the last ones are remembered."""
    check = checker(question)

    @lru_cache(maxsize=8)  # a twin and a control belong to many checkpoints
    def ensure(name: str, encoding: Encoding) -> "dict[str, FeatureBank]":
        return ensure_banks(
            name, data, encoding, store=store, group=question.group, check=check, say=say, progress=report
        )

    return ensure


def banks_of(
    model: str,
    data: str,
    question: Question,
    ensure: Ensure,
    *,
    encoding: Encoding | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> RunBanks:
    """The banks of a run; what is missing of them is encoded.

    encoding : of the encoder alone, where it is not that of the question

    Raises
    ------
    Those of `ensure_banks`.
    """
    return with_others(_first(model, encoding or question.encoding, ensure, say), data, question, ensure, say=say)


def with_others(
    bank: "FeatureBank", data: str, question: Question, ensure: Ensure, *, say: Callable[[str], None] = lambda _: None
) -> RunBanks:
    """`banks_of`, where the encoder's bank is at hand."""
    header = bank.header
    names = choose_others(
        header.encoder_spec or {}, data, question, data_id=header.data_id, n_images=bank.n_rows, say=say
    )
    return RunBanks(bank, other_banks(names, question, ensure, say=say))


def other_banks(
    names: Others, question: Question, ensure: Ensure, *, say: Callable[[str], None] = lambda _: None
) -> OtherBanks:
    """The banks of the twin and of the control."""

    def bank(name: str | None, encoding: Encoding) -> "FeatureBank | None":
        return None if name is None else _first(name, encoding, ensure, say)

    asked = question.encoding
    return OtherBanks(
        names,
        bank(names.twin, names.encoding_of_twin(asked)),
        bank(names.control, names.encoding_of_control(asked)),
    )


def _first(name: str, encoding: Encoding, ensure: Ensure, say: Callable[[str], None]) -> "FeatureBank":
    first, *rest = banks = ensure(name, encoding)
    if rest:
        say(f"{name} returns several features; {first} is decomposed, not {', '.join(rest)}.")
    return banks[first]


def is_made_of(run: "Run", paths: Mapping[str, Path]) -> bool:
    """Whether a run was made of the banks in these folders, role by role."""
    return {role: Path(bank.path).name for role, bank in run.provenance.banks.items()} == {
        role: path.name for role, path in paths.items()
    }


def others_facts(others: Others, paths: Mapping[str, Path] | None = None) -> dict[str, object] | None:
    """What the twin and the control are made of, by role: sizes and times of files of the user's own, or, where files
    do not tell, the bank in `paths`; None where that is not known yet. Other names (published, timm's, random, grids of
    pixels) stand for the same encoder always."""
    found: dict[str, object] = {}
    for role, text in (("supervised", others.twin), ("control", others.control)):
        if text is None:
            continue
        name = parse_name(text)
        if told_by_files(name):
            found |= {role: [file_facts(file) for file in files]} if (files := own_files(name)) else {}
        elif paths is None:
            return None
        else:
            found[role] = paths[role].name
    return found
