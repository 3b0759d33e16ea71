//! Feature bank, moments and certified probe solvers behind `ssl-risk-rs`.
//!
//! A frozen encoder gives a representation `x` of every image. The error of a linear probe on it splits
//! into four signed components (Dubois, Hashimoto and Liang, ICML 2023); each is a difference of risks of
//! probes fitted on one set of rows and judged on another. This crate holds what that takes: representations
//! on disk ([`bank`]), rows in memory ([`rows`]), and the numerics between them. It knows no Python.

#![warn(rust_2018_idioms)]

pub mod bank;
pub mod control;
pub mod error;
pub mod rows;

pub use control::Control;
pub use error::{Error, Result};
