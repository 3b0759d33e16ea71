//! Logistic fits.

use std::sync::{Arc, Mutex, PoisonError};

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use ssl_risk_core::rows::TrainingRows;
use ssl_risk_core::{Run, probe};

use crate::arguments::threads;
use crate::design::Design;
use crate::features::{Features, slice};
use crate::interrupt;
use crate::linear::LinearProbe;
use crate::python_space::{PythonMemory, PythonSpace};

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
    #[pyo3(get)]
    kernel: String,
    #[pyo3(get)]
    reduced_kernel: Option<String>,
    continuation: Continuation,
}

/// What a fit learned, in the space it was made in.
enum Continuation {
    Host(probe::Continuation<probe::HostMemory>),
    Python(probe::Continuation<PythonMemory>),
}

/// A probe, or the fit before on the same rows or some of them.
#[derive(FromPyObject)]
pub enum Start<'py> {
    Fit(PyRef<'py, LogisticFit>),
    Probe(PyRef<'py, LinearProbe>),
}

#[pyfunction]
#[pyo3(signature = (features, rows, labels, design, alpha, *, tol=1e-3, max_passes=200, error_tol=None, draft=false,
                    start=None, reduced=true, n_threads=None, progress=None))]
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
    error_tol: Option<f64>,
    draft: bool,
    start: Option<Start<'_>>,
    reduced: bool,
    n_threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<LogisticFit> {
    let n_threads = threads(n_threads)?;
    let slices = features.slices()?;
    let (rows, labels) = (slice(&rows, "rows")?, slice(&labels, "labels")?);
    let settings = probe::LogisticSettings { alpha, tol, error_tol, draft, max_passes, reduced };
    let start = start_in(start.as_ref(), |fit| match &fit.continuation {
        Continuation::Host(continuation) => Some(continuation),
        Continuation::Python(_) => None,
    });
    let began = std::time::Instant::now();
    let fit = interrupt::run(py, progress.as_ref(), |control| {
        let matrix = slices.matrix()?;
        let training = TrainingRows::new(&matrix, rows, labels, design.design.n_classes)?;
        let model = design.model.get(n_threads)?;
        probe::fit_logistic(training, model, start, settings, Run { n_threads, control })
    })?;
    LogisticFit::new(py, fit, alpha, began, Continuation::Host)
}

impl LogisticFit {
    fn new<M>(
        py: Python<'_>,
        fit: probe::Fit<M>,
        alpha: f64,
        began: std::time::Instant,
        keep: impl FnOnce(probe::Continuation<M>) -> Continuation,
    ) -> PyResult<Self> {
        Ok(Self {
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
            kernel: fit.kernel,
            reduced_kernel: fit.reduced_kernel,
            continuation: keep(fit.continuation),
        })
    }
}

/// [`fit_logistic`] in a space that Python made, whose rows are those of `design`.
#[pyfunction]
#[pyo3(signature = (space, design, alpha, *, tol=1e-3, max_passes=200, error_tol=None, draft=false,
                    start=None, reduced=true, progress=None))]
#[allow(clippy::too_many_arguments)] // the keyword arguments of one Python function
pub fn fit_logistic_in(
    py: Python<'_>,
    space: &Bound<'_, PyAny>,
    design: &Design,
    alpha: f64,
    tol: f64,
    max_passes: usize,
    error_tol: Option<f64>,
    draft: bool,
    start: Option<Start<'_>>,
    reduced: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<LogisticFit> {
    let settings = probe::LogisticSettings { alpha, tol, error_tol, draft, max_passes, reduced };
    let start = start_in(start.as_ref(), |fit| match &fit.continuation {
        Continuation::Host(_) => None,
        Continuation::Python(continuation) => Some(continuation),
    });
    let began = std::time::Instant::now();
    let raised = Arc::new(Mutex::new(None));
    let space = PythonSpace::new(space, &design.design, &raised)?;
    let fit = interrupt::run(py, progress.as_ref(), |control| {
        probe::fit_in(&space.with_control(control), &design.design, start, settings)
    });
    match raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error),
        None => LogisticFit::new(py, fit?, alpha, began, Continuation::Python),
    }
}

/// Where a fit begins; what a fit of another space learned is left behind.
fn start_in<'a, M>(
    start: Option<&'a Start<'_>>,
    continuation: impl FnOnce(&'a LogisticFit) -> Option<&'a probe::Continuation<M>>,
) -> probe::Start<'a, M> {
    match start {
        None => probe::Start::Discriminant,
        Some(Start::Probe(probe)) => probe::Start::Probe(&probe.0),
        Some(Start::Fit(fit)) => match continuation(fit) {
            Some(continuation) => probe::Start::Continue(&fit.probe.get().0, continuation),
            None => probe::Start::Probe(&fit.probe.get().0),
        },
    }
}
