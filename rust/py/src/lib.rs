//! `ssl_risk_rs._core`: conversion between Python and `ssl-risk-core`, nothing else.

// `#[pymodule]` and `#[pymethods]` expand to items that cannot carry documentation.
#![allow(missing_docs)]

mod arguments;
mod bank;
mod design;
mod error;
mod features;
mod filled;
mod geometry;
mod interrupt;
mod judge;
mod kernels;
mod linear;
mod logistic;
mod moments;
mod python_space;
mod ridge_race;
mod splits;
mod whole;

use pyo3::prelude::*;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    // limits that other implementations of the same sums keep to
    m.add("CHEAP_PRODUCTS", ssl_risk_core::moments::CHEAP_PRODUCTS)?;
    m.add("FLUSH_ROWS", ssl_risk_core::moments::FLUSH_ROWS)?;
    m.add("MOST_THREADS", arguments::MOST_THREADS)?;
    m.add("SHIFT_ROWS", ssl_risk_core::moments::SHIFT_ROWS)?;
    bank::register(m)?;
    geometry::register(m)?;
    m.add_class::<moments::Moments>()?;
    m.add_class::<design::Design>()?;
    m.add_class::<linear::LinearProbe>()?;
    m.add_class::<logistic::LogisticFit>()?;
    m.add_class::<kernels::Kernel>()?;
    m.add_class::<ridge_race::RidgeRace>()?;
    m.add_function(wrap_pyfunction!(features::read_rows, m)?)?;
    m.add_function(wrap_pyfunction!(kernels::kernels, m)?)?;
    m.add_function(wrap_pyfunction!(moments::choose_shift, m)?)?;
    m.add_function(wrap_pyfunction!(moments::feature_means, m)?)?;
    m.add_function(wrap_pyfunction!(logistic::fit_logistic, m)?)?;
    m.add_function(wrap_pyfunction!(logistic::fit_logistic_in, m)?)?;
    m.add_class::<python_space::PassControl>()?;
    m.add_class::<linear::FeatureScaling>()?;
    m.add_function(wrap_pyfunction!(linear::feature_scaling, m)?)?;
    m.add_function(wrap_pyfunction!(linear::solve_ridge_dual, m)?)?;
    m.add_function(wrap_pyfunction!(judge::judge, m)?)?;
    m.add_function(wrap_pyfunction!(splits::sample_keys, m)?)?;
    m.add_function(wrap_pyfunction!(splits::assign_cells, m)?)?;
    m.add_function(wrap_pyfunction!(splits::assign_cells_by_group, m)?)?;
    m.add_function(wrap_pyfunction!(splits::assign_group_cells, m)?)?;
    Ok(())
}
