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
from ssl_risk_rs.extraction.cached import ensure_banks
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow.before import checker
from ssl_risk_rs.workflow.others import choose_others
from ssl_risk_rs.workflow.probes import decompose_each
from ssl_risk_rs.workflow.question import Question

if TYPE_CHECKING:
    from ssl_risk_rs.bank import BankHeader, FeatureBank

__all__ = ["answer", "evaluate"]


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
    bank: "FeatureBank | None" = None,
    called: str | None = None,
    ensure: "Callable[..., dict[str, FeatureBank]] | None" = None,
    data_named: bool = True,
) -> tuple[Run, SslRiskError | None]:
    """`evaluate`, of a question that is one value.

    Parameters
    ----------
    bank : the encoder's bank, where it is at hand
    called : the encoder as tables name it, where its bank may be one of the same weights by another name
    ensure : finds or makes banks; default `ensure_banks`
    the others : as in `evaluate`
    """
    say_once, check = once(say), checker(question)  # twin and control are of the same data
    asked, group, target = question.encoding, question.group, question.target

    def bank_of(name: str, encoding: Encoding) -> "FeatureBank":
        banks = (ensure or ensure_banks)(
            name, data, encoding, store=store, group=group, check=check, say=say_once, progress=report
        )
        if len(banks) > 1:
            first, *rest = banks
            say_once(f"{name} returns several features; {first} is decomposed, not {', '.join(rest)}.")
        return next(iter(banks.values()))

    bank = bank_of(model, asked) if bank is None else bank
    header = bank.header
    spec = header.encoder_spec or {}
    encoder, data_name = called or _encoder_name(model, header), _data_name(data, header)
    others = choose_others(
        spec, data, data_id=header.data_id, n_images=bank.n_rows, supervised=question.supervised,
        control=question.control, target=target, say=say,
    )  # fmt: skip
    twin = None if others.twin is None else bank_of(others.twin, others.encoding_of_twin(asked))
    blind = None if others.control is None else bank_of(others.control, others.encoding_of_control(asked))
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
        supervised=others.twin,
        control=others.control,
        no_control=others.no_control,
        group=group,
        target=None if target is None else target.column,
    )
    provenance = with_banks(provenance, {"encoder": bank, "supervised": twin, "control": blind})
    return Run.of(*finished.decompositions, provenance=provenance), finished.failure


def _encoder_name(model: str, header: "BankHeader") -> str:
    """The encoder as the table names it. The bank of a file may have been made from a copy of it."""
    return model if parse_name(model).kind in ("checkpoint", "code") else header.encoder or model


def _data_name(data: str, header: "BankHeader") -> str:
    """The data as the table names them. The bank may have been made from a copy of them."""
    try:
        return create_dataset(data).name
    except SslRiskError:  # elsewhere: a bank that another machine has filled
        return header.data_name or data
