//! Which kernels this machine has, and which it uses.

use pyo3::prelude::*;
use ssl_risk_core::kernel::{Availability, Precision, choose, choose_rounding, list};

use crate::error::to_py;

#[pyclass(frozen, get_all, module = "ssl_risk_rs._core")]
pub struct Kernel {
    name: &'static str,
    precision: &'static str,
    availability: &'static str,
    chosen: bool,
}

#[pymethods]
impl Kernel {
    fn __repr__(&self) -> String {
        let chosen = if self.chosen { ", chosen" } else { "" };
        format!("Kernel({}, {}, {}{chosen})", self.name, self.precision, self.availability)
    }
}

#[pyfunction]
pub fn kernels() -> PyResult<Vec<Kernel>> {
    let (scores, others) = choose_rounding().map_err(to_py)?;
    let chosen = [choose(Precision::Exact).map_err(to_py)?, scores, others].map(|kernel| kernel.name);
    let kernel = |(name, precision, availability)| Kernel {
        name,
        precision: match precision {
            Precision::Exact => "exact",
            Precision::Bf16 => "bfloat16",
            Precision::Fixed => "fixed",
        },
        availability: match availability {
            Availability::Usable => "usable",
            Availability::OffByDefault => "off",
            Availability::Missing => "missing",
        },
        chosen: chosen.contains(&name),
    };
    Ok(list().into_iter().map(kernel).collect())
}
