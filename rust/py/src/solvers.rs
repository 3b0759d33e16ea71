//! Moments, probes and their judgement.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock};

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use ssl_risk_core::kernel::Precision;
use ssl_risk_core::kernel::parallel::{default_threads, install};
use ssl_risk_core::moments::{self, Affine, Scaling};
use ssl_risk_core::{probe, risk};

use crate::error::{ParameterError, to_py};
use crate::features::{Features, slice};
use crate::interrupt;

fn scaling_from(name: &str) -> PyResult<Scaling> {
    match name {
        "none" => Ok(Scaling::None),
        "standardize" => Ok(Scaling::Standardize),
        "minmax" => Ok(Scaling::MinMax),
        other => Err(ParameterError::new_err(format!(
            "scaling must be 'none', 'standardize' or 'minmax', got {other:?}"
        ))),
    }
}

pub fn threads(n_threads: Option<usize>) -> PyResult<usize> {
    match n_threads {
        None => Ok(default_threads()),
        Some(0) => Err(ParameterError::new_err("n_threads must be at least 1")),
        Some(n) => Ok(n),
    }
}

/// Sufficient statistics of rows, by cell: one pass serves every complement, fold, scaling and penalty.
///
/// A row belongs to one cell (a fold or a held-out subset). Each cell keeps class counts, sums by class,
/// ranges and Σ (x−c)(x−c)ᵀ with the shift c (`choose_shift`). Blocks are summed in float32, across blocks in
/// float64.
///
/// update(features, rows, labels, cells): add rows, in one pass
/// merge(other), subtract(other): add or take away what another object saw
/// solve(alphas, cells=None, *, scaling="none"): a ridge probe for each penalty,
///     min_W,b  (1/2n) ‖X W + 1bᵀ − Y‖² + (α/2) ‖W‖²
/// save(path), load(path): a checked file, the same bits
#[pyclass(frozen, module = "ssl_risk_rs._core")]
pub struct Moments(Mutex<moments::Moments>);

impl Moments {
    fn lock(&self) -> MutexGuard<'_, moments::Moments> {
        // a poisoned lock means a panic in an update, which leaves the moments unchanged
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[pymethods]
impl Moments {
    #[new]
    #[pyo3(signature = (n_features, n_classes, *, n_cells=1, shift=None, rounded=false))]
    fn new(
        n_features: usize,
        n_classes: usize,
        n_cells: usize,
        shift: Option<PyReadonlyArray1<'_, f32>>,
        rounded: bool,
    ) -> PyResult<Self> {
        let shift = match &shift {
            Some(array) => slice(array, "shift")?.to_vec(),
            None => vec![0.0; n_features],
        };
        if shift.len() != n_features {
            return Err(crate::error::ShapeError::new_err(format!(
                "shift has {} features, expected {n_features}",
                shift.len()
            )));
        }
        let precision = if rounded { Precision::Bf16 } else { Precision::Exact };
        let moments = moments::Moments::new(n_classes, n_cells, shift).map_err(to_py)?;
        Ok(Self(Mutex::new(moments.with_precision(precision))))
    }

    #[getter]
    fn n_features(&self) -> usize {
        self.lock().n_features()
    }

    #[getter]
    fn n_classes(&self) -> usize {
        self.lock().n_classes()
    }

    #[getter]
    fn n_cells(&self) -> usize {
        self.lock().n_cells()
    }

    #[pyo3(signature = (features, rows, labels, cells, *, n_threads=None))]
    fn update(
        &self,
        py: Python<'_>,
        features: Features<'_>,
        rows: PyReadonlyArray1<'_, u32>,
        labels: PyReadonlyArray1<'_, u32>,
        cells: PyReadonlyArray1<'_, u8>,
        n_threads: Option<usize>,
    ) -> PyResult<()> {
        let n_threads = threads(n_threads)?;
        let slices = features.slices()?;
        let (rows, labels, cells) =
            (slice(&rows, "rows")?, slice(&labels, "labels")?, slice(&cells, "cells")?);
        if cells.len() != labels.len() {
            return Err(crate::error::ShapeError::new_err(format!(
                "cells has {} entries, expected {} (labels)",
                cells.len(),
                labels.len()
            )));
        }
        interrupt::run(py, None, |control| {
            self.lock().update(&slices.matrix()?, rows, labels, cells, n_threads, control)
        })
    }

    fn merge(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        let other = other.lock().clone();
        py.detach(|| self.lock().merge(&other)).map_err(to_py)
    }

    fn subtract(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        let other = other.lock().clone();
        py.detach(|| self.lock().subtract(&other)).map_err(to_py)
    }

    #[pyo3(signature = (alphas, cells=None, *, scaling="none", n_threads=None))]
    fn solve(
        &self,
        py: Python<'_>,
        alphas: Vec<f64>,
        cells: Option<Vec<usize>>,
        scaling: &str,
        n_threads: Option<usize>,
    ) -> PyResult<Vec<LinearProbe>> {
        let (scaling, n_threads) = (scaling_from(scaling)?, threads(n_threads)?);
        let probes = interrupt::run(py, None, |_| {
            let moments = self.lock();
            let cells = cells.unwrap_or_else(|| (0..moments.n_cells()).collect());
            install(n_threads, || moments.solve(&alphas, &cells, scaling))
        })?;
        Ok(probes.into_iter().map(LinearProbe).collect())
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.lock().save(&path)).map_err(to_py)
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| moments::Moments::load(&path)).map(|m| Self(Mutex::new(m))).map_err(to_py)
    }

    fn __repr__(&self) -> String {
        let moments = self.lock();
        let cells: Vec<usize> = (0..moments.n_cells()).collect();
        let rows: u64 = moments.counts(&cells).iter().sum();
        format!(
            "Moments({} features, {} classes, {} cells, {rows} rows)",
            moments.n_features(),
            moments.n_classes(),
            moments.n_cells()
        )
    }

    #[pyo3(signature = (cells=None, *, scaling="none"))]
    fn design(&self, py: Python<'_>, cells: Option<Vec<usize>>, scaling: &str) -> PyResult<Design> {
        let scaling = scaling_from(scaling)?;
        py.detach(|| {
            let moments = self.lock();
            let cells = cells.unwrap_or_else(|| (0..moments.n_cells()).collect());
            moments.design(&cells, scaling)
        })
        .map(|design| Design { design, model: OnceLock::new(), factor: OnceLock::new() })
        .map_err(to_py)
    }
}

#[pyfunction]
pub fn choose_shift<'py>(
    py: Python<'py>,
    features: Features<'py>,
    rows: PyReadonlyArray1<'py, u32>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let slices = features.slices()?;
    let rows = slice(&rows, "rows")?;
    let shift = py.detach(|| moments::choose_shift(&slices.matrix()?, rows)).map_err(to_py)?;
    Ok(shift.into_pyarray(py))
}

#[pyfunction]
#[pyo3(signature = (features, rows, *, n_threads=None))]
pub fn feature_means<'py>(
    py: Python<'py>,
    features: Features<'py>,
    rows: PyReadonlyArray1<'py, u32>,
    n_threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let n_threads = threads(n_threads)?;
    let slices = features.slices()?;
    let rows = slice(&rows, "rows")?;
    let means = interrupt::run(py, None, |control| {
        moments::feature_means(&slices.matrix()?, rows, n_threads, control)
    })?;
    Ok(means.into_pyarray(py))
}

#[pyclass(frozen, module = "ssl_risk_rs._core")]
pub struct Design {
    design: moments::Design,
    /// Made by the first logistic fit.
    model: OnceLock<probe::ClassModel>,
    /// Made by the first ridge fit.
    factor: OnceLock<probe::RidgeFactor>,
}

/// What `cell` holds, made by `make` the first time.
fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> ssl_risk_core::Result<T>) -> ssl_risk_core::Result<&T> {
    if let Some(made) = cell.get() {
        return Ok(made);
    }
    let made = make()?;
    Ok(cell.get_or_init(|| made))
}

#[pymethods]
impl Design {
    #[getter]
    fn n_samples(&self) -> usize {
        self.design.n
    }

    #[getter]
    fn mean_variance(&self) -> f64 {
        self.design.mean_variance()
    }

    #[getter]
    fn alpha_floor(&self) -> f64 {
        probe::alpha_floor(&self.design)
    }

    #[getter]
    fn classes(&self) -> Vec<usize> {
        self.design.classes.clone()
    }

    /// Errors (n_alphas) on `rows` of the probes at these penalties.
    #[pyo3(signature = (features, rows, labels, alphas, *, n_threads=None))]
    fn ridge_errors(
        &self,
        py: Python<'_>,
        features: Features<'_>,
        rows: PyReadonlyArray1<'_, u32>,
        labels: PyReadonlyArray1<'_, u32>,
        alphas: Vec<f64>,
        n_threads: Option<usize>,
    ) -> PyResult<Vec<u64>> {
        let n_threads = threads(n_threads)?;
        let slices = features.slices()?;
        let (rows, labels) = (slice(&rows, "rows")?, slice(&labels, "labels")?);
        interrupt::run(py, None, |control| {
            let factor = once(&self.factor, || install(n_threads, || probe::RidgeFactor::new(&self.design)))?;
            let matrix = slices.matrix()?;
            probe::ridge_errors(&matrix, rows, labels, &self.design, factor, &alphas, n_threads, control)
        })
    }

    #[pyo3(signature = (alphas, *, reuse=true, n_threads=None))]
    fn solve_ridge(
        &self,
        py: Python<'_>,
        alphas: Vec<f64>,
        reuse: bool,
        n_threads: Option<usize>,
    ) -> PyResult<Vec<LinearProbe>> {
        let n_threads = threads(n_threads)?;
        let solve = || {
            if !reuse && self.factor.get().is_none() {
                let solve = |&alpha| probe::solve_ridge(&self.design, alpha);
                return alphas.iter().map(solve).collect::<Result<Vec<_>, _>>();
            }
            let factor = once(&self.factor, || probe::RidgeFactor::new(&self.design))?;
            alphas.iter().map(|&alpha| factor.solve(&self.design, alpha)).collect::<Result<Vec<_>, _>>()
        };
        let probes = interrupt::run(py, None, |_| install(n_threads, solve))?;
        Ok(probes.into_iter().map(LinearProbe).collect())
    }
}

#[pyclass(frozen, module = "ssl_risk_rs._core")]
pub struct LinearProbe(pub probe::Linear);

/// (coef (k, d), intercept (k), shift (d), scale (d))
type Parameters<'py> = (
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<f32>>,
);

/// (coef (k, d), intercept (k))
type RawProbe<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<f64>>);

#[pymethods]
impl LinearProbe {
    #[new]
    #[pyo3(signature = (coef, intercept, shift=None, scale=None))]
    fn new(
        coef: numpy::PyReadonlyArray2<'_, f64>,
        intercept: PyReadonlyArray1<'_, f64>,
        shift: Option<PyReadonlyArray1<'_, f32>>,
        scale: Option<PyReadonlyArray1<'_, f32>>,
    ) -> PyResult<Self> {
        let coef = coef.as_array();
        let intercept = slice(&intercept, "intercept")?.to_vec();
        let (k, d) = coef.dim();
        if k != intercept.len() || d == 0 || k == 0 {
            return Err(crate::error::ShapeError::new_err(format!(
                "coef is {k} x {d}, intercept has {} classes",
                intercept.len()
            )));
        }
        let of_features = |array: Option<PyReadonlyArray1<'_, f32>>, name: &str, default: f32| match &array {
            None => Ok(vec![default; d]),
            Some(array) => match slice(array, name)? {
                values if values.len() == d => Ok(values.to_vec()),
                values => Err(crate::error::ShapeError::new_err(format!(
                    "{name} has {} features, expected {d} (coef)",
                    values.len()
                ))),
            },
        };
        let affine =
            Affine { shift: of_features(shift, "shift", 0.0)?, scale: of_features(scale, "scale", 1.0)? };
        let linear = probe::Linear { affine, weights: coef.t().iter().copied().collect(), intercept };
        let of_inputs = linear.affine.shift.iter().chain(&linear.affine.scale).all(|v| v.is_finite());
        if !of_inputs || !linear.weights.iter().chain(&linear.intercept).all(|v| v.is_finite()) {
            return Err(ParameterError::new_err("coef, intercept, shift and scale must be finite"));
        }
        Ok(Self(linear))
    }

    /// Pickles hold the scaled coordinates: the copy gives the same bits.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Parameters<'py>)> {
        let (py, linear) = (slf.py(), &slf.get().0);
        let (d, k) = (linear.affine.shift.len(), linear.n_classes());
        let coef: Vec<f64> = (0..k * d).map(|i| linear.weights[i % d * k + i / d]).collect();
        let parameters = (
            coef.into_pyarray(py).reshape([k, d])?,
            linear.intercept.clone().into_pyarray(py),
            linear.affine.shift.clone().into_pyarray(py),
            linear.affine.scale.clone().into_pyarray(py),
        );
        Ok((slf.get_type().into_any(), parameters))
    }

    #[getter]
    fn n_classes(&self) -> usize {
        self.0.n_classes()
    }

    /// (coef (k, d), intercept (k)) on raw features
    fn raw<'py>(&self, py: Python<'py>) -> PyResult<RawProbe<'py>> {
        let (weights, intercept) = self.0.raw();
        let (d, k) = (self.0.affine.shift.len(), intercept.len());
        let coef: Vec<f64> = (0..k * d).map(|i| weights[i % d * k + i / d]).collect();
        Ok((coef.into_pyarray(py).reshape([k, d])?, intercept.into_pyarray(py)))
    }

    #[pyo3(signature = (features, rows, *, n_threads=None))]
    fn scores<'py>(
        &self,
        py: Python<'py>,
        features: Features<'py>,
        rows: PyReadonlyArray1<'py, u32>,
        n_threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let n_threads = threads(n_threads)?;
        let slices = features.slices()?;
        let rows = slice(&rows, "rows")?;
        let scores = interrupt::run(py, None, |control| {
            let matrix = slices.matrix()?;
            check_range(rows, matrix.n_rows())?;
            risk::scores(&matrix, rows, &self.0, n_threads, control)
        })?;
        scores.into_pyarray(py).reshape([rows.len(), self.0.n_classes()])
    }
}

fn check_range(rows: &[u32], n: usize) -> ssl_risk_core::Result<()> {
    match rows.iter().find(|&&row| row as usize >= n) {
        Some(row) => Err(ssl_risk_core::Error::Parameter(format!("row {row} of {n}"))),
        None => Ok(()),
    }
}

#[pyfunction]
#[pyo3(signature = (features, rows, labels, n_classes, alphas, *, scaling="none", n_threads=None))]
#[allow(clippy::too_many_arguments)] // the keyword arguments of one Python function
pub fn solve_ridge_dual(
    py: Python<'_>,
    features: Features<'_>,
    rows: PyReadonlyArray1<'_, u32>,
    labels: PyReadonlyArray1<'_, u32>,
    n_classes: usize,
    alphas: Vec<f64>,
    scaling: &str,
    n_threads: Option<usize>,
) -> PyResult<Vec<LinearProbe>> {
    let (n_threads, scaling) = (threads(n_threads)?, scaling_from(scaling)?);
    let slices = features.slices()?;
    let (rows, labels) = (slice(&rows, "rows")?, slice(&labels, "labels")?);
    let probes = interrupt::run(py, None, |control| {
        let matrix = slices.matrix()?;
        probe::solve_ridge_dual(&matrix, rows, labels, n_classes, scaling, &alphas, n_threads, control)
    })?;
    Ok(probes.into_iter().map(LinearProbe).collect())
}

#[pyclass(frozen, module = "ssl_risk_rs._core")]
pub struct LogisticFit {
    #[pyo3(get)]
    probe: Py<LinearProbe>,
    #[pyo3(get)]
    alpha: f64,
    #[pyo3(get)]
    objective: f64,
    #[pyo3(get)]
    gap: f64,
    #[pyo3(get)]
    converged: bool,
    #[pyo3(get)]
    stop: &'static str,
    #[pyo3(get)]
    passes: f64,
    #[pyo3(get)]
    reduced_passes: f64,
    #[pyo3(get)]
    train_error: f64,
    #[pyo3(get)]
    seconds: f64,
    /// Large, and of use once: the next fit on the same rows takes it.
    continuation: Mutex<Option<probe::Continuation>>,
}

/// A probe, or the fit before on the same rows.
#[derive(FromPyObject)]
pub enum Start<'py> {
    Fit(PyRef<'py, LogisticFit>),
    Probe(PyRef<'py, LinearProbe>),
}

#[pyfunction]
#[pyo3(signature = (features, rows, labels, design, alpha, *, tol=1e-3, max_passes=200, start=None,
                    reduced=true, n_threads=None, progress=None))]
#[allow(clippy::too_many_arguments)] // the keyword arguments of one Python function
pub fn fit_logistic(
    py: Python<'_>,
    features: Features<'_>,
    rows: PyReadonlyArray1<'_, u32>,
    labels: PyReadonlyArray1<'_, u32>,
    design: &Design,
    alpha: f64,
    tol: f64,
    max_passes: usize,
    start: Option<Start<'_>>,
    reduced: bool,
    n_threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<LogisticFit> {
    let n_threads = threads(n_threads)?;
    let slices = features.slices()?;
    let (rows, labels) = (slice(&rows, "rows")?, slice(&labels, "labels")?);
    let settings = probe::LogisticSettings { alpha, tol, max_passes, reduced, n_threads };
    let start = match &start {
        None => probe::Start::Discriminant,
        Some(Start::Probe(probe)) => probe::Start::Probe(&probe.0),
        Some(Start::Fit(fit)) => {
            let probe = &fit.probe.get().0;
            match fit.continuation.lock().unwrap_or_else(|e| e.into_inner()).take() {
                Some(continuation) => probe::Start::Continue(probe, continuation),
                None => probe::Start::Probe(probe),
            }
        }
    };
    let began = std::time::Instant::now();
    let fit = interrupt::run(py, progress.as_ref(), |control| {
        let matrix = slices.matrix()?;
        let model = once(&design.model, || install(n_threads, || probe::ClassModel::new(&design.design)))?;
        probe::fit_logistic(&matrix, rows, labels, &design.design, model, start, settings, control)
    })?;
    Ok(LogisticFit {
        alpha,
        objective: fit.objective,
        gap: fit.gap,
        converged: fit.converged(),
        stop: fit.stop.name(),
        passes: fit.passes,
        reduced_passes: fit.reduced_passes,
        train_error: fit.train_error,
        seconds: began.elapsed().as_secs_f64(),
        probe: Py::new(py, LinearProbe(fit.probe))?,
        continuation: Mutex::new(Some(fit.continuation)),
    })
}

/// (predicted u32, rank u32, loss f32, margin f32), each (n)
type Judgement<'py> = (
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<f32>>,
);

#[pyfunction]
#[pyo3(signature = (features, rows, labels, probes, *, n_threads=None))]
pub fn judge<'py>(
    py: Python<'py>,
    features: Features<'py>,
    rows: PyReadonlyArray1<'py, u32>,
    labels: PyReadonlyArray1<'py, u32>,
    probes: Vec<PyRef<'py, LinearProbe>>,
    n_threads: Option<usize>,
) -> PyResult<Vec<Judgement<'py>>> {
    let n_threads = threads(n_threads)?;
    let slices = features.slices()?;
    let (rows, labels) = (slice(&rows, "rows")?, slice(&labels, "labels")?);
    let probes: Vec<&probe::Linear> = probes.iter().map(|p| &p.0).collect();
    let outcomes = interrupt::run(py, None, |control| {
        risk::judge(&slices.matrix()?, rows, labels, &probes, n_threads, control)
    })?;
    Ok(outcomes
        .into_iter()
        .map(|o| {
            let (predicted, rank) = (o.predicted.into_pyarray(py), o.rank.into_pyarray(py));
            (predicted, rank, o.loss.into_pyarray(py), o.margin.into_pyarray(py))
        })
        .collect())
}
