"""From the name of an encoder and of a data set to a run: the main job."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.datasets import create_dataset
from ssl_risk_rs.decomposition.provenance import with_banks
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.targets import Target, bank_values, retargeted
from ssl_risk_rs.decomposition.task import make_task, other_features
from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.errors import SslRiskError
from ssl_risk_rs.events import Report, once
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow.banks import RunBanks, banks_of, ensure_for
from ssl_risk_rs.workflow.probes import decompose_each
from ssl_risk_rs.workflow.question import Question

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank

__all__ = ["answer", "answer_of", "evaluate"]


def evaluate(
    model: str,
    data: str,
    *,
    probes: str | Sequence[str] = ("logistic",),
    supervised: str = "auto",
    control: str = "auto",
    group: str | None = None,
    target: Target | None = None,
    drop_unlabelled: bool = False,
    store: "str | Path | None" = None,
    say: Callable[[str], None] = lambda _: None,
    report: Report | None = None,
    encoding: Encoding | None = None,
    settings: Settings | None = None,
    data_named: bool = True,
) -> tuple[Run, SslRiskError | None]:
    """Encode what is missing, then decompose with each probe.

    Parameters
    ----------
    model, data : names, as `create_encoder` and `create_dataset` take them
    probes : "logistic", "ridge", or several of them
    supervised, control : "auto", "none" or an encoder's name. `auto` takes the twin that the encoder names if
        the data's labels trained it, and a control encoder where one is cheap.
    group : column of the data's samples whose groups are kept whole
    target : column of the data's samples that is predicted instead of the labels; a twin trained on the labels is
        then none
    drop_unlabelled : leave rows without a value of the target out instead of refusing them
    store : folder of the feature banks
    say, report : receive sentences, and events of extraction and fits
    encoding : which features of which images, and how
    settings : of each probe, whatever probe they name
    data_named : False where `data` are the bundled digits because none were named, which the record and the table say

    Returns
    -------
    the run, and why a later probe is missing from it

    Raises
    ------
    Those of `create_encoder`, `create_dataset`, `extract` and `decompose`.
    """
    named = (probes,) if isinstance(probes, str) else tuple(probes)
    question = Question(
        named, settings or Settings(), group, target, drop_unlabelled, supervised, control,
        encoding or Encoding(),
    )  # fmt: skip
    return answer(model, data, question, store=store, say=say, report=report, data_named=data_named)


def answer(
    model: str,
    data: str,
    question: Question,
    *,
    store: "str | Path | None" = None,
    say: Callable[[str], None] = lambda _: None,
    report: Report | None = None,
    data_named: bool = True,
) -> tuple[Run, SslRiskError | None]:
    """`evaluate`, of a question that is one value."""
    say_once = once(say)  # twin and control are of the same data
    ensure = ensure_for(data, question, store=store, say=say_once, report=report)
    banks = banks_of(model, data, question, ensure, say=say_once)
    return answer_of(banks, model, data, question, report=report, data_named=data_named)


def answer_of(
    banks: RunBanks,
    model: str,
    data: str,
    question: Question,
    *,
    report: Report | None = None,
    called: str | None = None,
    data_named: bool = True,
) -> tuple[Run, SslRiskError | None]:
    """`answer`, of banks that are at hand.

    Parameters
    ----------
    called : the encoder as tables name it, where its bank may be one of the same weights by another name
    the others : as in `evaluate`

    Returns
    -------
    the run, and why a later probe is missing from it

    Raises
    ------
    Those of `decompose`.
    """
    group, target, others = question.group, question.target, banks.others
    bank, twin, blind = banks.encoder, others.supervised, others.control
    encoder, data_name = called or _encoder_name(model, bank), _data_name(data, bank)
    task = make_task(bank, groups=group)
    if target is not None:
        task = retargeted(task, bank_values(bank, target), target, drop_unlabelled=question.drop_unlabelled)
    finished = decompose_each(
        task,
        probes=question.probes,
        settings=question.settings,
        twin=None if twin is None else other_features(task, twin, None, "supervised"),
        control=None if blind is None else other_features(task, blind, None, "control"),
        name=encoder,
        report=report,
    )
    provenance = Provenance(
        encoder=encoder,
        data=data_name,
        data_named=data_named,
        supervised=others.names.twin,
        control=others.names.control,
        no_control=others.names.no_control,
        group=group,
        target=None if target is None else target.column,
    )
    provenance = with_banks(provenance, {"encoder": bank, "supervised": twin, "control": blind})
    return Run.of(*finished.decompositions, provenance=provenance), finished.failure


def _encoder_name(model: str, bank: "FeatureBank") -> str:
    """The encoder as the table names it. The bank of a file may have been made from a copy of it."""
    return model if parse_name(model).kind in ("checkpoint", "code") else bank.header.encoder or model


def _data_name(data: str, bank: "FeatureBank") -> str:
    """The data as the table names them. The bank may have been made from a copy of them."""
    try:
        return create_dataset(data).name
    except SslRiskError:  # elsewhere: a bank that another machine has filled
        return bank.shown_data
