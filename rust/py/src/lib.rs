//! `ssl_risk_rs._core`: conversion between Python and `ssl-risk-core`, nothing else.

// `#[pymodule]` and `#[pymethods]` expand to items that cannot carry documentation.
#![allow(missing_docs)]

mod bank;
mod error;
mod interrupt;

use pyo3::prelude::*;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    bank::register(m)?;
    Ok(())
}
