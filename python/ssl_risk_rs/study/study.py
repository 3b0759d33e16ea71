"""The whole study of one table: effects, law of label counts, trade-offs, fronts, advice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import polars as pl

from ssl_risk_rs._limits import check_confidence
from ssl_risk_rs.errors import DataError, ParameterError
from ssl_risk_rs.study.advice import Advice, advise
from ssl_risk_rs.study.choices import Choice
from ssl_risk_rs.study.controlled import METHOD as CONTROLLED
from ssl_risk_rs.study.controlled import controlled_effects, yardsticks
from ssl_risk_rs.study.effects import Effect, Status, adjusted
from ssl_risk_rs.study.held_out import HeldOut, held_out_logit, held_out_paper, held_out_sets, summary
from ssl_risk_rs.study.labels import IMAGENET_LABELS, IMAGENET_SHOTS, label_points
from ssl_risk_rs.study.law import LogitLaw, fit_logit_law
from ssl_risk_rs.study.law_paper import PaperLaw, fit_paper_law
from ssl_risk_rs.study.linear import METHODS, linear_effects
from ssl_risk_rs.study.table import COMPONENTS, StudyTable
from ssl_risk_rs.study.tradeoffs import IMAGENET_ROWS, Front, Tradeoff, front, tradeoffs
from ssl_risk_rs.study.trees import Contributions, TreeReport, contributions, tree_report

__all__ = ["Difference", "Laws", "Method", "Settings", "Study", "differences", "published_effects", "run_study"]

Method = Literal["controlled", "linear", "trees"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a table is studied.

    Attributes
    ----------
    methods : which estimates are made; trees take minutes
    confidence : of all intervals
    confounders : of the linear model; None takes the paper's that the table has, and in a table of one's own its other
        choices
    judged_rows : rows that each risk is judged on; None gives no chances
    n_full, shots : labels behind `agg_risk`, and behind each few-shot column; no law is fitted without shots
    """

    methods: tuple[Method, ...] = ("controlled", "linear")
    confidence: float = 0.95
    confounders: tuple[Choice, ...] | None = None
    judged_rows: int | None = None
    n_full: int = IMAGENET_LABELS
    shots: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        if unknown := [m for m in self.methods if m not in get_args(Method)]:
            raise ParameterError(f"{unknown[0]!r} is no method of a study; take {', '.join(get_args(Method))}")

    @staticmethod
    def for_table(table: StudyTable, **given: object) -> "Settings":
        """Settings with the numbers of labels and judged rows of the published table where all rows are from it."""
        if table.is_published:
            given = {"judged_rows": IMAGENET_ROWS, "shots": tuple(IMAGENET_SHOTS.items())} | given
        return Settings(**given)  # type: ignore[arg-type]  # the caller names fields


@dataclass(frozen=True, slots=True)
class Laws:
    """The laws of label counts that a table supports.

    Attributes
    ----------
    paper, paper_one : with α and B, and with B = 0; fitted as the authors do
    paper_fit : their errors on the points they were fitted on
    logit : without a measured point, then given each of the measured numbers of labels
    held_out : errors on left-out encoders and objectives
    """

    paper: PaperLaw
    paper_one: PaperLaw
    paper_fit: HeldOut
    paper_one_fit: HeldOut
    logit: tuple[LogitLaw, ...]
    held_out: tuple[HeldOut, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that a study of a table found."""

    table: StudyTable
    settings: Settings
    effects: tuple[Effect, ...]
    laws: Laws | None
    no_laws: str
    tradeoffs: tuple[Tradeoff, ...]
    fronts: tuple[Front, ...]
    advice: tuple[Advice, ...]
    trees: tuple[TreeReport, ...]
    contributions: tuple[Contributions, ...]


def run_study(table: StudyTable, settings: Settings, progress: Callable[[str], object] | None = None) -> Study:
    """Study a table.

    Parameters
    ----------
    progress : called with a sentence before each part that takes time
    """
    say = progress or (lambda sentence: None)
    found: list[Effect] = []
    if "controlled" in settings.methods:
        found += controlled_effects(table, confidence=settings.confidence)
    found += yardsticks(table, confidence=settings.confidence)
    if "linear" in settings.methods:
        found += linear_effects(table, confounders=settings.confounders, confidence=settings.confidence)
    reports: list[TreeReport] = []
    parts: list[Contributions] = []
    if "trees" in settings.methods:
        for component in _tree_targets(table):
            say(f"Trees are fitted for {component}.")
            reports.append(tree_report(table, component))
            if table.cluster and table.frame[table.cluster].n_unique() >= 3:
                reports.append(tree_report(table, component, by_group=True))
            parts.append(contributions(table, component, reports[-1].chosen, confidence=settings.confidence))
            found += parts[-1].effects
    effects = adjusted(found)
    laws, why = _laws(table, settings, say)
    few = [c for c in table.components if c not in COMPONENTS]
    pairs = [
        p for p in (("usability", "probe_gen"), *(("agg_risk", c) for c in few)) if set(p) <= set(table.components)
    ]
    goals = [c for c in ("agg_risk", *few) if c in table.components]
    return Study(
        table=table,
        settings=settings,
        effects=tuple(effects),
        laws=laws,
        no_laws=why,
        tradeoffs=tuple(tradeoffs(table.frame, pairs, cluster=table.cluster, confidence=settings.confidence)),
        fronts=tuple(front(table.frame, a, b, judged_rows=settings.judged_rows) for a, b in pairs),
        advice=tuple(advise(table, effects, goals, judged_rows=settings.judged_rows)),
        trees=tuple(reports),
        contributions=tuple(parts),
    )


def _tree_targets(table: StudyTable) -> list[str]:
    """Components, the sum, and the risk at the fewest shots, where twenty encoders have them."""
    few = [c for c in table.components if c not in COMPONENTS and not c.endswith("%")][:1]
    wanted = [c for c in table.components if c in COMPONENTS] + few
    return [c for c in wanted if table.frame[c].drop_nulls().len() >= 20]


def _laws(table: StudyTable, settings: Settings, say: Callable[[str], object]) -> tuple[Laws | None, str]:
    shots = {column: n for column, n in settings.shots if column in table.frame.columns}
    if not shots:
        return None, "the table has no few-shot risks whose numbers of labels are known (--shots names them)"
    say("The laws of label counts are fitted.")
    try:
        complete = {"approx", "usability"} <= set(table.frame.columns)
        authors = label_points(table.frame, shots=shots, n_full=settings.n_full, full=True, complete=complete)
        points = label_points(table.frame, shots=shots, n_full=settings.n_full)
        two, one = fit_paper_law(authors), fit_paper_law(authors, b=0.0)
        measured = [None, *sorted(map(float, shots.values()), reverse=True)] if len(shots) > 2 else [None]
        logit = tuple(fit_logit_law(points, measured=m) for m in measured)
        full = label_points(table.frame, shots=shots, n_full=settings.n_full, full=True)
        tests = [held_out_paper(full, "encoder"), held_out_paper(full, "objective")]
        tests += [held_out_logit(points, "encoder", intervals=False), held_out_logit(points, "objective")]
        tests += [held_out_logit(points, "objective", measured=m) for m in measured if m is not None]
        tests += held_out_sets(table.frame, authors)
    except DataError as error:
        return None, str(error)
    fits = [summary("paper", "nothing", authors, law.predict(authors), 0) for law in (two, one)]
    return Laws(two, one, fits[0], fits[1], logit, tuple(tests)), ""


# --- as published


@dataclass(frozen=True, slots=True)
class Difference:
    """One effect the authors' way and ours.

    Attributes
    ----------
    effect, p, n : ours; `published_*` the authors' way
    reasons : what makes the difference, in words
    """

    choice: str
    level: str
    reference: str
    component: str
    method: str
    published_effect: float
    published_p: float
    published_n: int
    effect: float
    p: float
    n: int
    reasons: tuple[str, ...]


def published_effects(table: StudyTable, *, confidence: float = 0.95) -> list[Effect]:
    """Effects by the authors' methods with their flaws: for a table that was read `as_published`.

    Controlled pairs with rows that stand several times; a linear model with the classical variance and a
    pseudo-inverse, and ViT against ResNet without ConvNeXt.
    """
    two = [replace(c, levels=("resnet", "vit")) if c.name == "family" else c for c in table.choices]
    asked = replace(table, choices=tuple(two))
    found = controlled_effects(table, confidence=confidence, duplicated=True)
    found += linear_effects(asked, covariances=("classical",), confidence=confidence, pseudo_inverse=True)
    return adjusted(found)


def differences(published: Sequence[Effect], ours: Sequence[Effect]) -> list[Difference]:
    """Each published effect beside ours, with what makes the difference, by the size of the change in p."""
    mine = {(e.choice, e.level, e.reference, e.component, e.method): e for e in ours}
    found = []
    for e in published:
        method = METHODS["cluster"] if e.method == METHODS["classical"] else e.method
        other = mine.get((e.choice, e.level, e.reference, e.component, method))
        if other is None or e.effect != e.effect:
            continue
        reasons = []
        if e.status is Status.ALIASED:
            reasons.append(f"the effect is not identified: {e.reason.partition(';')[0]}")
        elif other.status is not Status.ESTIMATED:
            reasons.append(other.reason)
        if method == CONTROLLED and e.n > other.n:
            reasons.append(f"the authors' rows stand {e.n / other.n:.1f} times on average")
        if method != CONTROLLED and other.status is Status.ESTIMATED:
            reasons.append(f"the variance is that of {other.groups} groups, not of {e.n} independent rows")
        more = [name for name in other.held if name not in e.held]
        if more and other.status is Status.ESTIMATED:
            reasons.append(f"{', '.join(more)} {'is' if len(more) == 1 else 'are'} held fixed as well")
        if abs(e.effect - other.effect) > 1e-12:
            reasons.append("cells of the table are corrected")
        found.append(
            Difference(
                e.choice, e.level, e.reference, e.component, method, e.effect, e.p, e.n, other.effect, other.p, other.n,
                tuple(reasons),
            )
        )  # fmt: skip
    return found


def difference_frame(found: Sequence[Difference]) -> pl.DataFrame:
    """Differences as a table; what is not there is null."""
    rows = [
        {
            "choice": d.choice, "level": d.level, "reference": d.reference, "component": d.component,
            "method": d.method, "published_effect": d.published_effect, "published_p": d.published_p,
            "published_n": d.published_n, "effect": d.effect, "p": d.p, "n": d.n, "reason": "; ".join(d.reasons),
        }
        for d in found
    ]  # fmt: skip
    return pl.DataFrame(rows).fill_nan(None) if rows else pl.DataFrame()
