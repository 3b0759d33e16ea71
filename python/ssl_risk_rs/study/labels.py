"""Measured errors at few labels, beside the components at all labels: what laws of label counts are fitted on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64

from ssl_risk_rs.errors import DataError

__all__ = ["IMAGENET_LABELS", "IMAGENET_SHOTS", "LabelPoints", "label_points"]

#: training images of ImageNet-1K
IMAGENET_LABELS = 1_281_167
#: training images behind the few-shot columns of the published table
IMAGENET_SHOTS: Mapping[str, int] = {
    "agg_risk@30": 30_000, "agg_risk@1%": 12_811, "agg_risk@5": 5_000, "agg_risk@3": 3_000,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelPoints:
    """Measured errors at few labels, a point a row.

    Attributes
    ----------
    encoder, objective : (n,), of each point
    n_labels, error : (n,), probe-training rows and error
    risk_af, probe_gen, enc_gen, agg_risk, z_dim : (n,), of its encoder at all labels
    n_full : labels behind `agg_risk`
    """

    encoder: tuple[str, ...]
    objective: tuple[str, ...]
    n_labels: Float64[np.ndarray, " n"]
    error: Float64[np.ndarray, " n"]
    risk_af: Float64[np.ndarray, " n"]
    probe_gen: Float64[np.ndarray, " n"]
    enc_gen: Float64[np.ndarray, " n"]
    agg_risk: Float64[np.ndarray, " n"]
    z_dim: Float64[np.ndarray, " n"]
    n_full: int

    def __len__(self) -> int:
        return len(self.error)

    def take(self, keep: Bool[np.ndarray, " n"]) -> "LabelPoints":
        """The points where `keep` is true."""
        return replace(
            self,
            encoder=tuple(e for e, k in zip(self.encoder, keep, strict=True) if k),
            objective=tuple(o for o, k in zip(self.objective, keep, strict=True) if k),
            n_labels=self.n_labels[keep], error=self.error[keep], risk_af=self.risk_af[keep],
            probe_gen=self.probe_gen[keep], enc_gen=self.enc_gen[keep], agg_risk=self.agg_risk[keep],
            z_dim=self.z_dim[keep],
        )  # fmt: skip

    def at(self, n_labels: float) -> dict[str, float]:
        """Errors at one number of labels by encoder."""
        return {e: x for e, n, x in zip(self.encoder, self.n_labels, self.error, strict=True) if n == n_labels}


_ARRAYS = ("n_labels", "error", "risk_af", "probe_gen", "enc_gen", "agg_risk", "z_dim")


def label_points(
    frame: pl.DataFrame,
    *,
    shots: Mapping[str, int] = IMAGENET_SHOTS,
    n_full: int = IMAGENET_LABELS,
    full: bool = False,
    complete: bool = False,
) -> LabelPoints:
    """The points of a results frame.

    Parameters
    ----------
    frame : columns `encoder`, `probe_gen`, `enc_gen`, `agg_risk`, `z_dim`, the few-shot risks, and `objective` (each
        encoder is its own objective where it is missing). R_AF is `risk_af`, or `agg_risk - probe_gen - enc_gen`.
    shots : column → probe-training rows behind it
    full : the point at all labels is among them, as in the authors' fit
    complete : only encoders with a twin, as in the authors' fit

    Raises
    ------
    DataError if a column is missing or no few-shot risk is there.
    """
    needed = ("encoder", "probe_gen", "enc_gen", "agg_risk", "z_dim")
    if missing := [name for name in needed if name not in frame.columns]:
        raise DataError(f"the law of label counts needs the columns {', '.join(missing)}, which the table lacks")
    present = {name: n for name, n in shots.items() if name in frame.columns}
    if not present:
        raise DataError(f"the law of label counts needs few-shot risks: one or more of {', '.join(shots)}")
    if complete:
        frame = frame.filter(pl.col("approx").is_not_null() & pl.col("usability").is_not_null())
    if "risk_af" not in frame.columns:
        frame = frame.with_columns(risk_af=pl.col("agg_risk") - pl.col("probe_gen") - pl.col("enc_gen"))
    if "objective" not in frame.columns:
        frame = frame.with_columns(objective=pl.col("encoder"))
    frame = frame.with_columns(pl.col("objective").fill_null(pl.col("encoder")))
    if full:
        present = {"agg_risk": n_full, **present}
    names: list[tuple[str, str]] = []
    numbers: list[list[float]] = []
    for row in frame.select("encoder", "objective", *(c for c in _ARRAYS[2:]), *(c for c in present if c != "agg_risk")
                            ).iter_rows(named=True):  # fmt: skip
        for column, n in present.items():
            inputs = [row[name] for name in _ARRAYS[2:]]
            if row[column] is not None and None not in inputs:
                names.append((str(row["encoder"]), str(row["objective"])))
                numbers.append([float(n), float(row[column]), *map(float, inputs)])
    if any(row[-1] <= 0 for row in numbers):
        raise DataError("the law of label counts takes the logarithm of z_dim, which is 0 or less for some encoder")
    if not names:
        raise DataError("no encoder of the table has its components, its dimension and a few-shot risk")
    columns = np.ascontiguousarray(np.array(numbers, dtype=np.float64).T)
    return LabelPoints(
        encoder=tuple(encoder for encoder, _ in names),
        objective=tuple(objective for _, objective in names),
        n_full=n_full,
        **dict(zip(_ARRAYS, columns, strict=True)),
    )
