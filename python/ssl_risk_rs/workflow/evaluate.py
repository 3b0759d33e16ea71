"""From the name of an encoder and of a data set to a run: the main job."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_risk_rs._identity import saw
from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.settings import Settings
from ssl_risk_rs.decomposition.targets import Target, bank_values, chosen, retargeted
from ssl_risk_rs.decomposition.task import make_task, other_features
from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.errors import SslRiskError
from ssl_risk_rs.events import Report, once
from ssl_risk_rs.results.provenance import Provenance
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow.facts import bank_facts
from ssl_risk_rs.workflow.probes import decompose_each

if TYPE_CHECKING:
    from ssl_risk_rs.bank import BankHeader, FeatureBank
    from ssl_risk_rs.extraction.settings import Encoding

__all__ = ["choose_control", "choose_twin", "evaluate", "for_control"]

#: images up to which a control encoder is encoded without being asked for: seconds to a minute
CHEAP_IMAGES = 20_000
#: data whose images are small, so that a control is cheap whatever their number
CHEAP_DATA = ("digits", "idx:", "npz:")
#: the control where an encoder names none: mean pixels, which cannot have memorized anything
PIXELS = "pixels:8"


def evaluate(
    model: str,
    data: str,
    *,
    probes: Sequence[str] = ("logistic",),
    supervised: str = "auto",
    control: str = "auto",
    group: str | None = None,
    target: Target | None = None,
    store: "str | Path | None" = None,
    say: Callable[[str], None] = lambda _: None,
    report: Report | None = None,
    encoding: "Encoding | None" = None,
    settings: Settings | None = None,
    bank: "FeatureBank | None" = None,
    ensure: "Callable[..., dict[str, FeatureBank]] | None" = None,
    data_named: bool = True,
) -> tuple[Run, SslRiskError | None]:
    """Encode what is missing, then decompose with each probe.

    Parameters
    ----------
    model, data : names, as `create_encoder` and `create_dataset` take them
    probes : "logistic", "ridge"
    supervised, control : "auto", "none" or an encoder's name. `auto` takes the twin that the encoder names if
        the data's labels trained it, and a control encoder where one is cheap.
    group : column of the data's samples whose groups are kept whole
    target : column of the data's samples that is predicted instead of the labels; a twin trained on the labels is
        then none
    store : folder of the feature banks
    say, report : receive sentences, and events of extraction and fits
    encoding : which features of which images, and how
    settings : of each probe, whatever probe they name
    bank : the encoder's bank, where it is at hand
    ensure : finds or makes banks; default `ensure_banks`
    data_named : False where `data` are the bundled digits because none were named, which the record and the table say

    Returns
    -------
    the run, and why a later probe is missing from it

    Raises
    ------
    Those of `create_encoder`, `create_dataset`, `extract` and `decompose`.
    """
    from ssl_risk_rs.extraction.cached import ensure_banks
    from ssl_risk_rs.extraction.settings import Encoding

    say_once = once(say)  # twin and control are of the same data
    if target is not None and supervised == "auto":
        supervised = "none"  # the twin that an encoder names was trained on the labels

    asked = encoding or Encoding()

    def bank_of(name: str, encoding: "Encoding") -> "FeatureBank":
        banks = (ensure or ensure_banks)(
            name, data, store=store, group=group, say=say_once, progress=report, **encoding.arguments()
        )
        if len(banks) > 1:
            first, *others = banks
            say_once(f"{name} returns several features; {first} is decomposed, not {', '.join(others)}.")
        return next(iter(banks.values()))

    if target is not None:
        _check_columns(data, target)
    bank = bank_of(model, asked) if bank is None else bank
    header = bank.header
    spec = header.encoder_spec or {}
    encoder, data_name = _encoder_name(model, header), _data_name(data, header)
    own = asked.of_default_feature()
    twin_name = choose_twin(spec, header.data_id, supervised, say)
    twin = None if twin_name is None else bank_of(twin_name, own)
    control_name, no_control = choose_control(spec, data, bank.n_rows, control)
    blind = None if control_name is None else bank_of(control_name, for_control(control_name, own))
    task = make_task(bank, groups=group)
    if target is not None:
        task = retargeted(task, bank_values(bank, target), target)
    finished = decompose_each(
        task,
        probes=probes,
        settings=settings or Settings(),
        twin=None if twin is None else other_features(task, twin, None, "supervised"),
        control=None if blind is None else other_features(task, blind, None, "control"),
        name=encoder,
        report=report,
    )
    used = {"encoder": bank, "supervised": twin, "control": blind}
    provenance = Provenance(
        encoder=encoder,
        data=data_name,
        data_named=data_named,
        supervised=twin_name,
        control=control_name,
        no_control=no_control,
        pretraining_data=header.pretraining_data,
        saw_training_images=saw(header.pretraining_id, header.data_id),
        group=group,
        target=None if target is None else target.column,
        banks={role: bank_facts(b) for role, b in used.items() if b is not None},
        notes=tuple(Note("text", {"text": _sentence(note)}) for note in header.data_notes or ()),
    )
    return Run.of(*finished.decompositions, provenance=provenance), finished.failure


def _encoder_name(model: str, header: "BankHeader") -> str:
    """The encoder as the table names it. The bank of a file may have been made from a copy of it."""
    return model if parse_name(model).kind in ("checkpoint", "code") else header.encoder or model


def _data_name(data: str, header: "BankHeader") -> str:
    """The data as the table names them. The bank may have been made from a copy of them."""
    from ssl_risk_rs.datasets import create_dataset

    try:
        return create_dataset(data).name
    except SslRiskError:  # elsewhere: a bank that another machine has filled
        return header.data_name or data


def _check_columns(data: str, target: Target) -> None:
    """Complain about a column that the data lack before images are encoded, not after."""
    from ssl_risk_rs.datasets import create_dataset

    chosen(target, list(create_dataset(data).source.listing().columns), data)


def _sentence(note: str) -> str:
    """A note of the data as a sentence."""
    return f"{note[:1].upper()}{note[1:]}" + ("" if note.endswith(".") else ".")


def choose_twin(spec: Mapping[str, Any], identity: str | None, asked: str, say: Callable[[str], None]) -> str | None:
    """The supervised twin, if there is one."""
    if asked != "auto":
        return None if asked == "none" else asked
    name, labels = spec.get("supervised_twin"), spec.get("twin_labels_id")
    if not isinstance(name, str) or not isinstance(labels, str) or saw(labels, identity) is not True:
        return None
    from ssl_risk_rs.encoders import describe_encoder

    try:
        describe_encoder(name)
    except SslRiskError as error:
        say(f"No supervised twin is used: {error}")
        return None
    return name


def for_control(name: str, encoding: "Encoding") -> "Encoding":
    """How a control is encoded: a grid of pixels is of its own size."""
    return replace(encoding, img_size=None) if name.startswith("pixels") else encoding


def choose_control(spec: Mapping[str, Any], data: str, n_images: int, asked: str) -> tuple[str | None, str | None]:
    """The control encoder, or why there is none."""
    if asked == "none":
        return None, "none was asked for"
    if asked != "auto":
        return asked, None
    if not data.startswith(CHEAP_DATA) and n_images > CHEAP_IMAGES:
        return None, f"encoding {n_images:,} images once more takes long (--control {PIXELS} adds one)"
    random_twin = spec.get("random_twin")
    return (random_twin if isinstance(random_twin, str) and spec.get("source") == "bundled" else PIXELS), None
