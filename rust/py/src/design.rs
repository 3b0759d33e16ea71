//! Statistics of one fit's rows, and the ridge probes they give.

use std::sync::OnceLock;

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use ssl_risk_core::kernel::parallel::install;
use ssl_risk_core::{moments, probe};

use crate::arguments::{once, threads};
use crate::features::{Features, slice};
use crate::interrupt;
use crate::linear::LinearProbe;

#[pyclass(frozen, module = "ssl_risk_rs._core")]
pub struct Design {
    pub design: moments::Design,
    /// Made by the first logistic fit.
    pub model: OnceLock<probe::ClassModel>,
    /// Made by the first ridge fit.
    factor: OnceLock<probe::RidgeFactor>,
}

impl Design {
    pub fn new(design: moments::Design) -> Self {
        Self { design, model: OnceLock::new(), factor: OnceLock::new() }
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
