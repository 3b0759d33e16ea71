"""The law of label counts: the error of a probe that is trained on n labels, from the components at all N labels.

Fitted by least squares on the logit scale, with L = log(N / n):

    logit err(n) = logit R_US + L · (x'w + L · x'v),    x = (1, R_AF, probe_gen, enc_gen, log dimension)

where no error at few labels is known, and where the error at one number of labels m has been measured, M = log(N / m),

    logit err(n) = logit R_US + (L / M) · r + L · (L - M) · (x'w + L · x'v),    x = (1, logit R_US, r)

with r = logit err(m) - logit R_US: the line through the two known errors, and how it bends. Risks enter as they are:
their logarithms fit worse and break down where a risk is 0. A law describes encoders, data and labels like those it was
fitted on; elsewhere it extrapolates, and a prediction says so.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ssl_risk_rs._files import publish
from ssl_risk_rs._limits import MOST_ROWS, check_confidence, check_whole
from ssl_risk_rs.errors import DataError, ParameterError
from ssl_risk_rs.study.labels import LabelPoints

__all__ = [
    "LogitLaw",
    "Prediction",
    "fit_logit_law",
    "imagenet_laws",
    "measured_at",
    "predict_errors",
    "read_laws",
    "write_laws",
]

_EDGE = 1e-4  # a risk of 0 or 1 has no logit; one wrong of 50,000 test images is 2e-5
#: confidences at which quantiles of the residuals are kept
_GRID = tuple(round(0.01 * i, 2) for i in range(1, 100))
_RANGED = ("n_labels", "risk_af", "probe_gen", "enc_gen", "agg_risk", "z_dim")


@dataclass(frozen=True, slots=True)
class Prediction:
    """An error at a number of labels that was not measured.

    Attributes
    ----------
    low, high : interval of `confidence` for an encoder of an objective that the law was not fitted on
    outside : inputs that lie outside what it was fitted on
    """

    n_labels: float
    estimate: float
    low: float
    high: float
    confidence: float
    outside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogitLaw:
    """A fitted law.

    Attributes
    ----------
    slope, curvature : w and v
    measured : n of the measured point that x holds; None where it holds none
    n_full : N of the fit
    knots, scales : root mean square of the logit residuals of left-out objectives, at each L of the fit
    quantiles : of these residuals over their scale, by size, at confidences 0.01 … 0.99; infinite where there are too
        few objectives for one
    ranges : lowest and highest of each input in the fit
    n, encoders, objectives : points, encoders and objectives of the fit
    """

    slope: tuple[float, ...]
    curvature: tuple[float, ...]
    measured: float | None
    n_full: int
    knots: tuple[float, ...]
    scales: tuple[float, ...]
    quantiles: tuple[float, ...]
    ranges: Mapping[str, tuple[float, float]]
    n: int
    encoders: int
    objectives: int

    def predict(
        self, points: LabelPoints, measured: Float64[np.ndarray, " n"] | None = None
    ) -> Float64[np.ndarray, " n"]:
        """Errors at the points' numbers of labels; `measured` has each encoder's error at the measured one."""
        return _expit(self._logits(points, measured))

    def intervals(
        self, points: LabelPoints, measured: Float64[np.ndarray, " n"] | None = None, confidence: float = 0.9
    ) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """Lower and upper ends for encoders of objectives that the law has not seen.

        The logit ± scale(L) times a quantile of the scaled residuals of left-out objectives. Each objective weighs the
        same, and one more counts as infinitely far off, as in conformal prediction.
        """
        centre = self._logits(points, measured)
        scale = self._scale(_distance(points))
        with np.errstate(invalid="ignore"):  # an error that is known is so however wide intervals are elsewhere
            reach = np.where(scale > 0, scale * self.quantile(confidence), 0.0)
        return _expit(centre - reach), _expit(centre + reach)

    def predictions(
        self, points: LabelPoints, measured: Float64[np.ndarray, " n"] | None = None, confidence: float = 0.9
    ) -> list[Prediction]:
        """Predictions with intervals, and with what lies outside of the fit."""
        estimates = self.predict(points, measured)
        low, high = self.intervals(points, measured, confidence)
        used = _RANGED if measured is None else ("n_labels", "agg_risk")
        found = []
        for i in range(len(points)):
            outside = tuple(
                name for name in used
                if not self.ranges[name][0] <= float(getattr(points, name)[i]) <= self.ranges[name][1]
            )  # fmt: skip
            found.append(
                Prediction(
                    float(points.n_labels[i]), float(estimates[i]), float(low[i]), float(high[i]), confidence, outside
                )
            )
        return found

    def quantile(self, confidence: float) -> float:
        """The scaled residual that this share of new objectives' points stays below; the grid is rounded up."""
        check_confidence(confidence)
        place = math.ceil(round(100 * confidence, 9)) - 1
        return self.quantiles[place] if place < len(self.quantiles) else math.inf

    def _logits(self, points: LabelPoints, measured: Float64[np.ndarray, " n"] | None) -> Float64[np.ndarray, " n"]:
        if (measured is None) != (self.measured is None):
            wants = "needs" if self.measured is not None else "has no place for"
            raise ParameterError(f"this law {wants} an error that was measured at few labels")
        base, design = _terms(points, measured, self.measured_distance)
        return np.asarray(base + design @ np.array(self.slope + self.curvature))

    @property
    def measured_distance(self) -> float | None:
        """The L of the measured point, M."""
        return None if self.measured is None else math.log(self.n_full / self.measured)

    def _scale(self, along: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """The scale between knots: 0 where the error is known, beyond the last knot growing as from 0 to it. Between a
        measured point M and all labels, where no knot lies between, it is as the law's own terms are, L (M − L), from
        the first knot beyond M on."""
        known = [(0.0, 0.0)]
        if (measured := self.measured_distance) is not None:
            known.append((measured, 0.0))
        corners = sorted([*known, *zip(self.knots, self.scales, strict=True)])
        xs, ys = np.array([x for x, _ in corners]), np.array([y for _, y in corners])
        last, top = xs[-1], max(ys[-1], float(np.max(ys)) if self.measured is not None else 0.0)
        scale = np.where(along > last, top * along / last, np.interp(along, xs, ys))
        if measured is not None and min(self.knots) > measured:
            x, y = min(zip(self.knots, self.scales, strict=True))
            between = (along > 0) & (along < measured)
            scale = np.where(between, y * along * (measured - along) / (x * (x - measured)), scale)
        return np.asarray(scale)


def _inputs(points: LabelPoints, measured: Float64[np.ndarray, " n"] | None) -> Float64[np.ndarray, "n k"]:
    one, start = np.ones(len(points)), _logit(points.agg_risk)
    if measured is not None:
        return np.column_stack([one, start, _logit(measured) - start])
    return np.column_stack([one, points.risk_af, points.probe_gen, points.enc_gen, np.log(points.z_dim)])


def _distance(points: LabelPoints) -> Float64[np.ndarray, " n"]:
    return np.asarray(np.log(points.n_full / points.n_labels))


def _logit(p: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    inside = np.clip(p, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(inside / (1 - inside)))


def _expit(z: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))


def _terms(
    points: LabelPoints, measured: Float64[np.ndarray, " n"] | None, at: float | None
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, "n k"]]:
    """What the known errors say, and the columns that w and v multiply; these are 0 where an error is known."""
    x, along = _inputs(points, measured), _distance(points)
    base, factor = _logit(points.agg_risk), along
    if measured is not None and at is not None:
        base = base + along / at * (_logit(measured) - base)
        factor = along * (along - at)
    return base, np.column_stack([x * factor[:, None], x * (factor * along)[:, None]])


def _least_squares(
    points: LabelPoints, measured: Float64[np.ndarray, " n"] | None, at: float | None
) -> Float64[np.ndarray, " k"]:
    base, design = _terms(points, measured, at)
    scale = np.maximum(np.sqrt(np.mean(design**2, axis=0)), 1e-300)
    target = _logit(points.error) - base
    solution, _, rank, _ = np.linalg.lstsq(design / scale, target, rcond=1e-10)
    if rank < design.shape[1]:
        raise DataError(
            f"{len(points)} points at {len(np.unique(points.n_labels))} numbers of labels do not determine the "
            f"{design.shape[1]} coefficients of the law; it needs two numbers of labels and a dozen encoders or more"
        )
    return np.asarray(solution / scale)


def measured_at(points: LabelPoints, n_labels: float | None) -> tuple[LabelPoints, Float64[np.ndarray, " n"] | None]:
    """The other points of the encoders that were measured at `n_labels`, and what was measured there."""
    if n_labels is None:
        return points, None
    known = points.at(n_labels)
    if not known:
        there = ", ".join(f"{n:,.0f}" for n in np.unique(points.n_labels))
        raise ParameterError(f"no encoder was measured at {n_labels:,.0f} labels; there are {there}")
    keep = np.array([e in known and n != n_labels for e, n in zip(points.encoder, points.n_labels, strict=True)])
    others = points.take(keep)
    return others, np.array([known[e] for e in others.encoder])


def fit_logit_law(points: LabelPoints, *, measured: float | None = None, intervals: bool = True) -> LogitLaw:
    """Fit the law, and leave out each objective in turn for the residuals of its intervals.

    Parameters
    ----------
    points : few-shot points; the one at all labels, which the law meets by construction, is left out
    measured : number of labels of the point that will be measured; None where none is
    intervals : False leaves out the residuals, and intervals are infinitely wide

    Raises
    ------
    DataError if there are fewer than three objectives, or the points do not determine the coefficients.
    """
    used, known = measured_at(points.take(points.n_labels < points.n_full), measured)
    at = None if measured is None else math.log(points.n_full / measured)
    solution = _least_squares(used, known, at)
    k = len(solution) // 2
    along = _distance(used)
    knots = np.unique(along)
    scales, quantiles = np.ones(len(knots)), (math.inf,) * len(_GRID)
    if intervals:
        residual = _logit(used.error) - _left_out(used, known, at)
        scales = np.array([math.sqrt(float(np.mean(residual[along == knot] ** 2))) for knot in knots])
        scaled = np.abs(residual) / np.interp(along, knots, np.maximum(scales, 1e-12))
        quantiles = _quantiles(scaled, used.objective)
    return LogitLaw(
        slope=tuple(map(float, solution[:k])),
        curvature=tuple(map(float, solution[k:])),
        measured=measured,
        n_full=points.n_full,
        knots=tuple(map(float, knots)),
        scales=tuple(map(float, scales)),
        quantiles=quantiles,
        ranges={n: (float(getattr(used, n).min()), float(getattr(used, n).max())) for n in _RANGED},
        n=len(used),
        encoders=len(set(used.encoder)),
        objectives=len(set(used.objective)),
    )


def _quantiles(scaled: Float64[np.ndarray, " n"], objectives: Sequence[str]) -> tuple[float, ...]:
    """Quantiles with equal weight for each objective, and one more objective at infinity."""
    names, place, counts = np.unique(np.array(objectives), return_inverse=True, return_counts=True)
    order = np.argsort(scaled)
    share = np.cumsum(1.0 / counts[place][order]) / (len(names) + 1)
    found = np.searchsorted(share, np.array(_GRID) - 1e-12)
    return tuple(float(scaled[order[i]]) if i < len(order) else math.inf for i in found)


def _left_out(
    points: LabelPoints, measured: Float64[np.ndarray, " n"] | None, at: float | None
) -> Float64[np.ndarray, " n"]:
    """Logits of the points by the law fitted without their objective."""
    names = np.array(points.objective)
    if (count := len(np.unique(names))) < 3:
        raise DataError(f"{count} objectives are too few to leave one out; the law needs three or more")
    logits = np.empty(len(points))
    for name in np.unique(names):
        out = names == name
        solution = _least_squares(points.take(~out), None if measured is None else measured[~out], at)
        base, design = _terms(points.take(out), None if measured is None else measured[out], at)
        logits[out] = base + design @ solution
    return logits


def predict_errors(
    n_labels: Sequence[float],
    *,
    n_full: int,
    agg_risk: float,
    risk_af: float,
    probe_gen: float,
    enc_gen: float,
    z_dim: int,
    measured: tuple[float, float] | None = None,
    confidence: float = 0.9,
    laws: Sequence[LogitLaw] = (),
) -> list[Prediction]:
    """Errors of one encoder at numbers of labels that were not measured.

    Parameters
    ----------
    n_labels : where the error is wanted
    n_full : labels behind `agg_risk`
    agg_risk, risk_af, probe_gen, enc_gen : at all labels, fractions
    z_dim : dimension of the representation
    measured : a number of labels and the error that was measured there; the law must be made for that share of labels
    confidence : of the intervals
    laws : by default those of the published encoders

    Raises
    ------
    ParameterError if no law is made for the measured point, for a number of labels that is not positive or above
    `n_full`, risks that are no fractions, a dimension below 1.
    """
    if not all(0 < n < math.inf for n in n_labels):
        raise ParameterError(f"a number of labels is positive and finite; there are {list(n_labels)}")
    if beyond := [n for n in n_labels if n > n_full]:
        raise ParameterError(
            f"the laws are of fewer labels than the {n_full:,} behind agg_risk: they do not say what {beyond[0]:,.0f} "
            "would bring"
        )
    if measured is not None and not 0 < measured[0] < math.inf:
        raise ParameterError(f"a number of labels is positive and finite; measured has {measured[0]:g}")
    known = () if measured is None else (("the measured error", measured[1]),)
    for name, value in (("agg_risk", agg_risk), ("risk_af", risk_af), *known):
        if not 0 <= value <= 1:
            raise ParameterError(f"{name} is {value:g}; risks are fractions, from 0 to 1")
    for name, value in (("probe_gen", probe_gen), ("enc_gen", enc_gen)):
        if not -1 <= value <= 1:
            raise ParameterError(f"{name} is {value:g}; components are fractions, from -1 to 1")
    check_whole("z_dim", z_dim, 1, MOST_ROWS)
    every = tuple(laws) or imagenet_laws()
    law = _law_for(every, n_full, measured)
    count = len(n_labels)
    points = LabelPoints(
        encoder=("",) * count,
        objective=("",) * count,
        n_labels=np.array(n_labels, dtype=np.float64),
        error=np.full(count, np.nan),
        risk_af=np.full(count, float(risk_af)),
        probe_gen=np.full(count, float(probe_gen)),
        enc_gen=np.full(count, float(enc_gen)),
        agg_risk=np.full(count, float(agg_risk)),
        z_dim=np.full(count, float(z_dim)),
        n_full=n_full,
    )
    return law.predictions(points, None if measured is None else np.full(count, float(measured[1])), confidence)


def _law_for(laws: Sequence[LogitLaw], n_full: int, measured: tuple[float, float] | None) -> LogitLaw:
    """The law without a measured point, or for the share of labels that was measured (to 5 %)."""
    for law in laws:
        if measured is None and law.measured is None:
            return law
        if measured is not None and law.measured is not None:
            share = (measured[0] / n_full) / (law.measured / law.n_full)
            if abs(math.log(share)) < 0.05:
                return law
    if measured is None:
        raise ParameterError("none of the laws is without a measured point")
    there = ", ".join(f"{law.measured / law.n_full * n_full:,.0f}" for law in laws if law.measured is not None)
    raise ParameterError(
        f"no law is made for an error that was measured at {measured[0]:,.0f} of {n_full:,} labels; measure at one of "
        f"{there}, or fit a law on your own table (study --shots)"
    )


# --- files


def write_laws(path: str | Path, laws: Sequence[LogitLaw], source: str) -> None:
    """Write laws as JSON; infinite quantiles are null."""
    cells = []
    for law in laws:
        cell = asdict(law)
        cell["quantiles"] = [None if math.isinf(q) else q for q in law.quantiles]
        cells.append(cell)
    text = json.dumps({"format": 1, "source": source, "laws": cells}, indent=1) + "\n"
    publish(Path(path), lambda target: target.write_text(text, encoding="utf-8"))


def read_laws(path: str | Path) -> tuple[LogitLaw, ...]:
    """Read what `write_laws` wrote.

    Raises
    ------
    DataError if the file is no such file.
    """
    try:
        loaded = json.loads(Path(path).read_text(encoding="utf-8"))
        if loaded["format"] != 1:
            raise DataError(f"{path} has format {loaded['format']} of laws; this version reads format 1")
        return tuple(_law(cell) for cell in loaded["laws"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} holds no laws of label counts ({error!r}); write one with study --save-law") from error


def _law(cell: Mapping[str, object]) -> LogitLaw:
    values = dict(cell)
    for name in ("slope", "curvature", "knots", "scales"):
        values[name] = tuple(map(float, values[name]))  # type: ignore[call-overload]  # checked by float
    # what is no number or no table raises, and the caller says so
    values["quantiles"] = tuple(math.inf if q is None else float(q) for q in values["quantiles"])  # type: ignore[attr-defined]
    values["ranges"] = {n: (float(a), float(b)) for n, (a, b) in values["ranges"].items()}  # type: ignore[attr-defined]
    return LogitLaw(**values)  # type: ignore[arg-type]  # the fields by name


def imagenet_laws() -> tuple[LogitLaw, ...]:
    """The laws fitted on the published encoders: without a measured point, and given 30,000, 12,811, 5,000 or 3,000."""
    return read_laws(Path(__file__).with_name("law_imagenet.json"))
