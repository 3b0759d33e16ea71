//! `ssl_risk_rs._core`: conversion between Python and `ssl-risk-core`, nothing else.

// `#[pymodule]` and `#[pymethods]` expand to items that cannot carry documentation.
#![allow(missing_docs)]

mod bank;
mod error;
mod features;
mod interrupt;
mod solvers;
mod statistics;

use pyo3::prelude::*;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    bank::register(m)?;
    m.add_class::<solvers::Moments>()?;
    m.add_class::<solvers::Design>()?;
    m.add_class::<solvers::LinearProbe>()?;
    m.add_class::<solvers::LogisticFit>()?;
    m.add_function(wrap_pyfunction!(solvers::choose_shift, m)?)?;
    m.add_function(wrap_pyfunction!(solvers::feature_means, m)?)?;
    m.add_function(wrap_pyfunction!(solvers::fit_logistic, m)?)?;
    m.add_function(wrap_pyfunction!(solvers::solve_ridge_dual, m)?)?;
    m.add_function(wrap_pyfunction!(solvers::judge, m)?)?;
    m.add_function(wrap_pyfunction!(statistics::sample_keys, m)?)?;
    m.add_function(wrap_pyfunction!(statistics::assign_cells, m)?)?;
    m.add_function(wrap_pyfunction!(statistics::risk_covariance, m)?)?;
    m.add_function(wrap_pyfunction!(statistics::bootstrap_risks, m)?)?;
    Ok(())
}
