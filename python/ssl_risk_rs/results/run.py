"""A decomposition, and a run: decompositions with their provenance, as a folder that can be read back.

The folder holds `run.json` (schema versioned), `results.parquet` (one row a quantity), `outcomes.npz` (every
judged row) and, for few-shot sizes, `draws_*.parquet` (the rows of each draw). It appears by one rename of a finished
temporary folder: half a run is never taken for one.
"""

import json
import os
import platform
import shutil
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssl_risk_rs._display import display
from ssl_risk_rs._extras import releases
from ssl_risk_rs._files import beside, naming, passing_kind, replace_folder, unwritable
from ssl_risk_rs._notes import Note
from ssl_risk_rs.errors import ParameterError, ResultError, ShapeError, SslRiskError
from ssl_risk_rs.results import version1
from ssl_risk_rs.results._json import from_json, to_json
from ssl_risk_rs.results.agreement import disagreements, unreadable_notes
from ssl_risk_rs.results.digests import refuse_changed, with_digests
from ssl_risk_rs.results.estimate import Estimate
from ssl_risk_rs.results.fewshot import FewShot, LabelCurve, ShotOutcomes, ShotSize
from ssl_risk_rs.results.frames import draws_frame, tidy
from ssl_risk_rs.results.judgements import Judgements
from ssl_risk_rs.results.metrics import ERROR, MetricEstimates
from ssl_risk_rs.results.provenance import Host, Provenance
from ssl_risk_rs.results.quantities import QUANTITIES, components
from ssl_risk_rs.results.record import Bottleneck, FitRecord, Floor, Method, Penalty, ProbeVariation, Sizes
from ssl_risk_rs.results.written import TABLE, read_rows, recorded_rows

if TYPE_CHECKING:
    import altair as alt
    import polars as pl

__all__ = ["Decomposition", "ResultError", "Run", "check_target", "common_components"]

#: what a run folder holds, and a page or a geometry that was made beside it
OF_A_RUN = ("run.json", "results.parquet", "outcomes.npz", "draws_*.parquet", "geometry.parquet", "report.html")
#: of run.json; raised when a field changes its meaning. Version 1 is still read
SCHEMA_VERSION = 2
#: notes on points of encoder generalization that classes make, not images
OF_CLASSES = ("other_class_shares", "uncovered_on_test")
_LIBRARIES = ("ssl-risk-rs", "numpy", "polars", "pillow", "timm", "torch", "torchvision")


@dataclass(frozen=True, eq=False, repr=False)
class Decomposition:
    """The decomposition of one probe's error; `components` and `risks` are polars frames."""

    name: str
    method: Method
    sizes: Sizes
    penalties: Mapping[str, Penalty]
    estimates: Mapping[str, Estimate]
    #: covariance of the risks named in `covariance_of`
    covariance: np.ndarray
    covariance_of: tuple[str, ...]
    beta: float
    #: variance that the probe's own variation adds to R_US and R_CS; NaN where it could not be estimated
    probe_variance: float
    bottleneck: Bottleneck
    floor: Floor
    fits: tuple[FitRecord, ...]
    notes: tuple[Note, ...]
    seconds: float
    judgements: Judgements | None = None
    control: "Decomposition | None" = None
    #: the decomposition at small numbers of labels, in ascending order of labels
    shots: tuple[FewShot, ...] = ()
    label_curve: LabelCurve | None = None
    #: the same quantities in the other metrics that were asked for
    metrics: tuple[MetricEstimates, ...] = ()
    #: where the features come from, as far as who decomposed them knew; a run that is written has its own
    provenance: Provenance | None = None
    #: the same with that of R_AS; None in older records, which took R_AS to vary as R_US does
    probe_variation: ProbeVariation | None = None

    @property
    def variation(self) -> ProbeVariation:
        """How much the errors vary with the probe."""
        return self.probe_variation or ProbeVariation.alike(self.probe_variance)

    @property
    def supervised(self) -> bool:
        """Whether a twin gave the approximation error."""
        return "approx" in self.estimates

    @property
    def predicts_classes(self) -> bool:
        """Whether its errors are those of a predicted class; else the target is numbers or labels, rows of which have a
        loss alone."""
        return self.method.metric == ERROR.name

    @property
    def component_names(self) -> tuple[str, ...]:
        """Components that sum to the aggregated risk."""
        return components(supervised=self.supervised, order=self.method.order)

    @property
    def converged(self) -> bool:
        """Whether every fit reached its tolerance, or was left as clearly worse than another."""
        few = not any(shot.tuning_missed or any(fit.missed for fit in shot.fits) for shot in self.shots)
        return few and not any(fit.missed for fit in self.fits)

    @property
    def of_classes(self) -> dict[str, float]:
        """What classes make of encoder generalization, and no image that the encoder has seen: fractions, by the note
        that says so."""
        return {note.code: float(note.values["points"]) / 100 for note in self.notes if note.code in OF_CLASSES}

    @property
    def may_be_of_classes(self) -> bool:
        """Whether classes make some of encoder generalization, and what is left is not surely above 0."""
        points = sum(self.of_classes.values())
        return self.estimates["enc_gen"].low - points <= 0 < points

    def estimate(self, quantity: str) -> float:
        """Point estimate of a quantity."""
        return self.estimates[quantity].estimate

    def part(self, name: str) -> Estimate:
        """Of a component in `common_components`: approximation and usability as one are R_AF, with a twin too."""
        if name == "approx_usability":
            return replace(self.estimates["risk_af"], quantity=name)
        return self.estimates[name]

    def metric(self, name: str) -> MetricEstimates:
        """The quantities in another metric than the 0-1 error.

        Raises
        ------
        ResultError if it was not asked for; `with_metrics` adds it.
        """
        for found in self.metrics:
            if found.metric == name:
                return found
        there = ", ".join(found.metric for found in self.metrics) or "none but the 0-1 error"
        raise ResultError(f"{self.name} has no metric {name!r} (it has {there}): with_metrics adds it")

    @property
    def components(self) -> "pl.DataFrame":
        """component, estimate, se, low, high, n, n_groups, df, grade"""
        kinds = ("component", "detail", "total", "order")
        return _frame("component", [e for n, e in self.estimates.items() if QUANTITIES[n].kind in kinds])

    @property
    def risks(self) -> "pl.DataFrame":
        """risk, estimate, se, low, high, n, n_groups, df, grade"""
        return _frame("risk", [e for n, e in self.estimates.items() if QUANTITIES[n].kind == "risk"])

    def with_control(self, control: "Decomposition | None") -> "Decomposition":
        """The same with a control encoder's decomposition beside it."""
        return replace(self, control=control)

    def save(self, path: "os.PathLike[str] | str", *, force: bool = False) -> "Path":
        """Write a run folder; see `Run.save`."""
        return Run.of(self).save(path, force=force)

    def plot(self, width: int = 700) -> "alt.LayerChart":
        """The components as an Altair chart: a bar of all, and each with its interval; `width` in pixels.

        Raises
        ------
        ParameterError if the extra `report` is not installed.
        """
        chart: alt.LayerChart = display().chart(self, width)
        return chart

    def frame(self) -> "pl.DataFrame":
        """One row for each quantity, as `Run.frame`."""
        return Run.of(self).frame()

    def __str__(self) -> str:
        return str(Run.of(self))

    def __repr__(self) -> str:
        total = self.estimates["agg_risk"]
        return (
            f"<Decomposition of {self.name}: {self.method.probe} probe, {self.method.protocol} protocol, aggregated "
            f"risk {total.estimate:.4f} [{total.low:.4f}, {total.high:.4f}]>"
        )

    def _repr_html_(self) -> str:
        return Run.of(self)._repr_html_()


def common_components(every: Sequence[Decomposition]) -> tuple[str, ...]:
    """Names of the components that all have: approximation and usability are one unless each has a supervised twin, and
    the order is the paper's unless each is in the alternative one."""
    alternative = all(d.method.order == "alternative" for d in every)
    return components(supervised=all(d.supervised for d in every), order="alternative" if alternative else "paper")


@dataclass(frozen=True, eq=False)
class Run:
    """One decomposition for each probe, and where they come from.

    >>> run = Run.of(decompose(X, y, X_test, y_test, probe="ridge"))
    >>> folder = run.save(path / "run")
    >>> str(Run.load(folder)) == str(run)
    True
    """

    decompositions: tuple[Decomposition, ...]
    provenance: Provenance = field(default_factory=Provenance)
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict, repr=False)
    host: Host = field(default_factory=Host, repr=False)
    arguments: tuple[str, ...] = field(default=(), repr=False)
    #: folder it was read from or written to
    path: Path | None = None

    @classmethod
    def of(cls, *decompositions: Decomposition, provenance: Provenance | None = None) -> "Run":
        """A run made here and now."""
        provenance = provenance or decompositions[0].provenance or Provenance(encoder=decompositions[0].name)
        return cls(
            tuple(replace(d, provenance=provenance) for d in decompositions),
            provenance,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions={"python": platform.python_version(), **releases(_LIBRARIES)},
            host=Host(platform.machine(), platform.platform(), os.cpu_count()),
            arguments=tuple(sys.argv[1:]),
        )

    @property
    def converged(self) -> bool:
        """Whether every fit reached its tolerance, or was left as clearly worse than another."""
        return all(d.converged for d in self.decompositions)

    @property
    def probes(self) -> tuple[str, ...]:
        """Those that it has decompositions of, in their order."""
        return tuple(d.method.probe for d in self.decompositions)

    def of_probe(self, probe: str) -> Decomposition:
        """The decomposition of a probe.

        Raises
        ------
        ParameterError if there is none.
        """
        for d in self.decompositions:
            if d.method.probe == probe:
                return d
        raise ParameterError(f"there is no {probe} probe, only {', '.join(self.probes)}")

    @property
    def main(self) -> Decomposition:
        """The decomposition that is told first: of the logistic probe, where there is one."""
        return self.of_probe("logistic") if "logistic" in self.probes else self.decompositions[0]

    @property
    def left_rows_out(self) -> bool:
        """Whether rows without label were left out."""
        return "unlabelled_dropped" in {note.code for note in (*self.provenance.notes, *self.main.notes)}

    def frame(self) -> "pl.DataFrame":
        """One row for each quantity; what results.parquet holds and `--format json` prints."""
        return tidy(self.decompositions, self.provenance, "" if self.path is None else self.path.name)

    def scalars(self) -> dict[str, float]:
        """Every estimate under "probe/quantity", those of other metrics under "probe/metric/quantity".

        Values are fractions (log-loss: nats), as loggers of a training take them: `wandb.log(run.scalars())`.
        """
        found: dict[str, float] = {}
        for d in self.decompositions:
            found |= {f"{d.method.probe}/{name}": e.estimate for name, e in d.estimates.items()}
            for each in d.metrics:
                of_metric = f"{d.method.probe}/{each.metric}"
                found |= {f"{of_metric}/{name}": e.estimate for name, e in each.estimates.items()}
        return found

    def save(self, path: "os.PathLike[str] | str", *, force: bool = False) -> Path:
        """Write a run folder; whatever fails, the folder is as it was before.

        Parameters
        ----------
        path : new folder; force : replace a run that is there; what else lies in its folder stays

        Raises
        ------
        Those of `check_target`; ResultError for a run without decomposition; OSError.
        """
        if not self.decompositions:
            raise ResultError("a run without decomposition has nothing to save")
        target = check_target(path, force=force)
        place = target.absolute().resolve()  # a link stays one
        place.parent.mkdir(parents=True, exist_ok=True)
        with beside(place) as temporary, naming(place, temporary):
            temporary.mkdir()
            replace(self, path=place).frame().write_parquet(temporary / TABLE)
            _write_arrays(temporary / "outcomes.npz", self._arrays())
            for i, whole in enumerate(self.decompositions):
                if whole.shots:
                    draws_frame(whole).write_parquet(temporary / f"draws_{i}_{whole.method.probe}.parquet")
            if force and place.is_dir():
                _carry_over(place, temporary)
            document = with_digests(self._document(), temporary)
            text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
            (temporary / "run.json").write_text(text, encoding="utf-8")  # the last: what makes it a run
            try:
                replace_folder(temporary, place, force=force)
            except FileExistsError as error:
                raise ResultError(f"{target} was made by another run meanwhile; choose another folder") from error
        return target

    @classmethod
    def load(cls, path: "os.PathLike[str] | str") -> "Run":
        """Read a run folder; what it prints, compares and reports is that of the run when it was live.

        Raises
        ------
        ResultError if there is no run, it is damaged, its files are of different runs, or a later release wrote it.
        """
        folder = Path(path).expanduser()
        file = folder / "run.json"
        try:
            found = document = json.loads(file.read_text(encoding="utf-8"))
            schema = found["schema_version"]
            if schema == 1:
                found, schema = version1.upgraded(found), SCHEMA_VERSION
            if schema != SCHEMA_VERSION:
                raise ResultError(
                    f"{file} has schema version {schema}; this release reads 1 to {SCHEMA_VERSION}: upgrade it"
                )
            recorded = recorded_rows(document) if document["schema_version"] == SCHEMA_VERSION else None
            arrays: dict[str, np.ndarray] = {}
            if found["schema_version"] != 1:
                with np.load(folder / "outcomes.npz", allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
            provenance = from_json(Provenance, found)
            decompositions = _read_all(found["decompositions"], arrays)
            of_run = tuple(replace(d, provenance=provenance) for d in decompositions)
            run = from_json(cls, found, decompositions=of_run, path=folder, provenance=provenance)
        except FileNotFoundError as error:
            inside = sorted(file for file in folder.glob("*/run.json") if not passing_kind(file.parent.name))
            runs = f", and {len(inside)} run folders lie in it, such as {inside[-1].parent}" if inside else ""
            raise ResultError(f"{folder} is no run folder: {error.filename} is not there{runs}") from None
        except (
            OSError, KeyError, TypeError, ValueError, AttributeError, EOFError, RecursionError, zipfile.BadZipFile,
            zlib.error,
        ) as error:  # fmt: skip
            if isinstance(error, ResultError) or (
                isinstance(error, SslRiskError) and not isinstance(error, ShapeError)
            ):
                raise
            raise ResultError(f"{folder} is damaged, or no run folder: {type(error).__name__} {error}") from error
        if not run.decompositions:
            raise ResultError(f"{file} holds no decomposition: run it again")
        problems = chain(unreadable_notes(run.provenance.notes), *map(disagreements, run.decompositions))
        if (problem := next(problems, None)) is not None:
            raise ResultError(
                f"{folder}: run.json and outcomes.npz are not of the same run, or one of them was changed: {problem}. "
                "Take both files of one run, or run it again"
            )
        if recorded is not None and (folder / TABLE).exists():
            read_rows(folder, recorded)
        refuse_changed(document, folder)
        return run

    def _document(self) -> dict[str, Any]:
        head = {"schema_version": SCHEMA_VERSION, **to_json(self, without=("decompositions", "provenance", "path"))}
        return {**head, **to_json(self.provenance), "decompositions": [_describe(d) for d in self.decompositions]}

    def _arrays(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for i, whole in enumerate(self.decompositions):
            for prefix, part in ((f"{i}", whole), (f"{i}.control", whole.control)):
                if part is not None and part.judgements is not None:
                    found |= {f"{prefix}.{name}": array for name, array in part.judgements.to_arrays().items()}
                if part is not None:
                    found[f"{prefix}.covariance"] = part.covariance
            for shot in whole.shots:
                if shot.outcomes is not None:
                    arrays = shot.outcomes.to_arrays()
                    found |= {f"{i}.shots.{shot.size.name}.{name}": array for name, array in arrays.items()}
        return found

    def __str__(self) -> str:
        return display().text(self)

    def _repr_html_(self) -> str:
        return display().html(self)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """What `numpy.savez_compressed` writes, by zlib's fastest level: a third of the time for 4 % more bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def _describe(d: Decomposition) -> dict[str, Any]:
    written = to_json(d, without=("judgements", "control", "covariance", "shots", "provenance"))
    written["shots"] = [to_json(shot, without=("outcomes",)) for shot in d.shots]
    shown = {"converged": d.converged, "passes": sum(fit.passes for fit in d.fits)}
    return {**written, **shown, "control": None if d.control is None else _describe(d.control)}


def _read_all(found: list[dict[str, Any]], arrays: Mapping[str, np.ndarray]) -> tuple[Decomposition, ...]:
    return tuple(_read(described, f"{i}", arrays) for i, described in enumerate(found))


def _read(found: dict[str, Any], prefix: str, arrays: Mapping[str, np.ndarray]) -> Decomposition:
    own = {
        name.removeprefix(f"{prefix}."): array
        for name, array in arrays.items()
        if name.startswith(f"{prefix}.") and not name.startswith((f"{prefix}.control.", f"{prefix}.shots."))
    }
    covariance = own.pop("covariance") if own else np.array(found["covariance"], float)
    control = found.get("control")
    return from_json(
        Decomposition,
        {**found, "method": _with_view(found), "estimates": _with_df(found["estimates"])},
        metrics=tuple(
            from_json(MetricEstimates, {**other, "estimates": _with_df(other["estimates"])})
            for other in found.get("metrics", ())
        ),
        covariance=covariance,
        shots=tuple(_read_shot(shot, prefix, arrays) for shot in found.get("shots", ())),
        judgements=Judgements.from_arrays(own) if own else None,
        control=None if control is None else _read(control, f"{prefix}.control", arrays),
    )


def _with_view(found: Mapping[str, Any]) -> dict[str, Any]:
    """The method with the augmented view, which earlier runs have in a note alone."""
    method = dict(found["method"])
    if "view" not in method:
        views = (note["values"]["view"] for note in found.get("notes", ()) if note["code"] == "augmented_view")
        method["view"] = next(views, None)
    return method


def _with_df(estimates: Mapping[str, Any]) -> dict[str, Any]:
    """Degrees of freedom: null stands for infinity, a normal interval."""
    return {name: {**e, "df": float("inf") if e["df"] is None else e["df"]} for name, e in estimates.items()}


def _read_shot(found: dict[str, Any], prefix: str, arrays: Mapping[str, np.ndarray]) -> FewShot:
    own = f"{prefix}.shots.{from_json(ShotSize, found['size']).name}."
    outcomes = {name.removeprefix(own): array for name, array in arrays.items() if name.startswith(own)}
    if not isinstance(found["overlap"], Mapping):  # earlier runs have the share alone
        found = {**found, "overlap": {"share": found["overlap"]}}
    return from_json(
        FewShot,
        {**found, "estimates": _with_df(found["estimates"])},
        outcomes=ShotOutcomes.from_arrays(outcomes) if outcomes else None,
    )


def check_target(path: "os.PathLike[str] | str", *, force: bool = False) -> Path:
    """The folder that `Run.save` would write; nothing is made. Ask before hours of work, not after.

    Raises
    ------
    ResultError if it exists and `force` is not set, if `force` would replace what is no run, or the folder one works
    in, or if no folder can be made there.
    """
    target = Path(path).expanduser()
    if target.is_symlink() and not target.exists():
        raise ResultError(f"{target} is a link to {target.resolve()}, which is not there; choose another --out")
    if target.exists():
        if not force:
            raise ResultError(f"{target} exists; choose another --out, or give --force (force=True) to replace it")
        if not (target / "run.json").is_file() and not (target.is_dir() and not any(target.iterdir())):
            raise ResultError(f"{target} is no run folder and is not replaced; remove it, or choose another --out")
        if _holds_this_process(target.resolve()):
            raise ResultError(f"{target} is the folder this command works in: it is not replaced, choose another --out")
    if (above := unwritable(target.absolute().resolve().parent)) is not None:
        raise ResultError(f"{target} cannot be made: {above} is no folder one can write to; choose another --out")
    return target


def _holds_this_process(place: Path) -> bool:
    """Whether a folder is the one that this process works in, or above it."""
    try:
        here = Path.cwd()
    except OSError:  # it is gone
        return False
    return place == here or place in here.parents


def _carry_over(old: Path, new: Path) -> None:
    """Copy what is in a run folder and none of a run."""
    for file in old.iterdir():
        if not (passing_kind(file.name) or any(fnmatchcase(file.name, pattern) for pattern in OF_A_RUN)):
            if file.is_dir() and not file.is_symlink():
                shutil.copytree(file, new / file.name, symlinks=True)
            else:
                shutil.copy2(file, new / file.name, follow_symlinks=False)


def _frame(key: str, estimates: list[Estimate]) -> "pl.DataFrame":
    import polars as pl

    columns: dict[str, list[Any]] = {
        key: [e.quantity for e in estimates],
        **{name: [getattr(e, name) for e in estimates] for name in ("estimate", "se", "low", "high", "n", "n_groups")},
        "df": [e.df for e in estimates],
        "grade": [e.grade.value for e in estimates],
    }
    return pl.DataFrame(columns, schema_overrides={"n_groups": pl.Int64, "n": pl.Int64})
