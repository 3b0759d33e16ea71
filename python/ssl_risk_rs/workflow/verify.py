"""A printed table against a pack: every number is computed again from what the pack holds."""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np

from ssl_risk_rs import _core
from ssl_risk_rs.decomposition.again import settings_like
from ssl_risk_rs.decomposition.cells import Cells
from ssl_risk_rs.decomposition.crossed import Crossed
from ssl_risk_rs.decomposition.decomposing import decompose_task, subsets_of
from ssl_risk_rs.decomposition.fitting import Fitter
from ssl_risk_rs.decomposition.intervals import quantify_by
from ssl_risk_rs.decomposition.metrics import measure_metrics
from ssl_risk_rs.decomposition.outcomes import in_row_order
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import PackError
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.report.latex import printed_key
from ssl_risk_rs.report.printed import UNSAID, PrintedCell, PrintedRow, decimals, read_table
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.fewshot import FewShot
from ssl_risk_rs.results.judgements import Judgements, Outcome
from ssl_risk_rs.results.metrics import HEADLINES, METRICS
from ssl_risk_rs.results.quantities import QUANTITIES
from ssl_risk_rs.results.run import Decomposition, Run
from ssl_risk_rs.workflow.packs import Evidence, Pack, PackedRun, hash_of, open_pack

__all__ = ["Checked", "Verdict", "Verification", "verify_table"]


class Verdict(str, Enum):
    """What came of a cell."""

    #: the printed digits are those of the outcomes and, where they were computed, new probes agree within the interval
    HOLDS = "holds"
    #: the outcomes give another number
    OTHER_NUMBER = "other number"
    #: new probes give a number outside the interval of the outcomes
    NOT_REPRODUCED = "not reproduced"
    #: the pack has no such result, or several
    NOT_FOUND = "not found"


@dataclass(frozen=True, slots=True)
class Checked:
    """A printed cell, what the outcomes give for it, and what new probes give, where the pack allows any.

    others : what the outcomes give for each column beside the number that says something else
    """

    cell: PrintedCell
    verdict: Verdict
    computed: Estimate | None = None
    again: float | None = None
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verification:
    """Every cell of a table, and what had to be taken on trust."""

    sha256: str
    cells: tuple[Checked, ...]
    trusted: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every cell does."""
        return all(c.verdict is Verdict.HOLDS for c in self.cells)


@dataclass(frozen=True, slots=True)
class _Result:
    """Estimates of one probe of one run, computed again, with intervals of a level."""

    run: str
    keys: Mapping[str, str]
    confidence: float
    estimates: Mapping[str, Estimate]
    again: Mapping[str, float] = field(default_factory=dict)


def verify_table(
    table: "str | Path",
    pack: "str | Path",
    *,
    sha256: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Compute every number of a table again from a pack.

    Parameters
    ----------
    table : .tex or .csv file; pack : file of `write_pack`; sha256 : the hash that it must have, if one was published
    say : receives what is being computed

    Raises
    ------
    PackError if the pack was changed, or `sha256` is no hash; ParameterError if the table cannot be read whole.
    """
    printed = read_table(table)
    with open_pack(pack) as opened:
        if sha256 is not None and hash_of(sha256) != opened.sha256:
            raise PackError(f"{pack} has the hash {opened.sha256}, another than the one asked for: it is not that pack")
        results: list[_Result] = []
        trusted: dict[str, None] = {}
        for packed in opened.runs:
            run = opened.run(packed)
            for i, d in enumerate(run.decompositions):
                results += list(_computed(opened, packed, run, i, d, say))
            trusted |= dict.fromkeys(_trusted(packed, run))
        if printed.differences:
            sentence = (
                f"{printed.differences} numbers are differences of encoders, which are passed over: what the runs have "
                "is verified, not what was made of them."
            )
            trusted[sentence] = None
        cells = [checked for row in printed.rows for checked in _check_row(row, results)]
        return Verification(opened.sha256, tuple(cells), tuple(trusted))


def _computed(
    pack: Pack, packed: PackedRun, run: Run, i: int, d: Decomposition, say: Callable[[str], None]
) -> Iterator[_Result]:
    keys = {
        "encoder": run.provenance.encoder, "data": run.provenance.data, "probe": d.method.probe,
        "protocol": d.method.protocol, "shots": "", "group": "all", "metric": d.method.metric,
        "target": run.provenance.target or "",
    }  # fmt: skip
    yield from _of_all_labels(packed.name, d, keys, _again(pack, packed, i, d, say))
    for shot in d.shots:
        yield _Result(packed.name, {**keys, "shots": shot.size.name}, d.method.confidence, _few_shot(d, shot))
    if d.control is not None:
        of_control = {**keys, "encoder": run.provenance.control or "control", "group": "control"}
        yield from _of_all_labels(packed.name, d.control, of_control, {})


def _of_all_labels(
    run: str, d: Decomposition, keys: Mapping[str, str], again: Mapping[str, float]
) -> Iterator[_Result]:
    """The estimates in the 0-1 error, and in the other metrics that the record names."""
    yield _Result(run, keys, d.method.confidence, _from_outcomes(d), again)
    if d.metrics and d.judgements is not None:
        metrics = [METRICS[measured.metric] for measured in d.metrics]
        for measured in measure_metrics(d.judgements, metrics, d.method, d.sizes)[0]:
            yield _Result(run, {**keys, "metric": measured.metric}, d.method.confidence, measured.estimates)


def _from_outcomes(d: Decomposition) -> Mapping[str, Estimate]:
    """Estimates from the outcomes of every row: those of the record are not looked at."""
    if d.judgements is None:
        return {}
    return quantify_by(d.judgements, d.method, d.sizes).estimates


def _few_shot(d: Decomposition, shot: FewShot) -> Mapping[str, Estimate]:
    """Estimates at a few-shot size from the outcomes of its draws."""
    if d.judgements is None or shot.outcomes is None:
        return {}
    random_counts = d.method.random_counts
    crossed = Crossed(d.judgements, shot.outcomes, overlap=shot.overlap, random_counts=random_counts)
    return crossed.estimates(_from_outcomes(d), d.method.confidence)[0]


def _again(pack: Pack, packed: PackedRun, i: int, d: Decomposition, say: Callable[[str], None]) -> Mapping[str, float]:
    """Estimates of probes that are fitted again, by quantity; empty where the pack has outcomes only."""
    moments = pack.file(packed, f"moments_{i}.bin")
    if d.judgements is None or not (packed.evidence is Evidence.FEATURES or moments.exists()):
        return {}
    features = _features(pack, packed, d.judgements)
    probes = f"{packed.name}: {d.method.probe} probes are"
    if packed.evidence is Evidence.FEATURES:
        task, settings = _task(features, d.judgements), settings_like(d)
        if not np.array_equal(subsets_of(task, settings), d.judgements.subset):
            say(f"{probes} not fitted again, since another release held other rows out")
            return {}
        say(f"{probes} fitted again from the pack's features")
        new = decompose_task(task, settings=settings)
        # without the twin's features, R_AF is a component of its own
        return {name: e.estimate for name, e in new.estimates.items() if name not in ("risk_sup", "approx")}
    say(f"{probes} fitted again from the pack's moments")
    solved = _solved(_core.Moments.load(str(moments)), features, d, d.judgements)
    # the control variate is that of the outcomes: what the plain risks moved by is added
    plain = _plain_risks(d.judgements)
    moved = {name: value - plain[name] for name, value in solved.items()}
    estimates = _from_outcomes(d)
    there = [name for name in estimates if set(QUANTITIES[name].weights) <= set(moved)]
    return {n: estimates[n].estimate + sum(w * moved[r] for r, w in QUANTITIES[n].weights.items()) for n in there}


def _features(pack: Pack, packed: PackedRun, judged: Judgements) -> Features:
    """Features of the rows that probes are fitted and judged on: with moments, of those that are held out."""
    n = int(judged.in_subset.sum()) if packed.evidence is Evidence.MOMENTS else len(judged.train_labels)
    try:
        with np.load(pack.file(packed, "features.npz"), allow_pickle=False) as arrays:
            train, test = np.ascontiguousarray(arrays["train"]), np.ascontiguousarray(arrays["test"])
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise PackError(f"features of the pack's run {packed.name!r} cannot be read: {error}") from error
    if (len(train), len(test)) != (n, len(judged.test_labels)):
        raise PackError(
            f"features of the pack's run {packed.name!r} are of {len(train)} training and {len(test)} test rows, its "
            f"outcomes of {n} and {len(judged.test_labels)}: pack the run again"
        )
    return Features.of_arrays(train, test)


def _plain_risks(judged: Judgements) -> dict[str, float]:
    """Means over held-out rows; R_CS over its probes as well."""
    over_probes = float(np.mean([outcome.error for outcome in judged.cs]))
    return {"risk_as": judged.held_out.error, "risk_us": judged.us.error, "risk_cs": over_probes}


def _task(features: Features, judged: Judgements) -> Task:
    n, m = len(judged.train_labels), len(judged.test_labels)
    groups: np.ndarray | None = None
    names: tuple[str, ...] = ()
    if judged.train_groups is not None and judged.test_groups is not None:
        found, groups = np.unique(np.concatenate([judged.train_groups, judged.test_groups]), return_inverse=True)
        names = tuple(name.decode() for name in found.tolist())
    return Task(
        features=features,
        labels=np.concatenate([judged.train_labels, judged.test_labels]),
        train_rows=np.arange(n, dtype=np.uint32),
        test_rows=np.arange(n, n + m, dtype=np.uint32),
        sample_ids=[name.decode() for name in (*judged.train_ids.tolist(), *judged.test_ids.tolist())],
        class_names=judged.class_names,
        groups=None if groups is None else groups.ravel().astype(np.int64),
        group_names=names,
    )


def _solved(moments: "_core.Moments", held: Features, d: Decomposition, judged: Judgements) -> dict[str, float]:
    """Risks of ridge probes that are solved again from the training rows' sums, on the rows that are held out."""
    cells, alpha = Cells.of(judged, d.sizes.folds), d.penalties["tuned"].value
    subset = judged.subset[judged.in_subset]
    rows = np.arange(held.n_rows, dtype=np.uint32)
    in_subset, test = rows[: len(subset)], rows[len(subset) :]
    labels = np.concatenate([judged.train_labels[judged.in_subset], judged.test_labels])
    fitter = Fitter(held, labels, len(judged.class_names), d.method, lambda _: None)
    on_subset: list[Outcome] = []
    on_test: list[Outcome] = []
    for j in range(d.sizes.subsets):
        design = fitter.design(moments, cells.complement(j))
        probe = fitter.fit(f"complement_{j}", design, rows, alpha).probe
        on_subset.append(fitter.outcome(probe, in_subset[subset == j]))
        on_test.append(fitter.outcome(probe, test))
    whole = fitter.design(moments, cells.every)
    full = fitter.fit("full", whole, rows, alpha).probe
    return {
        "risk_as": in_row_order(on_subset, judged.subset).error,
        "risk_cs": float(np.mean([outcome.error for outcome in on_test])),
        "risk_us": fitter.outcome(full, test).error,
    }


def _matching(row: PrintedRow, results: list[_Result]) -> list[_Result]:
    """Results that a row may be of: those of its keys, and of the run that it names, unless the pack has none of that
    name (folders may be renamed)."""
    wanted = {**UNSAID, **dict(row.keys)}
    wanted["shots"] = wanted["shots"].removesuffix(".0")  # a table of numbers and blanks that pandas has written
    name = wanted.pop("run", None)
    found = [r for r in results if all(_is(r.keys[key], key, value) for key, value in wanted.items())]
    if quantities := {cell.quantity for cell in row.cells}:
        found = [r for r in found if not quantities.isdisjoint(r.estimates)]
    if "target" not in wanted:  # a table of labels has no such column
        found = [r for r in found if not r.keys["target"]] or found
    if name is None or not any(_is(r.run, "run", name) for r in results):
        return found
    return [r for r in found if _is(r.run, "run", name)]


def _is(value: str, key: str, printed: str) -> bool:
    return printed in (value, printed_key(key, value))


def _check_row(row: PrintedRow, results: list[_Result]) -> list[Checked]:
    """The cells of a row as one result has them: the one that most of them agree with, where several have its keys."""
    found = _matching(row, results)
    if not found or any(r.keys != found[0].keys for r in found):  # which one is meant is not said
        hidden = (Checked(_dash(row, quantity), Verdict.NOT_FOUND) for quantity in row.dashes if not row.cells)
        return [*(Checked(cell, Verdict.NOT_FOUND) for cell in row.cells), *hidden]
    tried = ([*(_check(cell, r) for cell in row.cells), *_hidden(row, r)] for r in found)
    return min(tried, key=lambda checked: sum(c.verdict is not Verdict.HOLDS for c in checked))


def _hidden(row: PrintedRow, result: _Result) -> Iterator[Checked]:
    """Numbers of a result that a row has a dash for."""
    for quantity in row.dashes:
        if quantity in result.estimates:
            yield Checked(_dash(row, quantity), Verdict.OTHER_NUMBER)


def _dash(row: PrintedRow, quantity: str) -> PrintedCell:
    return PrintedCell(row.keys, quantity, "--", (), 100.0)


def _check(cell: PrintedCell, result: _Result) -> Checked:
    if cell.quantity not in result.estimates:
        return Checked(cell, Verdict.NOT_FOUND)
    e, again = result.estimates[cell.quantity], result.again.get(cell.quantity)
    values = (e.estimate, e.low, e.high)[: len(cell.numbers)]
    beside = _beside(e, result)
    others = {name: f"{beside[name]}" for name, text in cell.beside if not _agrees(beside[name], text)}
    if others or not all(_prints_as(v, text, cell.scale) for v, text in zip(values, cell.numbers, strict=True)):
        return Checked(cell, Verdict.OTHER_NUMBER, e, again, others)
    inside = again is None or math.isnan(e.low) or e.low <= again <= e.high
    return Checked(cell, Verdict.HOLDS if inside else Verdict.NOT_REPRODUCED, e, again)


def _beside(e: Estimate, result: _Result) -> dict[str, float | str | None]:
    """What a table may say of an estimate, by column."""
    unit = {**METRICS, **HEADLINES}[result.keys["metric"]].unit
    return {
        "low": e.low, "high": e.high, "se": e.se, "confidence": result.confidence, "n": e.n, "n_groups": e.n_groups,
        "df": e.df, "grade": e.grade.value, "unit": unit, "split": QUANTITIES[e.quantity].rows,
    }  # fmt: skip


def _agrees(value: float | str | None, text: str) -> bool:
    if value is None or isinstance(value, str):
        return value == text
    return _prints_as(value, text, 1.0)


def _prints_as(value: float, text: str, scale: float) -> bool:
    """Whether a value times `scale` rounds to the printed digits; to all digits that a float has, where there are more
    than ten, and where a fraction has none after the point: 0 is no rounding of 0.186."""
    value, printed = scale * value, float(text)
    if not (math.isfinite(value) and math.isfinite(printed)):
        return value == printed or (math.isnan(value) and math.isnan(printed))
    digits, off = decimals(text), abs(value - printed)
    if digits > 10 or (scale == 1.0 and digits < 1):
        return off <= 1e-9 * max(1.0, abs(value))
    return off <= float(f"5e{-digits - 1}") * (1 + 1e-9)


def _trusted(packed: PackedRun, run: Run) -> Iterator[str]:
    """What the evidence of a run leaves to trust, as sentences."""
    if packed.evidence is Evidence.OUTCOMES:
        yield "That the probes predicted what the outcomes say is taken on trust: the pack holds no features."
    if packed.evidence is Evidence.MOMENTS:
        yield "Sums of the training rows are taken as they are; so are R_AF, the chosen penalty, and logistic probes."
    if packed.evidence is not Evidence.OUTCOMES:
        yield "That the encoder gave these features for these images is taken on trust: the pack holds neither."
    if any("risk_sup" in d.estimates for d in run.decompositions):
        yield "Outcomes of the supervised twin are taken on trust: its features are not in the pack."
    yield "Labels, groups and sample ids are taken as they are."
