"""Probes on devices of torch: rows stay there, everything else is the core's.

Moments, passes, steps and judgements are computed on the devices; scaling, the descent's decisions and the certificate
are the core's, as for rows of this CPU. One device holds all rows; several hold equal shares, whose sums add.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
import torch

from ssl_risk_rs import _core
from ssl_risk_rs.errors import DeviceError, NumericalError, ParameterError, first_line
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.probes.solver import (
    Goal,
    OutcomeArrays,
    Precision,
    Start,
    Trial,
    WholeRace,
    cells_of,
    fit_in_space,
    summed_in,
    tried_here,
)
from ssl_risk_rs.probes.torch_judge import judge_rows, wrong_rows
from ssl_risk_rs.probes.torch_metric import ClassModel
from ssl_risk_rs.probes.torch_moments import add_rows
from ssl_risk_rs.probes.torch_products import full_float32
from ssl_risk_rs.probes.torch_ridge import RidgeEquations
from ssl_risk_rs.probes.torch_rows import DeviceRows
from ssl_risk_rs.probes.torch_space import TorchSpace

__all__ = ["TorchSolver", "targets_of"]


class TorchSolver:
    """See `Solver`; same objective, scaling, start, metric, rules and certificate as `KernelSolver`.

    Parameters
    ----------
    features : copied to the devices where they fit, else read anew by each pass
    devices : "cuda" or "cpu" devices of torch; several share the rows
    resident, block_rows : see `DeviceRows`
    n_threads : of the core, for what is not rows

    Notes
    -----
    Agrees with the core's passes to 1e-6 in the objective; predictions are the same up to near ties.
    """

    def __init__(
        self,
        features: Features,
        devices: "Sequence[torch.device]",
        *,
        resident: bool | None = None,
        block_rows: int | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.features = features
        self.n_threads = n_threads
        self._model: tuple[_core.Design, ClassModel] | None = None
        self._kinds = {device.type for device in devices}
        bounds = np.linspace(0, features.n_rows, len(devices) + 1).astype(int)
        with self._on_devices():
            self.shares = [
                DeviceRows(
                    features,
                    one,
                    begin=int(a),
                    end=int(b),
                    resident=resident,
                    block_rows=block_rows,
                    n_threads=n_threads,
                )
                for one, a, b in zip(devices, bounds[:-1], bounds[1:], strict=True)
            ]
        self._ridge = RidgeEquations(self.shares[0].device)

    @property
    def device(self) -> str:
        """Names of the devices."""
        return ",".join("torch:cpu" if one.device.type == "cpu" else str(one.device) for one in self.shares)

    @property
    def resident(self) -> bool:
        """See `Solver`."""
        return all(one.resident or one.device.type == "cpu" for one in self.shares)

    def release(self) -> None:
        """See `Solver`."""
        for one in self.shares:
            one.release()

    def moments(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        n_classes: int,
        *,
        cells: np.ndarray | None = None,
        n_cells: int | None = None,
        precision: Precision = "auto",
    ) -> "_core.Moments":
        """See `Solver`; "bfloat16" is summed as "float32"."""
        cells, n_cells = cells_of(rows, labels, cells, n_cells)
        _core.judge(self.features.source, rows, labels, [])  # rows and labels in range
        if int(labels[rows].max(initial=0)) >= n_classes:
            raise ParameterError(f"a label is {int(labels[rows].max())}, there are {n_classes} classes")
        wide = summed_in(precision, len(rows), self.features.n_features) == "float64"
        shift = _core.choose_shift(self.features.source, rows)
        moments = _core.Moments(len(shift), n_classes, n_cells=n_cells, shift=shift)
        with self._on_devices(), full_float32():
            for share in self.shares:
                add_rows(moments, share, rows, labels, cells, n_cells, shift=shift, wide=wide)
        return moments

    def solve_ridge(self, design: "_core.Design", alphas: Sequence[float]) -> list["_core.LinearProbe"]:
        """See `Solver`; a Cholesky factorization in float64 for each penalty."""
        found = []
        with self._on_devices():
            for alpha in alphas:
                solved = self._ridge.solve(design, alpha, alone=True)
                if solved is None:  # only an eigendecomposition will do, or the core refuses the penalty
                    found += design.solve_ridge([alpha], n_threads=self.n_threads)
                    continue
                coef, intercept = solved[0].T.contiguous().cpu().numpy(), solved[1].cpu().numpy()
                found.append(_core.LinearProbe(coef, intercept, design.shift, design.scale))
        return found

    def try_ridge(self, design: "_core.Design", alpha: float, rows: np.ndarray, labels: np.ndarray) -> Trial:
        """See `Solver`; the probe does not leave the device."""
        _core.judge(self.features.source, rows, labels, [])  # rows and labels in range
        with self._on_devices(), full_float32():
            probe = self._ridge.probe(design, alpha)
            if probe is not None and int(labels[rows].max(initial=0)) < design.n_classes:
                with suppress(NumericalError):  # `judge` says why
                    return wrong_rows(self.shares, probe, rows, labels), None
        return tried_here(self, design, alpha, rows, labels)

    def ridge_race(self, n_alphas: int) -> "WholeRace":
        """See `Solver`; every penalty is counted to the end, which costs little here."""
        return WholeRace(self, n_alphas)

    def fit_logistic(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        design: "_core.Design",
        alpha: float,
        goal: Goal,
        *,
        start: Start | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> "_core.LogisticFit":
        """See `Solver`."""
        targets = targets_of(rows, labels, design)
        with self._on_devices():
            space = TorchSpace(self.shares, rows, targets, design, self._class_model(design))
            return fit_in_space(space, design, alpha, goal, start, progress)

    def _class_model(self, design: "_core.Design") -> ClassModel:
        """That of a design, made by the first fit on its rows; the last one is kept."""
        if self._model is None or self._model[0] is not design:
            self._model = None  # its memory is free for the next
            self._model = (design, ClassModel(design, self.shares[0].device))
        return self._model[1]

    def judge(self, probes: Sequence["_core.LinearProbe"], rows: np.ndarray, labels: np.ndarray) -> list[OutcomeArrays]:
        """See `Solver`."""
        _core.judge(self.features.source, rows, labels, [])  # rows and labels in range
        with self._on_devices(), full_float32():
            try:
                return judge_rows(self.shares, probes, rows, labels)
            except NumericalError as error:
                (row,) = error.args
                _core.judge(self.features.source, np.array([row], np.uint32), labels, list(probes))  # says why
                raise

    @contextmanager
    def _on_devices(self) -> Iterator[None]:
        """Work on the devices: in full precision inside an autocast of the caller's too, as of a validation step."""
        with ExitStack() as stack:
            stack.enter_context(_DeviceErrors(self.features))
            for kind in self._kinds:
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            yield


class _DeviceErrors:
    """A device that stops answering is an error that says what is safe."""

    def __init__(self, features: Features) -> None:
        self.features = features

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        lost = getattr(torch, "AcceleratorError", None)  # from torch 2.8 on
        if lost is not None and isinstance(error, lost):
            source, first = self.features.source, first_line(error)
            kept = f"features are safe in {source.path}" if isinstance(source, _core.Bank) else "nothing was written"
            raise DeviceError(
                f"the device stopped answering ({first}); {kept}: run the same line again, or with --device cpu"
            ) from error


def targets_of(rows: np.ndarray, labels: np.ndarray, design: "_core.Design") -> np.ndarray:
    """Class of each row among the present ones, int64; the rows must be those of the design."""
    place = np.full(design.n_classes, -1, np.int64)
    place[design.classes] = np.arange(len(design.classes))
    targets: np.ndarray = place[labels[rows]]
    expected = np.round(design.priors * design.n_samples).astype(np.int64)
    if len(rows) != design.n_samples or not np.array_equal(
        np.bincount(targets[targets >= 0], minlength=len(expected)), expected
    ):
        raise ParameterError("the design is of other rows: their classes differ from those of these")
    return targets
