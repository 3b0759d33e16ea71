"""Features of one encoder in one line: one forward pass, a run for each, and one of them chosen on training folds.

Choosing the feature with the least test error and reporting that error is optimistic. Here the choice is made like that
of the penalty, by errors on held-out folds of the training rows; the held-out subsets and the test rows have no part in
it. R_US and R_CS are judged on test rows. R_AF is a mean over all training rows, and R_AS is corrected by their errors:
of the chosen feature both are estimated again from the held-out subsets alone (`on_unseen_rows`). How well the
intervals cover: docs/encoders.md, "Several layers".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.decomposing import notes_on_floor
from ssl_risk_rs.decomposition.restricted import restricted
from ssl_risk_rs.decomposition.tuning import MAX_TUNING_ROWS
from ssl_risk_rs.encoders import create_encoder, describe_encoder
from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.encoders.sources import check_name
from ssl_risk_rs.encoders.spec import choose_features, may_be_several
from ssl_risk_rs.errors import EncoderError, ParameterError, SslRiskError
from ssl_risk_rs.events import Report, once, torch_is_loading
from ssl_risk_rs.results.many import Entry, Failed, Layers
from ssl_risk_rs.results.run import Decomposition, Run
from ssl_risk_rs.workflow.banks import RunBanks, ensure_for, with_others
from ssl_risk_rs.workflow.evaluate import answer_of
from ssl_risk_rs.workflow.many import Item, RunFolder, run_each
from ssl_risk_rs.workflow.question import Question

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank

__all__ = ["choose_layer", "evaluate_layers", "fold_error", "named_features", "on_unseen_rows"]


def named_features(
    model: str, layers: Sequence[str] | None, pool: str | None, say: Callable[[str], None] = lambda _: None
) -> tuple[str, ...] | None:
    """Features that layers and poolings name, if they are or may be several; None where one is asked for.

    say : called with a sentence before the encoder is looked at

    Raises
    ------
    EncoderError for what the encoder does not offer.
    """
    if len(layers or ()) < 2 and not any(may_be_several(layer, pool) for layer in layers or [""]):
        return None
    name = parse_name(model)
    check_name(model)
    say(f"{model}: looking up its layers{torch_is_loading()}")
    if name.kind in ("hf", "openclip"):  # what they offer is known when they are built
        return tuple(create_encoder(model, layers=list(layers) if layers else None, pool=pool).spec.features)
    if name.code is not None or name.kind == "hub":  # these return what they return
        if pool is not None or list(layers or ()) != ["all"]:
            raise EncoderError(f"{model} decides itself what it returns: --layers all decomposes each of its features")
        return ()
    return choose_features(describe_encoder(model).features, list(layers) if layers else None, pool)


def evaluate_layers(
    model: str,
    data: str,
    features: Sequence[str],
    question: Question,
    *,
    folder: Path,
    force: bool = False,
    command: str = "",
    store: "Path | str | None" = None,
    say: Callable[[str], None] = lambda _: None,
    report: Report | None = None,
    data_named: bool = True,
) -> Layers:
    """Evaluate several features of an encoder from one forward pass, and choose one on folds of the training rows.

    Parameters
    ----------
    features : names as `named_features` gives them; empty for all that the user's own code returns
    folder, force, command : as for `evaluate_checkpoints`
    store, say, report, data_named : as for `evaluate`

    Raises
    ------
    ParameterError under the paper's protocol, which has no such folds; those of `ensure_banks`.
    """
    if question.settings.protocol == "paper":
        raise ParameterError(
            "features are chosen on folds of the training rows, which the paper's protocol does not have: leave out "
            "--protocol paper, or name one feature"
        )
    if len(features) == 1:
        raise ParameterError(_nothing_to_choose(model, features[0]))
    runs = RunFolder(folder, question.key(), force=force)
    encoding = replace(question.encoding, layers=tuple(features) or None, pool=None)
    say_once = once(say)
    ensure = ensure_for(data, question, store=store, say=say_once, report=report)
    banks = ensure(model, encoding)
    if len(banks) < 2:
        raise ParameterError(_nothing_to_choose(model, next(iter(banks))))
    items = [
        Item(name, model, partial(with_others, bank, data, question, ensure, say=say_once), name)
        for name, bank in _by_depth(banks)
    ]

    def run_of(item: Item, made: RunBanks) -> tuple[Run, SslRiskError | None]:
        return answer_of(made, model, data, question, report=report, data_named=data_named)

    entries, failed = run_each(items, runs, run_of, command=command, say=say)
    return choose_layer(entries, failed)


def _nothing_to_choose(model: str, feature: str) -> str:
    return f"{model} has one feature, {feature}: there is nothing to choose; leave out --layers and --pool"


def _by_depth(banks: "Mapping[str, FeatureBank]") -> "list[tuple[str, FeatureBank]]":
    """Inner layers as the encoder orders them, then the last."""
    return sorted(banks.items(), key=lambda item: ":" not in item[0])


def choose_layer(entries: Sequence[Entry], failed: Sequence[Failed] = ()) -> Layers:
    """The features with their errors on folds, and the chosen one judged on rows that the choice did not see."""
    errors: dict[str, dict[str, float]] = {}
    for entry in entries:
        for d in entry.run.decompositions:
            errors.setdefault(d.method.probe, {})[entry.name] = fold_error(d)
    found = Layers(tuple(entries), errors, failed=tuple(failed))
    unseen = {probe: on_unseen_rows(found.chosen(probe).run.of_probe(probe)) for probe in errors}
    return replace(found, unseen=unseen)


def on_unseen_rows(d: Decomposition) -> Decomposition:
    """The decomposition with every risk judged on rows outside the folds: held-out subsets and test rows."""
    judged = d.judgements
    if judged is None:
        raise ParameterError(f"{d.name} holds no judged rows: make it again")
    kept = np.flatnonzero(judged.in_subset)
    note = Note("unseen_rows", {"rows": len(kept), "train": len(judged.subset)})
    found = restricted(d, kept, np.arange(len(judged.test_labels)))
    of_floor = ("separable", "optimistic_af", "optimistic_af_held_out")
    notes = [told for told in d.notes if told.code not in of_floor]
    if d.predicts_classes:
        notes += notes_on_floor(judged, d.floor, found.estimates["risk_af"].estimate)
    return replace(found, notes=(*notes, note))


def fold_error(d: Decomposition) -> float:
    """Error, or mean loss of numbers and labels, of the tuned penalty's probes on the held-out folds that were judged.

    Raises
    ------
    ParameterError where no folds tuned the penalty.
    """
    tuned = d.penalties.get("tuned")
    if d.method.protocol != "strict" or tuned is None or d.judgements is None:
        raise ParameterError(f"{d.name} has no held-out folds of training rows to be chosen on: use --protocol strict")
    if (cost := tuned.cost) is not None:
        return cost
    sizes = np.bincount(d.judgements.fold[d.judgements.fold >= 0], minlength=d.sizes.folds)[: d.sizes.folds_judged]
    if d.method.probe == "ridge":  # judged on every `step`-th row of a large fold
        steps = np.maximum(1, -(-sizes // MAX_TUNING_ROWS))
        sizes = -(-sizes // steps)
    return tuned.errors[tuned.grid.index(tuned.value)] / int(sizes.sum())
