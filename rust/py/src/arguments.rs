//! Arguments that several functions take.

use std::sync::OnceLock;

use pyo3::prelude::*;
use ssl_risk_core::kernel::parallel::default_threads;
use ssl_risk_core::moments::Sums;
use ssl_risk_core::scaling::Scaling;

use crate::error::ParameterError;

pub fn scaling_from(name: &str) -> PyResult<Scaling> {
    match name {
        "none" => Ok(Scaling::None),
        "standardize" => Ok(Scaling::Standardize),
        "minmax" => Ok(Scaling::MinMax),
        other => Err(ParameterError::new_err(format!(
            "scaling must be 'none', 'standardize' or 'minmax', got {other:?}"
        ))),
    }
}

/// How products are summed; `None` for "auto".
pub fn sums_from(name: &str) -> PyResult<Option<Sums>> {
    match (name, Sums::from_name(name)) {
        ("auto", _) => Ok(None),
        (_, Some(sums)) => Ok(Some(sums)),
        _ => Err(ParameterError::new_err(format!(
            "precision must be 'auto', 'float64', 'float32' or 'bfloat16', got {name:?}"
        ))),
    }
}

/// A number of things, which nobody has fewer than none of.
pub fn count(name: &str, value: i64) -> PyResult<usize> {
    usize::try_from(value)
        .map_err(|_| ParameterError::new_err(format!("{name} must be at least 1, got {value}")))
}

/// Threads that a call may ask for; more are a mistake on any machine.
pub const MOST_THREADS: usize = 1024;

pub fn threads(n_threads: Option<usize>) -> PyResult<usize> {
    match n_threads {
        None => Ok(default_threads()),
        Some(n) if (1..=MOST_THREADS).contains(&n) => Ok(n),
        Some(n) => Err(ParameterError::new_err(format!(
            "n_threads must be a whole number from 1 to {MOST_THREADS}, got {n}"
        ))),
    }
}

/// What `cell` holds, made by `make` the first time.
pub fn once<T>(
    cell: &OnceLock<T>,
    make: impl FnOnce() -> ssl_risk_core::Result<T>,
) -> ssl_risk_core::Result<&T> {
    if let Some(made) = cell.get() {
        return Ok(made);
    }
    let made = make()?;
    Ok(cell.get_or_init(|| made))
}
