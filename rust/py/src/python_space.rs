//! Fits whose vectors and rows lie on a device that only Python knows: each operation of the descent is a method call.

use std::sync::{Arc, Mutex, PoisonError};

use numpy::{IntoPyArray, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use ssl_risk_core::moments::Design;
use ssl_risk_core::probe::{Collect, Evaluation, Rounding, Space};
use ssl_risk_core::{Control, Error, Result};

/// Counts rows as visited, and ends a pass that was cancelled.
#[pyclass(frozen, module = "ssl_risk_rs._core")]
pub struct PassControl(Arc<Control>);

#[pymethods]
impl PassControl {
    fn advance(&self, rows: usize) -> PyResult<()> {
        self.0.advance(rows).map_err(|_| PyKeyboardInterrupt::new_err(()))
    }
}

/// A value that only Python knows: a vector, a curvature, a metric.
type Handle = Py<PyAny>;

/// Memory of a fit in such a space; a clone is a copy that shares the steps.
pub struct PythonMemory(Handle);

impl Clone for PythonMemory {
    fn clone(&self) -> Self {
        Python::attach(|py| Self(self.0.clone_ref(py)))
    }
}

/// The space of a fit: an object with the methods that `_core.pyi` lists at `fit_logistic_in`.
pub struct PythonSpace {
    object: Handle,
    n_rows: usize,
    reduces: bool,
    /// Of exact and of reduced passes.
    kernels: (String, String),
    d: usize,
    k: usize,
    control: Arc<Control>,
    /// What a call raised; the core sees an interruption.
    raised: Arc<Mutex<Option<PyErr>>>,
}

impl PythonSpace {
    pub fn new(
        object: &Bound<'_, PyAny>,
        design: &Design,
        raised: &Arc<Mutex<Option<PyErr>>>,
    ) -> PyResult<Self> {
        Ok(Self {
            object: object.clone().unbind(),
            n_rows: object.getattr("n_rows")?.extract()?,
            reduces: object.getattr("reduces")?.extract()?,
            kernels: object.getattr("kernels")?.extract()?,
            d: design.n_features(),
            k: design.classes.len(),
            control: Arc::new(Control::new()),
            raised: raised.clone(),
        })
    }

    #[must_use]
    pub fn with_control(self, control: &Arc<Control>) -> Self {
        Self { control: control.clone(), ..self }
    }

    /// Call Python; an exception is kept for the caller of the fit.
    fn attach<T>(&self, call: impl FnOnce(Python<'_>) -> PyResult<T>) -> Result<T> {
        Python::attach(call).map_err(|error| {
            *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            Error::Interrupted
        })
    }

    /// Call a method of the object.
    fn call<T>(
        &self,
        method: &str,
        arguments: impl for<'py> PyCallArgs<'py>,
        extract: impl FnOnce(Bound<'_, PyAny>) -> PyResult<T>,
    ) -> Result<T> {
        self.attach(|py| extract(self.object.bind(py).call_method1(method, arguments)?))
    }

    fn handle(&self, method: &str, arguments: impl for<'py> PyCallArgs<'py>) -> Result<Handle> {
        self.call(method, arguments, |found| Ok(found.unbind()))
    }

    fn number(&self, method: &str, arguments: impl for<'py> PyCallArgs<'py>) -> Result<f64> {
        self.call(method, arguments, |found| found.extract())
    }

    fn check(&self, what: &'static str, got: usize, expected: usize) -> Result<()> {
        if got == expected { Ok(()) } else { Err(Error::Shape { what, got, expected }) }
    }
}

/// (objective, entropy, train error, gradient, ‖∇_W‖², excess (k), curvature, sample (m, k))
type Found<'py> = (
    f64,
    f64,
    f64,
    Handle,
    f64,
    PyReadonlyArray1<'py, f64>,
    Option<Handle>,
    Option<PyReadonlyArray2<'py, f32>>,
);

impl Space for PythonSpace {
    type Vector = Handle;
    type Curvature = Handle;
    type Metric = Handle;
    type Memory = PythonMemory;

    fn n_rows(&self) -> usize {
        self.n_rows
    }

    fn reduces(&self) -> bool {
        self.reduces
    }

    fn kernel(&self, reduced: bool) -> &str {
        if reduced { &self.kernels.1 } else { &self.kernels.0 }
    }

    fn discriminant(&self) -> Result<Handle> {
        self.handle("discriminant", ())
    }

    fn vector(&self, values: Vec<f64>) -> Result<Handle> {
        self.attach(|py| {
            let values = values.into_pyarray(py).reshape([self.d + 1, self.k])?;
            Ok(self.object.bind(py).call_method1("vector", (values,))?.unbind())
        })
    }

    fn values(&self, v: &Handle) -> Result<Vec<f64>> {
        let values = self.call("values", (v,), |found| {
            let array: PyReadonlyArray2<'_, f64> = found.extract()?;
            Ok(array.as_array().iter().copied().collect::<Vec<f64>>())
        })?;
        self.check("number of values of a vector", values.len(), (self.d + 1) * self.k)?;
        Ok(values)
    }

    fn weights_square(&self, point: &Handle) -> Result<f64> {
        self.number("weights_square", (point,))
    }

    fn centred(&self, v: Handle) -> Result<Handle> {
        self.handle("centred", (v,))
    }

    fn step(&self, point: &Handle, length: f64, direction: &Handle) -> Result<Handle> {
        self.handle("step", (point, length, direction))
    }

    fn scaled(&self, factor: f64, v: &Handle) -> Result<Handle> {
        self.handle("scaled", (factor, v))
    }

    fn intercept_only(&self, intercept: Vec<f64>) -> Result<Handle> {
        self.attach(|py| {
            let intercept = intercept.into_pyarray(py);
            Ok(self.object.bind(py).call_method1("intercept_only", (intercept,))?.unbind())
        })
    }

    fn dot(&self, a: &Handle, b: &Handle) -> Result<f64> {
        self.number("dot", (a, b))
    }

    fn losses_by_factor(&self, point: &Handle, factors: &[f64], stride: usize) -> Result<Vec<f64>> {
        let losses: Vec<f64> =
            self.call("losses_by_factor", (point, factors.to_vec(), stride), |found| found.extract())?;
        self.check("number of losses", losses.len(), factors.len())?;
        Ok(losses)
    }

    fn evaluate(
        &self,
        point: &Handle,
        alpha: f64,
        collect: Collect,
        rounding: Rounding,
    ) -> Result<Evaluation<Handle, Handle>> {
        let reduced = rounding != Rounding::Exact;
        let control = PassControl(self.control.clone());
        let arguments = (point, alpha, collect.curvature, collect.covariance, reduced, control);
        let found = self.call("evaluate", arguments, |found| {
            let (objective, entropy, train_error, gradient, weights_square, excess, curvature, sample): Found<'_> =
                found.extract()?;
            Ok(Evaluation {
                objective,
                entropy,
                train_error,
                gradient,
                weights_square,
                excess: excess.as_array().to_vec(),
                curvature,
                sample: sample.map(|sample| sample.as_array().iter().copied().collect()).unwrap_or_default(),
            })
        })?;
        self.check("number of classes of an evaluation", found.excess.len(), self.k)?;
        self.check("number of values beyond whole rows of a sample", found.sample.len() % self.k, 0)?;
        if collect.curvature && found.curvature.is_none() {
            return Err(Error::Parameter("an evaluation lacks the curvature it was asked for".into()));
        }
        Ok(found)
    }

    fn dual_square(
        &self,
        point: &Handle,
        gradient: &Handle,
        excess: &[f64],
        epsilon: f64,
        alpha: f64,
    ) -> Result<f64> {
        self.attach(|py| {
            let excess = excess.to_vec().into_pyarray(py);
            self.object
                .bind(py)
                .call_method1("dual_square", (point, gradient, excess, epsilon, alpha))?
                .extract()
        })
    }

    fn metric(&self, curvature: &Handle, alpha: f64) -> Result<Handle> {
        self.handle("metric", (curvature, alpha))
    }

    fn memory(&self) -> Result<PythonMemory> {
        self.handle("memory", ()).map(PythonMemory)
    }

    fn remember(
        &self,
        memory: &mut PythonMemory,
        (to, from): (&Handle, &Handle),
        (gradient_to, gradient_from): (&Handle, &Handle),
    ) -> Result<()> {
        memory.0 = self.handle("remember", (&memory.0, to, from, gradient_to, gradient_from))?;
        Ok(())
    }

    fn forget(&self, memory: &mut PythonMemory) -> Result<()> {
        *memory = self.memory()?;
        Ok(())
    }

    fn add_penalty(&self, memory: &mut PythonMemory, by: f64) -> Result<()> {
        memory.0 = self.handle("add_penalty", (&memory.0, by))?;
        Ok(())
    }

    fn direction(&self, memory: &PythonMemory, gradient: &Handle, metric: &Handle) -> Result<Handle> {
        self.handle("direction", (&memory.0, gradient, metric))
    }
}
