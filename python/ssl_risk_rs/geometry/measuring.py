"""Representations → statistics: one pass for moments, one for directions by class, one for views."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import UInt32

from ssl_risk_rs import _core
from ssl_risk_rs._labels import encode_labels, label_vector
from ssl_risk_rs._limits import MOST_SEED, check_whole
from ssl_risk_rs.errors import ParameterError, ShapeError
from ssl_risk_rs.geometry import formulas
from ssl_risk_rs.geometry.definitions import STATISTICS
from ssl_risk_rs.geometry.result import Geometry, Statistic
from ssl_risk_rs.geometry.sums import RowSums, positive, sum_rows
from ssl_risk_rs.probes.features import Features, as_float_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ssl_risk_rs.bank import FeatureBank

__all__ = ["UNIFORMITY_ROWS", "SampleRows", "Split", "measure", "stats"]

Split = Literal["train", "test", "all"]

#: rows whose pairs uniformity is taken over: 8.4 million pairs, whose mean moves in the third digit from draw to draw
UNIFORMITY_ROWS = 4096
#: below it no eigenvalue of a correlation matrix counts in effective_dim, as the authors of the paper have it
LEAST_EIGENVALUE = 1e-4
#: added to the diagonal of the covariance within samples, as LiDAR's authors have it
LIDAR_RIDGE = 1e-4


@dataclass(frozen=True, slots=True)
class SampleRows:
    """Rows of some features, uint32 (m,): sample i of several such is row `rows[i]` of each."""

    features: Features
    rows: UInt32[np.ndarray, " m"]


def stats(
    features: "FeatureBank | ArrayLike | Mapping[str, FeatureBank]",
    y: "ArrayLike | None" = None,
    *,
    views: "Sequence[FeatureBank | ArrayLike]" = (),
    split: Split = "train",
    name: str = "features",
    seed: int = 0,
    uniformity_rows: int = UNIFORMITY_ROWS,
    n_threads: int | None = None,
) -> Geometry:
    """Measure the geometry of a representation.

    Parameters
    ----------
    features : FeatureBank, or array of shape (n, d)
        float16 and float32 are used as they lie, other numbers are converted to float32. PyTorch tensors are taken too.
    y : array of shape (n,), optional
        With arrays only. Labels of the rows; without them the statistics of classes are left out.
    views : further views of the same samples, row by row
        Each is what `features` is. `features` counts as the first view.
    split : of a bank: "train", "test" or "all" rows
    name : of the encoder, where `features` is no bank
    seed : of the rows that uniformity is taken over, where there are more than `uniformity_rows`
    n_threads : default all cores

    Returns
    -------
    Geometry; `frame()` gives a polars frame, `value(name)` one number.

    Raises
    ------
    ShapeError, ParameterError (NaN and infinity are named by row and feature), BankError.

    Examples
    --------
    >>> found = stats(X, y)
    >>> 1 <= found.value("effective_rank") <= X.shape[1]
    True

    Notes
    -----
    Time n·d² and memory O(d² + k·d): nothing is n × n, and features are not copied. docs/geometry.md.
    """
    from ssl_risk_rs.bank import FeatureBank, only_one

    check_whole("seed", seed, 0, MOST_SEED)
    given: FeatureBank | ArrayLike = only_one(features, "features")
    if isinstance(given, FeatureBank):
        if y is not None:
            raise ParameterError("a feature bank holds its labels: give no y")
        rows = _rows_of(given, split)
        codes = given.labels()
        labels, n_classes = codes.astype(np.uint32), int(codes.max(initial=0)) + 1
        found = SampleRows(Features.of_bank(given), rows)
        name, data = given.shown_encoder, given.shown_data
    else:
        if split != "train":
            raise ParameterError(f"split is {split!r}, but arrays have no splits: hand over the rows that are meant")
        found = _of_array(given, "features")
        labels, n_classes = _array_labels(y, found.features.n_rows)
        if y is not None:
            found = SampleRows(found.features, np.arange(len(labels), dtype=np.uint32))
        data = "the rows given"
    others = [_view(view, split, len(found.rows)) for view in views]
    return measure(
        found,
        labels if n_classes else None,
        n_classes,
        views=others,
        name=name,
        data=data,
        split=split,
        seed=seed,
        uniformity_rows=uniformity_rows,
        n_threads=n_threads,
    )


def measure(
    sample: SampleRows,
    labels: UInt32[np.ndarray, " n"] | None,
    n_classes: int,
    *,
    views: Sequence[SampleRows] = (),
    name: str = "features",
    data: str = "the rows given",
    split: Split = "train",
    seed: int = 0,
    uniformity_rows: int = UNIFORMITY_ROWS,
    n_threads: int | None = None,
) -> Geometry:
    """:func:`stats` on checked input; `labels` are by row of the features, None where there are none."""
    features, rows = sample.features, sample.rows
    if len(rows) < 2:
        raise ParameterError(f"{name} has {len(rows)} {split} rows: statistics of a representation need at least two")
    if uniformity_rows < 2:
        raise ParameterError(f"uniformity needs pairs: uniformity_rows must be at least 2, got {uniformity_rows}")
    known = labels if labels is not None else np.zeros(features.n_rows, np.uint32)
    sums = sum_rows(features, rows, known, max(n_classes, 1), n_threads=n_threads)
    squares, directed, directions = _core.class_directions(
        features.source, rows, known, max(n_classes, 1), sums.class_means(), n_threads=n_threads
    )
    correlation = sums.correlation()
    spectrum, vectors = _spectrum(correlation, min(len(correlation), sums.n - 1), n_threads)
    found = [*_of_spectra(sums, spectrum, n_threads)]
    found.append(_uniformity(sample, seed, uniformity_rows, n_threads))
    if labels is not None:
        scatter = squares[sums.present] / sums.counts[sums.present]
        found += _of_classes(sums, scatter, directions, directed, spectrum)
        found += _of_evidence(sums, spectrum, vectors, n_threads)
    if views:
        found += _of_views([sample, *views], sums.mean, n_threads)
    return Geometry(
        name=name,
        data=data,
        split=split,
        n_rows=sums.n,
        n_features=features.n_features,
        n_classes=None if labels is None else len(sums.present),
        n_views=1 + len(views),
        constant_features=int((~sums.varies).sum()),
        zero_rows=sums.n - int(directed.sum()),
        statistics=tuple(sorted(found, key=lambda s: list(STATISTICS).index(s.name))),
        spectrum=spectrum,
    )


# --- what is given


def _rows_of(bank: "FeatureBank", split: Split) -> np.ndarray:
    return np.arange(bank.n_rows, dtype=np.uint32) if split == "all" else bank.rows(split)


def _of_array(x: "ArrayLike", what: str) -> SampleRows:
    features = Features.of_arrays(as_float_rows(x, what))
    return SampleRows(features, np.arange(features.n_rows, dtype=np.uint32))


def _array_labels(y: "ArrayLike | None", n: int) -> tuple[np.ndarray, int]:
    """Codes of labels, and how many classes there are: none without labels."""
    if y is None:
        return np.zeros(n, np.uint32), 0
    given = label_vector(y, "y")
    if len(given) != n:
        raise ShapeError(f"y has {len(given)} labels, features have {n} rows")
    encoded = encode_labels({"train": given}, where={"train": "y"})
    codes = encoded.codes["train"].astype(np.uint32)
    return codes, int(codes.max(initial=0)) + 1


def _view(view: "FeatureBank | ArrayLike", split: Split, n: int) -> SampleRows:
    from ssl_risk_rs.bank import FeatureBank

    if isinstance(view, FeatureBank):
        found = SampleRows(Features.of_bank(view), _rows_of(view, split))
    else:
        found = _of_array(view, "views")
    if len(found.rows) != n:
        raise ShapeError(f"a view has {len(found.rows)} rows, the first has {n}: views are of the same samples")
    return found


# --- statistics


def _spectrum(matrix: np.ndarray, rank: int, n_threads: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues descending, 0 where rounding decides, and their vectors as columns."""
    if not len(matrix):  # no feature varies
        return np.zeros(0), np.zeros((0, 0))
    values, vectors = _core.symmetric_eigen(np.ascontiguousarray(matrix), n_threads=n_threads)
    return positive(values, rank), vectors[:, ::-1]


def _of_spectra(sums: RowSums, spectrum: np.ndarray, n_threads: int | None) -> Iterator[Statistic]:
    n = sums.n
    constant = "" if len(spectrum) else "every feature is constant on these rows"
    yield Statistic("effective_rank", formulas.entropy_rank(spectrum), n, reason=constant)
    yield Statistic("effective_dim", float(formulas.count_above(spectrum, LEAST_EIGENVALUE)), n)
    raw = _core.symmetric_eigenvalues(np.ascontiguousarray(sums.squares()), n_threads=n_threads)
    singular = np.sqrt(positive(raw, min(n, len(raw)))[: min(n, len(raw))])
    yield Statistic("rank_z", float(formulas.count_above(singular)), n)
    rank = formulas.entropy_rank(singular, formulas.SHARE_EPSILON)
    yield Statistic("rankme", rank, n, reason="every row is zero" if math.isnan(rank) else "")
    covariance = sums.covariance()
    values = np.zeros(0)
    if len(covariance):
        values = positive(
            _core.symmetric_eigenvalues(np.ascontiguousarray(covariance), n_threads=n_threads),
            min(len(covariance), n - 1),
        )
    first, last = formulas.fit_range(int((values > 0).sum()))
    alpha, r2 = formulas.power_law(values, first, last)
    if math.isnan(alpha):
        few = f"{int((values > 0).sum())} eigenvalues are not zero: too few for a power law"
        yield Statistic("alpha", alpha, n, reason=few)
    else:
        yield Statistic("alpha", alpha, n, detail=f"eigenvalues {first} to {last}, R² {r2:.3f}")


def _uniformity(sample: SampleRows, seed: int, most: int, n_threads: int | None) -> Statistic:
    rows = sample.rows
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False)).astype(np.uint32)
    value, n = _core.log_potential(sample.features.source, rows, n_threads=n_threads)
    drawn = f"all pairs of {n:,} rows" + (f" drawn with seed {seed}" if len(rows) < len(sample.rows) else "")
    if n < len(rows):
        drawn += f", {len(rows) - n:,} rows of zeros left out"
    return Statistic(
        "uniformity", value, n, detail=drawn, reason="" if n > 1 else "fewer than two rows have a direction"
    )


def _of_classes(
    sums: RowSums, scatter: np.ndarray, directions: np.ndarray, directed: np.ndarray, spectrum: np.ndarray
) -> Iterator[Statistic]:
    n, k = sums.n, len(sums.present)
    offsets = sums.class_offsets()
    centred = offsets - offsets.mean(0)
    intra = float(scatter.mean())
    inter = float((centred**2).sum(1).mean())
    one = "there is one class" if k < 2 else "" if inter > 0 else "all class means are equal"
    yield Statistic("intra_var", intra, n)
    yield Statistic("inter_var", inter if k > 1 else math.nan, n, reason="" if k > 1 else one)
    yield Statistic("var_ratio", intra / inter if not one else math.nan, n, reason=one)
    having = directed > 0
    means = directions[having] / directed[having, None]
    alignment = 2 * float(np.maximum(1 - (means**2).sum(1), 0.0).mean()) if having.any() else math.nan
    zeros = sums.n - int(directed.sum())
    left_out = f"{zeros:,} rows of zeros left out" if zeros else ""
    undirected = "" if having.any() else "every row is zero"
    yield Statistic("class_alignment", alignment, int(directed.sum()), detail=left_out, reason=undirected)
    shares = sums.counts[sums.present] / n
    within = sums.gram / n - np.outer(sums.offset, sums.offset) - (offsets.T * shares) @ offsets
    nc1 = formulas.pseudo_trace(centred / math.sqrt(k), within) if not one else math.nan
    yield Statistic("nc1", nc1, n, reason=one)
    dimension = formulas.count_above(spectrum, LEAST_EIGENVALUE)
    yield Statistic("nc1_norm", nc1 / math.sqrt(dimension) if dimension else math.nan, n, reason=one)
    yield Statistic("class_mean_coherence", formulas.coherence(centred) if not one else math.nan, n, reason=one)


def _of_evidence(
    sums: RowSums, spectrum: np.ndarray, vectors: np.ndarray, n_threads: int | None
) -> Iterator[Statistic]:
    n, present = sums.n, sums.present
    few = "there is one class" if len(present) < 2 else "" if len(spectrum) else "every feature is constant"
    score = math.nan
    if not few:
        # in the coordinates of the correlation matrix: the score is the same, its eigenvalues are closer together
        scale = 1 / np.sqrt(np.diag(sums.covariance()))
        offsets = sums.class_offsets()[:, sums.varies] * scale
        score = formulas.h_score(spectrum, vectors, offsets, sums.counts[present] / n)
    detail = "rows are no more than features: the score is at its ceiling" if n <= len(spectrum) else ""
    yield Statistic("h_score", score, n, detail=detail, reason=few)
    counts = sums.counts[present].astype(float)
    raw, basis = _core.symmetric_eigen(np.ascontiguousarray(sums.squares()), n_threads=n_threads)
    order = positive(raw, min(n, len(raw)))
    kept = order > 0
    targets = sums.sums[present] + counts[:, None] * sums.shift  # Fᵀ y of each class, (k′, d)
    reason = "every row is zero" if not kept.any() else few
    value = math.nan
    if not reason:
        evidence, settled = formulas.log_evidence(order[kept], targets @ basis[:, ::-1][:, kept], counts, n)
        exact = int(np.isnan(evidence).sum())
        if exact:
            reason = f"for {exact} of {len(present)} classes the features fit the labels exactly"
        elif not settled.all():
            reason = f"for {int((~settled).sum())} of {len(present)} classes the evidence did not settle"
        else:
            value = float(evidence.mean())
    yield Statistic("logme", value, n, reason=reason)


def _of_views(views: Sequence[SampleRows], centre: np.ndarray, n_threads: int | None) -> Iterator[Statistic]:
    widths = {view.features.n_features for view in views}
    if len(widths) > 1:
        raise ShapeError(f"views have {sorted(widths)} features: views of a sample come from one encoder")
    sums, between, within, distance, aligned = _core.view_sums(
        [view.features.source for view in views], [view.rows for view in views], centre, n_threads=n_threads
    )
    n, v = len(views[0].rows), len(views)
    offset = sums / n
    between = between / n - np.outer(offset, offset)
    within = within / (n * v)
    left_out = f"{n - aligned:,} samples with a view of zeros left out" if aligned < n else ""
    undirected = "" if aligned else "every sample has a view of zeros"
    value = distance / aligned if aligned else math.nan
    yield Statistic("alignment", value, aligned, detail=left_out, reason=undirected)
    inter = float(np.trace(between))
    yield Statistic("view_intra_var", float(np.trace(within)), n)
    yield Statistic("view_inter_var", inter, n)
    values, vectors = _spectrum(between, min(len(between), n - 1), n_threads)
    roots = np.sqrt(values[values > 0])[:, None] * vectors[:, values > 0].T
    same = "" if len(roots) else "all samples have the same mean"
    yield Statistic("view_nc1", formulas.pseudo_trace(roots, within), n, reason=same)
    ridged, basis = _core.symmetric_eigen(
        np.ascontiguousarray(within + LIDAR_RIDGE * np.eye(len(within))), n_threads=n_threads
    )
    whitened = (basis.T @ between @ basis) / np.sqrt(np.outer(ridged, ridged))
    discriminant = positive(
        _core.symmetric_eigenvalues(np.ascontiguousarray(whitened), n_threads=n_threads), min(len(whitened), n - 1)
    )
    lidar = formulas.entropy_rank(discriminant, formulas.SHARE_EPSILON)
    yield Statistic("lidar", lidar, n, detail=f"{v} views of each sample", reason=same)
