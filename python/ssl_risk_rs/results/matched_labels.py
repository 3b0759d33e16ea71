"""Encoders at equal numbers of training rows: gaps, curves, and which part of a gap goes with the rows."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ssl_risk_rs.results.estimate import Estimate, Grade

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Gap", "LabelLevel", "LabelPart", "MatchedLabels"]


@dataclass(frozen=True, slots=True)
class Gap:
    """A signed sum of one quantity over decompositions, with its interval; fractions."""

    quantity: str
    value: float
    se: float
    low: float
    high: float
    p: float
    grade: Grade


@dataclass(frozen=True, slots=True)
class LabelPart:
    """A gap to the baseline with all rows of each encoder, at equal class counts, and `part`, their difference: what
    goes with the number of training rows."""

    encoder: str
    full: Gap
    matched: Gap
    part: Gap


@dataclass(frozen=True, slots=True)
class LabelLevel:
    """Every encoder with `n` training rows: estimates by encoder, in their order, and gaps to the baseline."""

    n: int
    estimates: tuple[tuple[Estimate, ...], ...]
    gaps: tuple[tuple[Gap, ...], ...]


@dataclass(frozen=True, eq=False)
class MatchedLabels:
    """Encoders compared at equal class counts.

    Attributes
    ----------
    encoders : the baseline first; probe, confidence : of all; n_test : test rows, common to all
    n_train : training rows of each with all it has; common : of the rows at the last level, those that all share by id
    levels : ascending numbers of training rows; the last has as many rows of each class as the poorest encoder has
    whole : estimates of each encoder with all its rows
    parts : of every component and of the total, at the last level
    """

    encoders: tuple[str, ...]
    probe: str
    confidence: float
    n_test: int
    n_train: tuple[int, ...]
    common: int
    whole: tuple[tuple[Estimate, ...], ...]
    levels: tuple[LabelLevel, ...]
    parts: tuple[LabelPart, ...]

    def frame(self) -> "pl.DataFrame":
        """A row for each estimate: `n_train`, `matched`, `encoder`, `quantity`, `estimate`, `low`, `high`, then the gap
        to the baseline: `gap`, `gap_low`, `gap_high`, `p` (null for the baseline and for all rows)."""
        import polars as pl

        rows: list[dict[str, object]] = []
        for i, (encoder, n) in enumerate(zip(self.encoders, self.n_train, strict=True)):
            rows += [_row(n, False, encoder, e, None) for e in self.whole[i]]
        for level in self.levels:
            for i, encoder in enumerate(self.encoders):
                gaps = level.gaps[i - 1] if i else (None,) * len(level.estimates[i])
                rows += [_row(level.n, True, encoder, e, g) for e, g in zip(level.estimates[i], gaps, strict=True)]
        return pl.DataFrame(rows, infer_schema_length=None)

    def part_frame(self) -> "pl.DataFrame":
        """A row for each part: `encoder`, `quantity`, `full`, `matched`, then the fields of the part."""
        import polars as pl

        return pl.DataFrame(
            [
                {
                    "baseline": self.encoders[0],
                    "encoder": each.encoder,
                    "full": each.full.value,
                    "matched": each.matched.value,
                    "matched_low": each.matched.low,
                    "matched_high": each.matched.high,
                    **asdict(each.part),
                    "grade": each.part.grade.value,
                }
                for each in self.parts
            ]
        ).rename({"value": "part"})


def _row(n: int, matched: bool, encoder: str, e: Estimate, gap: Gap | None) -> dict[str, object]:
    return {
        "n_train": n, "matched": matched, "encoder": encoder, "quantity": e.quantity, "estimate": e.estimate,
        "low": e.low, "high": e.high, "gap": None if gap is None else gap.value,
        "gap_low": None if gap is None else gap.low, "gap_high": None if gap is None else gap.high,
        "p": None if gap is None else gap.p,
    }  # fmt: skip
