//! Core errors → the classes of `ssl_risk_rs.errors`. The only place that knows both.

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError};
use pyo3::prelude::*;
use ssl_risk_core::Error;

mod classes {
    use pyo3::import_exception;
    import_exception!(ssl_risk_rs.errors, ShapeError);
    import_exception!(ssl_risk_rs.errors, ParameterError);
    import_exception!(ssl_risk_rs.errors, BankError);
    import_exception!(ssl_risk_rs.errors, NumericalError);
}
pub use classes::{BankError, NumericalError, ParameterError, ShapeError};

/// The Python exception for a core error.
pub fn to_py(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Shape { .. } => ShapeError::new_err(message),
        Error::Parameter(_) | Error::BadValue { .. } => ParameterError::new_err(message),
        Error::Numerical(_) => NumericalError::new_err(message),
        Error::CorruptBank { .. } | Error::Bank { .. } => BankError::new_err(message),
        Error::Io { path, source } => match source.raw_os_error() {
            // with errno, Python picks FileNotFoundError, PermissionError … itself
            Some(errno) => PyOSError::new_err((errno, source.to_string(), path.display().to_string())),
            None => PyOSError::new_err(message),
        },
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        other => PyErr::new::<pyo3::exceptions::PyRuntimeError, _>(other.to_string()),
    }
}
