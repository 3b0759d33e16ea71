"""Several runs of one question: encoders along training (checkpoints), or features of one encoder (layers)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ssl_risk_rs._display import display
from ssl_risk_rs._inference import holm
from ssl_risk_rs.results.compare import Comparison
from ssl_risk_rs.results.run import Decomposition, Run

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Curve", "Entry", "EpochFrom", "Failed", "Layers", "corrected_steps", "epoch_text"]

#: where an epoch was read: in the checkpoint itself, or in its name; or who trains has given it
EpochFrom = Literal["file", "name", "given"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One of several runs.

    name : short, different from the others'; model : as `-m` takes it; feature : of a layer's run
    epoch, epoch_from : of a checkpoint's run; None where neither file nor name tell
    """

    name: str
    model: str
    run: Run
    feature: str | None = None
    epoch: float | None = None
    epoch_from: EpochFrom | None = None


def epoch_text(epoch: float) -> str:
    """An epoch, or a step of millions, with all its digits."""
    return f"{int(epoch)}" if float(epoch).is_integer() else repr(float(epoch))


@dataclass(frozen=True, slots=True)
class Failed:
    """One that could not be run, or not with every probe, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Curve:
    """Runs in the order of training, and what changed from each to the next, paired by row.

    steps : for each probe, comparisons of consecutive runs; empty where rows could not be paired
    """

    entries: tuple[Entry, ...]
    failed: tuple[Failed, ...] = ()
    steps: tuple[Comparison, ...] = ()

    def frame(self) -> "pl.DataFrame":
        """`name`, `epoch`, `epoch_from`, then the columns of `Run.frame`: a row for each quantity of each run."""
        import polars as pl

        return pl.concat(
            e.run.frame().select(
                pl.lit(e.name).alias("name"),
                pl.lit(e.epoch, pl.Float64).alias("epoch"),
                pl.lit(e.epoch_from, pl.String).alias("epoch_from"),
                pl.all(),
            )
            for e in self.entries
        )

    def step_frame(self) -> "pl.DataFrame":
        """The columns of `Comparison.frame` for each step; `p_holm` is over all steps of a probe."""
        import polars as pl

        return pl.concat(step.frame() for step in self.steps) if self.steps else pl.DataFrame()

    def __str__(self) -> str:
        return display().text(self)


@dataclass(frozen=True, eq=False)
class Layers:
    """Features of one encoder, from one forward pass, and the one that errs least on folds of the training rows.

    Attributes
    ----------
    fold_errors : probe → name of an entry → error on held-out folds at its tuned penalty, by which one is chosen
    unseen : probe → decomposition of the chosen one, judged on test rows and held-out subsets alone, which have no part
        in the choice
    """

    entries: tuple[Entry, ...]
    fold_errors: Mapping[str, Mapping[str, float]]
    unseen: Mapping[str, Decomposition] = field(default_factory=dict)
    failed: tuple[Failed, ...] = ()

    def chosen(self, probe: str) -> Entry:
        """The entry with the least error on folds; among equals the one with fewer features, then the first."""
        errors = self.fold_errors[probe]
        among = [e for e in self.entries if e.name in errors]
        return min(among, key=lambda e: (errors[e.name], e.run.of_probe(probe).sizes.features))

    def rank(self, name: str, probe: str) -> int:
        """Place of a feature by error on folds; equal ones share the smallest."""
        errors = self.fold_errors[probe]
        return 1 + sum(error < errors[name] for error in errors.values())

    def frame(self) -> "pl.DataFrame":
        """`feature`, `n_features`, `fold_error`, `rank`, `chosen`, `rows`, then the columns of `Run.frame`.

        `rows` is "all", and of the chosen feature also "unseen": judged on rows that have no part in the choice.
        """
        import polars as pl

        parts = []
        for probe, errors in self.fold_errors.items():
            best = self.chosen(probe).name
            for entry in (e for e in self.entries if e.name in errors):
                n_features = entry.run.of_probe(probe).sizes.features
                rows = {"all": entry.run.frame().filter(pl.col("probe") == probe)}
                if entry.name == best and probe in self.unseen:
                    rows["unseen"] = replace(entry.run, decompositions=(self.unseen[probe].with_control(None),)).frame()
                parts += [
                    own.select(
                        pl.lit(entry.name).alias("feature"),
                        pl.lit(n_features, pl.Int64).alias("n_features"),
                        pl.lit(errors[entry.name], pl.Float64).alias("fold_error"),
                        pl.lit(self.rank(entry.name, probe), pl.Int64).alias("rank"),
                        pl.lit(entry.name == best).alias("chosen"),
                        pl.lit(which).alias("rows"),
                        pl.all(),
                    )
                    for which, own in rows.items()
                ]
        return pl.concat(parts)


def corrected_steps(steps: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The steps of one probe with Holm's p-values over all of them at once."""
    members = [(i, j) for i, s in enumerate(steps) for j, d in enumerate(s.differences) if d.p_holm is not None]
    adjusted = dict(zip(members, holm([steps[i].differences[j].p for i, j in members]), strict=True))
    return tuple(
        replace(
            step, differences=tuple(replace(d, p_holm=adjusted.get((i, j))) for j, d in enumerate(step.differences))
        )
        for i, step in enumerate(steps)
    )
