//! Representations as Python hands them over: a feature bank, or NumPy arrays one after the other.

use half::f16;
use numpy::{PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;
use ssl_risk_core::bank::Bank;
use ssl_risk_core::rows::{Matrix, Segment, Values, ValuesMut};
use ssl_risk_core::{Control, Result};

use crate::arguments::threads;
use crate::bank::PyBank;
use crate::error::{ParameterError, ShapeError};
use crate::filled::into_array;

/// One array.
pub enum Array<'py> {
    F16(PyReadonlyArray2<'py, f16>),
    F32(PyReadonlyArray2<'py, f32>),
}

/// Borrowed features of a call. Rows of several arrays follow each other.
pub enum Features<'py> {
    Bank(PyRef<'py, PyBank>),
    Arrays { arrays: Vec<Array<'py>>, n_features: usize },
}

impl<'py> FromPyObject<'_, 'py> for Features<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bank) = object.cast::<PyBank>() {
            return Ok(Self::Bank(bank.to_owned().borrow()));
        }
        let one = |item: &Bound<'py, PyAny>| -> PyResult<(Array<'py>, usize)> {
            let (array, width, contiguous) = if let Ok(a) = item.extract::<PyReadonlyArray2<'py, f32>>() {
                let (width, contiguous) = (a.shape()[1], a.is_c_contiguous());
                (Array::F32(a), width, contiguous)
            } else if let Ok(a) = item.extract::<PyReadonlyArray2<'py, f16>>() {
                let (width, contiguous) = (a.shape()[1], a.is_c_contiguous());
                (Array::F16(a), width, contiguous)
            } else {
                return Err(ParameterError::new_err(
                    "features must be a Bank, a 2-D float16 or float32 NumPy array, or a list of such",
                ));
            };
            if !contiguous {
                return Err(ParameterError::new_err(
                    "features must be C-contiguous; pass numpy.ascontiguousarray(features)",
                ));
            }
            Ok((array, width))
        };
        let items: Vec<Bound<'py, PyAny>> = match object.cast::<pyo3::types::PyList>() {
            Ok(list) => list.iter().collect(),
            Err(_) => vec![object.to_owned()],
        };
        let mut arrays = Vec::with_capacity(items.len());
        let mut n_features = None;
        for item in &items {
            let (array, width) = one(item)?;
            if *n_features.get_or_insert(width) != width {
                return Err(ShapeError::new_err(format!(
                    "feature arrays have {} and {width} columns",
                    n_features.unwrap_or_default()
                )));
            }
            arrays.push(array);
        }
        let n_features = n_features.ok_or_else(|| ParameterError::new_err("no feature arrays"))?;
        Ok(Self::Arrays { arrays, n_features })
    }
}

/// Features without Python: what a worker thread may hold.
pub enum Slices<'a> {
    Bank(&'a Bank),
    Arrays { values: Vec<Values<'a>>, n_features: usize },
}

impl Features<'_> {
    /// The memory behind the features, borrowed while the call runs.
    pub fn slices(&self) -> PyResult<Slices<'_>> {
        match self {
            Self::Bank(bank) => Ok(Slices::Bank(bank.inner())),
            Self::Arrays { arrays, n_features } => {
                let values = arrays
                    .iter()
                    .map(|array| match array {
                        Array::F16(a) => Ok(Values::F16(a.as_slice()?)),
                        Array::F32(a) => Ok(Values::F32(a.as_slice()?)),
                    })
                    .collect::<PyResult<_>>()?;
                Ok(Slices::Arrays { values, n_features: *n_features })
            }
        }
    }
}

impl<'a> Slices<'a> {
    /// Copy rows into `out`; see [`Bank::read_into`] and [`Matrix::copy_into`].
    fn read_into(&self, rows: &[u32], out: ValuesMut<'_>, n_threads: usize, control: &Control) -> Result<()> {
        match self {
            Self::Bank(bank) => {
                let rows: Vec<u64> = rows.iter().map(|&row| row.into()).collect();
                bank.read_into(&rows, out, n_threads, control)
            }
            Self::Arrays { .. } => self.matrix()?.copy_into(rows, out, n_threads, control),
        }
    }

    /// One logical matrix over the rows.
    pub fn matrix(&self) -> Result<Matrix<'a>> {
        match self {
            Self::Bank(bank) => bank.matrix(),
            Self::Arrays { values, n_features } => {
                let segments = values.iter().map(|&values| Segment { values, guard: None }).collect();
                Matrix::new(*n_features, segments)
            }
        }
    }
}

#[pyfunction]
#[pyo3(signature = (features, rows, out, *, n_threads=None))]
pub fn read_rows(
    py: Python<'_>,
    features: Features<'_>,
    rows: PyReadonlyArray1<'_, u32>,
    out: &Bound<'_, PyAny>,
    n_threads: Option<usize>,
) -> PyResult<()> {
    let n_threads = threads(n_threads)?;
    let slices = features.slices()?;
    let rows = slice(&rows, "rows")?;
    into_array(py, rows.len(), out, |out, control| slices.read_into(rows, out, n_threads, control))
}

/// A C-contiguous 1-D array as a slice.
pub fn slice<'a, T: numpy::Element>(array: &'a PyReadonlyArray1<'_, T>, name: &str) -> PyResult<&'a [T]> {
    array.as_slice().map_err(|_| ParameterError::new_err(format!("{name} must be a contiguous array")))
}
