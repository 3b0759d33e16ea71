"""Records of a run: a tidy polars frame, a run folder, provenance.

A run folder appears by one rename of a finished temporary folder: half a run is never taken for one.
"""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_risk_rs._files import beside, replace_folder
from ssl_risk_rs.decomposition import Decomposition
from ssl_risk_rs.errors import SslRiskError

if TYPE_CHECKING:
    import polars as pl

#: of run.json; raised when a field changes its meaning
SCHEMA_VERSION = 1

#: columns of results.parquet
COLUMNS = (
    "run", "encoder", "data", "probe", "protocol", "split", "shots", "group", "quantity", "estimate", "se",
    "low", "high", "n", "unit",
)  # fmt: skip

#: quantity → rows it is judged on
_SPLIT = {
    "risk_sup": "train", "risk_af": "train", "risk_as": "subset", "risk_cs": "test", "risk_us": "test",
    "approx": "train", "usability": "train", "approx_usability": "train", "probe_gen": "subset",
}  # fmt: skip


class ResultError(SslRiskError, ValueError):
    """A run cannot be written or read."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a run was made from; names as typed, facts as the banks' headers hold them."""

    encoder: str = "features"
    data: str = "arrays"
    command: str = ""
    supervised: str | None = None
    control: str | None = None
    pretraining_data: str | None = None
    #: whether the data that pretrained the encoder holds the probe's training images; None: not known
    saw_training_images: bool | None = None
    banks: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def tidy(decompositions: Sequence[Decomposition], provenance: Provenance, run: str = "") -> "pl.DataFrame":
    """One row for each quantity: results.parquet, and what `--format json` prints."""
    import polars as pl

    rows = []
    for whole in decompositions:
        for group, result in (("all", whole), *((("control", whole.control),) if whole.control else ())):
            for e in result.uncertainty.estimates.values():
                rows.append(
                    {
                        "run": run,
                        "encoder": provenance.encoder if group == "all" else provenance.control or "control",
                        "data": provenance.data,
                        "probe": result.settings.probe,
                        "protocol": result.settings.protocol,
                        "split": _SPLIT.get(e.quantity, "test"),
                        "shots": None,
                        "group": group,
                        "quantity": e.quantity,
                        "estimate": e.estimate,
                        "se": e.se,
                        "low": e.low,
                        "high": e.high,
                        "n": e.n,
                        "unit": "fraction",
                    }
                )
    return pl.DataFrame(rows, schema_overrides={"shots": pl.String, "n": pl.Int64}).select(COLUMNS)


def save_run(
    path: "os.PathLike[str] | str",
    decompositions: Sequence[Decomposition],
    *,
    provenance: Provenance | None = None,
    force: bool = False,
) -> Path:
    """Write `run.json`, `results.parquet` and `outcomes.npz` into a new folder.

    Raises
    ------
    Those of `check_target`; OSError. Whatever fails, the folder is as it was before.
    """
    provenance = provenance or Provenance(encoder=decompositions[0].name)
    target = check_target(path, force=force)
    place = target.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    with beside(place) as temporary:
        temporary.mkdir()
        (temporary / "run.json").write_text(
            json.dumps(document(decompositions, provenance), indent=2, ensure_ascii=False, allow_nan=False)
        )
        tidy(decompositions, provenance, target.name).write_parquet(temporary / "results.parquet")
        np.savez_compressed(temporary / "outcomes.npz", allow_pickle=False, **_outcomes(decompositions))
        replace_folder(temporary, place)
    return target


def check_target(path: "os.PathLike[str] | str", *, force: bool = False) -> Path:
    """The folder that `save_run` would write; nothing is made. Ask before hours of work, not after.

    Raises
    ------
    ResultError if it exists and `force` is not set, if `force` would replace what is no run, or if no folder
    can be made there.
    """
    target = Path(path).expanduser()
    if target.exists():
        if not force:
            raise ResultError(f"{target} exists; choose another --out, or give --force to replace it")
        if not (target / "run.json").is_file() and not (target.is_dir() and not any(target.iterdir())):
            raise ResultError(f"{target} is no run folder, so --force does not replace it; choose another --out")
    above = next(folder for folder in target.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ResultError(f"{target} cannot be made: {above} is no folder one can write to; choose another --out")
    return target


def document(decompositions: Sequence[Decomposition], provenance: Provenance) -> dict[str, Any]:
    """The content of run.json."""
    from ssl_risk_rs.extraction.facts import library_versions

    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": library_versions() | {"python": platform.python_version()},
        "host": {"machine": platform.machine(), "system": platform.platform(), "cpus": os.cpu_count()},
        "arguments": sys.argv[1:],
        **asdict(provenance),
        "decompositions": [_describe(d) for d in decompositions],
    }


def _describe(result: Decomposition) -> dict[str, Any]:
    return {
        "name": result.name,
        "settings": asdict(result.settings),
        "sizes": result.sizes,
        "alphas": result.alphas,
        "estimates": {name: asdict(e) for name, e in result.uncertainty.estimates.items()},
        "risk_covariance": result.uncertainty.covariance.tolist(),
        "control_variate_beta": result.uncertainty.beta,
        "bottleneck": result.uncertainty.bottleneck,
        "bottleneck_probability": result.uncertainty.bottleneck_probability,
        "risk_af_one_decade_above_the_floor": result.sensitivity,
        "converged": result.converged,
        "passes": sum(fit.passes for fit in result.fits),
        "fits": [asdict(fit) for fit in result.fits],
        "notes": list(result.notes),
        "seconds": result.seconds,
        "control": None if result.control is None else _describe(result.control),
    }


def _outcomes(decompositions: Sequence[Decomposition]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for whole in decompositions:
        for group, result in (("", whole), *((("control_", whole.control),) if whole.control else ())):
            prefix = f"{result.settings.probe}_{group}"
            found |= {f"{prefix}{name}": array for name, array in result.outcomes.items()}
    return found
