//! The one error type of the crate. Messages name the thing and the next step.

use std::path::PathBuf;

use thiserror::Error;

/// Result of every fallible function of the crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong; see `ssl_risk_rs.errors` for the Python classes they become.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Two arrays disagree in a dimension.
    #[error("{what} has {got}, expected {expected}")]
    Shape {
        /// The array and its dimension.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length that was expected.
        expected: usize,
    },
    /// An argument outside its range.
    #[error("{0}")]
    Parameter(String),
    /// A value that is NaN or infinite, or that the bank's dtype cannot hold.
    #[error("row {row}, feature {column} is {value}; {advice}")]
    BadValue {
        /// Row in the caller's numbering.
        row: usize,
        /// Feature.
        column: usize,
        /// The value found.
        value: f64,
        /// What to do about it.
        advice: &'static str,
    },
    /// A factorization or an iteration broke down.
    #[error("{0}")]
    Numerical(String),
    /// A bank's file is not what the format says.
    #[error("{}: {reason}", path.display())]
    CorruptBank {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A bank is sound but cannot do what was asked (incomplete, another dtype, a part in use …).
    #[error("{}: {reason}", path.display())]
    Bank {
        /// The bank's folder.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The operating system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Attach the path to an I/O error.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
