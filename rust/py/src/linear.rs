//! A linear probe.

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use ssl_risk_core::moments::RowScaling;
use ssl_risk_core::rows::TrainingRows;
use ssl_risk_core::scaling::Affine;
use ssl_risk_core::{Run, probe, risk};

use crate::arguments::{scaling_from, threads};
use crate::error::ParameterError;
use crate::features::{Features, slice};
use crate::interrupt;

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
        Ok((slf.get_type().into_any(), slf.get().scaled(slf.py())?))
    }

    /// (coef (k, d), intercept (k), shift (d), scale (d))
    fn scaled<'py>(&self, py: Python<'py>) -> PyResult<Parameters<'py>> {
        let linear = &self.0;
        let (d, k) = (linear.affine.shift.len(), linear.n_classes());
        let coef: Vec<f64> = (0..k * d).map(|i| linear.weights[i % d * k + i / d]).collect();
        let parameters = (
            coef.into_pyarray(py).reshape([k, d])?,
            linear.intercept.clone().into_pyarray(py),
            linear.affine.shift.clone().into_pyarray(py),
            linear.affine.scale.clone().into_pyarray(py),
        );
        Ok(parameters)
    }

    #[getter]
    fn n_classes(&self) -> usize {
        self.0.n_classes()
    }

    /// (n_constant) indices of features of scale 0
    #[getter]
    fn constant<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        self.0.affine.constant().into_pyarray(py)
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
            risk::scores(&slices.matrix()?, rows, &self.0, Run { n_threads, control })
        })?;
        scores.into_pyarray(py).reshape([rows.len(), self.0.n_classes()])
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
        let training = TrainingRows::new(&matrix, rows, labels, n_classes)?;
        Ok(probe::solve_ridge_dual(training, scaling, &alphas, Run { n_threads, control })?.0)
    })?;
    Ok(probes.into_iter().map(LinearProbe).collect())
}

/// How rows scale their features.
#[pyclass(frozen, module = "ssl_risk_rs._core")]
pub struct FeatureScaling(RowScaling);

#[pymethods]
impl FeatureScaling {
    /// (d) means of raw features
    #[getter]
    fn mean<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.0.mean.clone().into_pyarray(py)
    }

    /// (d) in raw coordinates
    #[getter]
    fn shift<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        self.0.affine.shift.clone().into_pyarray(py)
    }

    /// (d)
    #[getter]
    fn scale<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        self.0.affine.scale.clone().into_pyarray(py)
    }

    /// (d) where the means lie in scaled coordinates
    #[getter]
    fn offset<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.0.offset.clone().into_pyarray(py)
    }

    /// (n_constant) indices of features that do not vary.
    #[getter]
    fn constant<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        self.0.affine.constant().into_pyarray(py)
    }

    #[getter]
    fn mean_variance(&self) -> f64 {
        self.0.mean_variance
    }
}

#[pyfunction]
#[pyo3(signature = (features, rows, *, scaling="none"))]
pub fn feature_scaling(
    py: Python<'_>,
    features: Features<'_>,
    rows: PyReadonlyArray1<'_, u32>,
    scaling: &str,
) -> PyResult<FeatureScaling> {
    let scaling = scaling_from(scaling)?;
    let slices = features.slices()?;
    let rows = slice(&rows, "rows")?;
    let scaled = interrupt::run(py, None, |_| RowScaling::new(&slices.matrix()?, rows, scaling))?;
    Ok(FeatureScaling(scaled))
}
