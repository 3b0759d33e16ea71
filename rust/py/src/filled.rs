//! Arrays of Python's that Rust fills.

use half::f16;
use numpy::{Element, PyReadwriteArray2};
use pyo3::prelude::*;
use ssl_risk_core::rows::ValuesMut;
use ssl_risk_core::{Control, Result};

use crate::error::{ParameterError, to_py};
use crate::interrupt;

/// Rows that are read before anyone could press ^C: no thread is started to watch for it.
const READ_AT_ONCE: usize = 4096;

/// Let `read` fill an array of Python's, which has `n_rows` rows.
pub fn into_array(
    py: Python<'_>,
    n_rows: usize,
    out: &Bound<'_, PyAny>,
    read: impl FnOnce(ValuesMut<'_>, &Control) -> Result<()> + Send,
) -> PyResult<()> {
    if let Ok(out) = out.extract::<PyReadwriteArray2<'_, f16>>() {
        fill(py, n_rows, out, |v, control| read(ValuesMut::F16(v), control))
    } else if let Ok(out) = out.extract::<PyReadwriteArray2<'_, f32>>() {
        fill(py, n_rows, out, |v, control| read(ValuesMut::F32(v), control))
    } else {
        Err(ParameterError::new_err("out must be a writable 2-D float16 or float32 array"))
    }
}

fn fill<T: Element + Send>(
    py: Python<'_>,
    n_rows: usize,
    mut out: PyReadwriteArray2<'_, T>,
    read: impl FnOnce(&mut [T], &Control) -> Result<()> + Send,
) -> PyResult<()> {
    let values = out.as_slice_mut()?;
    if n_rows <= READ_AT_ONCE {
        py.detach(|| read(values, &Control::new())).map_err(to_py)
    } else {
        interrupt::run(py, None, |control| read(values, control))
    }
}
