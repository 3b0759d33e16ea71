//! Statistics of one fit's rows, and the ridge probes they give.

use std::sync::{Arc, Mutex, OnceLock};

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use ssl_risk_core::kernel::parallel::install;
use ssl_risk_core::rows::TrainingRows;
use ssl_risk_core::{Run, moments, probe};

use crate::arguments::{once, threads};
use crate::features::{Features, slice};
use crate::interrupt;
use crate::linear::LinearProbe;

/// The class model of a design, made by the first logistic fit, and that of a design with nearly the same rows.
pub struct LazyModel {
    design: Arc<moments::Design>,
    /// Let go of once its basis has been looked at.
    like: Mutex<Option<Arc<LazyModel>>>,
    made: OnceLock<probe::ClassModel>,
}

impl LazyModel {
    /// Made on so many threads the first time.
    pub fn get(&self, n_threads: usize) -> ssl_risk_core::Result<&probe::ClassModel> {
        once(&self.made, || {
            let like = self.like.lock().unwrap_or_else(|e| e.into_inner()).take();
            let like = like.as_ref().map(|like| like.get(n_threads)).transpose()?;
            install(n_threads, || probe::ClassModel::new(self.design.clone(), like))
        })
    }
}

#[pyclass(frozen, module = "ssl_risk_rs._core")]
pub struct Design {
    pub design: Arc<moments::Design>,
    pub model: Arc<LazyModel>,
    /// Made by the first ridge fit.
    factor: OnceLock<probe::RidgeFactor>,
}

impl Design {
    /// `like`: see [`probe::ClassModel::new`].
    pub fn new(design: moments::Design, like: Option<&Self>) -> Self {
        let design = Arc::new(design);
        let like = Mutex::new(like.map(|like| like.model.clone()));
        let model = Arc::new(LazyModel { design: design.clone(), like, made: OnceLock::new() });
        Self { design, model, factor: OnceLock::new() }
    }

    fn factor(&self) -> ssl_risk_core::Result<&probe::RidgeFactor> {
        once(&self.factor, || probe::RidgeFactor::new(self.design.clone()))
    }
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
    fn n_classes(&self) -> usize {
        self.design.n_classes
    }

    /// (d) in raw coordinates
    #[getter]
    fn shift<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        self.design.affine.shift.clone().into_pyarray(py)
    }

    /// (d)
    #[getter]
    fn scale<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        self.design.affine.scale.clone().into_pyarray(py)
    }

    /// (k′)
    #[getter]
    fn priors<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.design.priors.clone().into_pyarray(py)
    }

    /// (k′, d)
    #[getter]
    fn means<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (k, d) = (self.design.classes.len(), self.design.n_features());
        self.design.means.clone().into_pyarray(py).reshape([k, d])
    }

    /// (d, d)
    #[getter]
    fn covariance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let d = self.design.n_features();
        self.design.covariance.clone().into_pyarray(py).reshape([d, d])
    }

    /// (d)
    #[getter]
    fn offset<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.design.offset.clone().into_pyarray(py)
    }

    #[getter]
    fn alpha_floor(&self) -> f64 {
        probe::alpha_floor(&self.design)
    }

    /// (n_constant) indices of features that do not vary.
    #[getter]
    fn constant<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        self.design.affine.constant().into_pyarray(py)
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
            let factor = install(n_threads, || self.factor())?;
            let matrix = slices.matrix()?;
            let judged = TrainingRows::new(&matrix, rows, labels, self.design.n_classes)?;
            probe::ridge_errors(judged, factor, &alphas, Run { n_threads, control })
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
            let solve = |&alpha: &f64| {
                if !reuse
                    && self.factor.get().is_none()
                    && let Some(linear) = probe::solve_ridge(&self.design, alpha)?
                {
                    return Ok(linear);
                }
                self.factor()?.solve(alpha) // kept for later penalties
            };
            alphas.iter().map(solve).collect::<Result<Vec<_>, _>>()
        };
        let probes = interrupt::run(py, None, |_| install(n_threads, solve))?;
        Ok(probes.into_iter().map(LinearProbe).collect())
    }
}
