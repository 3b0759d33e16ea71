//! Feature bank, moments and certified probe solvers behind `ssl-risk-rs`.
//!
//! A frozen encoder gives a representation `x` of every image. The error of a linear probe on it splits
//! into four signed components (Dubois, Hashimoto and Liang, ICML 2023); each is a difference of risks of
//! probes fitted on one set of rows and judged on another. This crate holds what that takes: representations
//! in memory ([`rows`]), sufficient statistics of them
//! ([`moments`]), probes fitted on them ([`probe`]), what probes do on the rows they are judged on
//! ([`risk`]) and statistics of the representation itself ([`geometry`]), over the hot loops of [`kernel`]. It knows no Python.

#![warn(rust_2018_idioms)]

pub mod bank;
pub mod control;
pub mod error;
pub mod geometry;
pub mod kernel;
pub mod moments;
pub mod probe;
pub mod risk;
pub mod rows;
pub mod sampling;
pub mod scaling;
mod values;

pub use control::{Control, Run};
pub use error::{Error, Result};
