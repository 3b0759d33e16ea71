//! What probes do on rows they are judged on.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use ssl_risk_core::rows::TrainingRows;
use ssl_risk_core::{Run, probe, risk};

use crate::arguments::threads;
use crate::features::{Features, slice};
use crate::interrupt;
use crate::linear::LinearProbe;

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
        let matrix = slices.matrix()?;
        // without probes any class will do
        let n_classes = probes.iter().map(|probe| probe.n_classes()).min().unwrap_or(usize::MAX);
        let judged = TrainingRows::new(&matrix, rows, labels, n_classes)?;
        risk::judge(judged, &probes, Run { n_threads, control })
    })?;
    Ok(outcomes
        .into_iter()
        .map(|o| {
            let (predicted, rank) = (o.predicted.into_pyarray(py), o.rank.into_pyarray(py));
            (predicted, rank, o.loss.into_pyarray(py), o.margin.into_pyarray(py))
        })
        .collect())
}
