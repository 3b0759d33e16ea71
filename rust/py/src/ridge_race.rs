//! A choice among ridge penalties.

use std::sync::{Mutex, MutexGuard};

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use ssl_risk_core::rows::TrainingRows;
use ssl_risk_core::{Run, probe};

use crate::arguments::threads;
use crate::design::Design;
use crate::features::{Features, slice};
use crate::interrupt;

#[pyclass(frozen, module = "ssl_risk_rs._core")]
pub struct RidgeRace {
    race: Mutex<probe::RidgeRace>,
    n_alphas: usize,
}

impl RidgeRace {
    fn race(&self) -> MutexGuard<'_, probe::RidgeRace> {
        self.race.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn of_each<'py>(
        &self,
        py: Python<'py>,
        value: impl Fn(&probe::RidgeRace, usize) -> u64,
    ) -> Bound<'py, PyArray1<i64>> {
        let race = self.race();
        (0..self.n_alphas).map(|i| value(&race, i) as i64).collect::<Vec<_>>().into_pyarray(py)
    }
}

#[pymethods]
impl RidgeRace {
    #[new]
    fn new(n_alphas: usize) -> Self {
        Self { race: Mutex::new(probe::RidgeRace::new(n_alphas)), n_alphas }
    }

    /// Judge the penalties in the race on rows, by the design of others.
    #[pyo3(signature = (design, features, rows, labels, alphas, *, n_threads=None))]
    #[allow(clippy::too_many_arguments)] // the keyword arguments of one Python function
    fn add(
        &self,
        py: Python<'_>,
        design: &Design,
        features: Features<'_>,
        rows: PyReadonlyArray1<'_, u32>,
        labels: PyReadonlyArray1<'_, u32>,
        alphas: Vec<f64>,
        n_threads: Option<usize>,
    ) -> PyResult<()> {
        let n_threads = threads(n_threads)?;
        let slices = features.slices()?;
        let (rows, labels) = (slice(&rows, "rows")?, slice(&labels, "labels")?);
        let mut race = self.race().clone(); // nobody waits for the lock with the GIL
        let race = interrupt::run(py, None, |control| {
            let matrix = slices.matrix()?;
            let judged = TrainingRows::new(&matrix, rows, labels, design.design.n_classes)?;
            race.add(judged, &design.design, &alphas, Run { n_threads, control })?;
            Ok(race)
        })?;
        *self.race() = race;
        Ok(())
    }

    /// (n_running) indices of the penalties that are in the race
    #[getter]
    fn running(&self) -> Vec<usize> {
        self.race().running()
    }

    /// (n_alphas) rows predicted wrongly
    #[getter]
    fn errors<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.of_each(py, probe::RidgeRace::errors)
    }

    /// (n_alphas) rows judged
    #[getter]
    fn judged<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.of_each(py, probe::RidgeRace::judged)
    }
}
