//! Splits.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use ssl_risk_core::sampling;

use crate::error::to_py;
use crate::features::slice;

#[pyfunction]
pub fn sample_keys<'py>(py: Python<'py>, ids: Vec<String>, seed: u64) -> Bound<'py, PyArray1<u64>> {
    py.detach(|| sampling::sample_keys(&ids, seed)).into_pyarray(py)
}

#[pyfunction]
#[pyo3(signature = (keys, rows, labels, *, n_folds, n_subsets, subset_size))]
pub fn assign_cells<'py>(
    py: Python<'py>,
    keys: PyReadonlyArray1<'py, u64>,
    rows: PyReadonlyArray1<'py, u32>,
    labels: PyReadonlyArray1<'py, u32>,
    n_folds: usize,
    n_subsets: usize,
    subset_size: usize,
) -> PyResult<Bound<'py, PyArray1<u8>>> {
    let (keys, rows, labels) = (slice(&keys, "keys")?, slice(&rows, "rows")?, slice(&labels, "labels")?);
    if keys.len() != labels.len() || rows.iter().any(|&r| r as usize >= labels.len()) {
        return Err(crate::error::ShapeError::new_err(
            "keys, rows and labels disagree in the number of rows",
        ));
    }
    py.detach(|| sampling::assign_cells(keys, rows, labels, n_folds, n_subsets, subset_size))
        .map(|cells| cells.into_pyarray(py))
        .map_err(to_py)
}

/// Groups of rows as the core takes them, checked: keys by group, group and label by row.
struct Grouped<'a> {
    keys: &'a [u64],
    groups: &'a [u32],
    labels: &'a [u32],
}

impl<'a> Grouped<'a> {
    fn new(keys: &'a [u64], groups: &'a [u32], labels: &'a [u32]) -> PyResult<Self> {
        if groups.len() != labels.len() || groups.iter().any(|&g| g as usize >= keys.len()) {
            return Err(crate::error::ShapeError::new_err(
                "groups and labels disagree in the number of rows, or a group has no key",
            ));
        }
        Ok(Self { keys, groups, labels })
    }
}

#[pyfunction]
pub fn assign_group_cells<'py>(
    py: Python<'py>,
    keys: PyReadonlyArray1<'py, u64>,
    groups: PyReadonlyArray1<'py, u32>,
    labels: PyReadonlyArray1<'py, u32>,
    shares: Vec<f64>,
) -> PyResult<Bound<'py, PyArray1<u8>>> {
    let all = Grouped::new(slice(&keys, "keys")?, slice(&groups, "groups")?, slice(&labels, "labels")?)?;
    let rows: Vec<u32> = (0..all.labels.len() as u32).collect();
    py.detach(|| sampling::groups::cut(all.keys, all.groups, &rows, all.labels, &shares))
        .map(|cells| cells.into_pyarray(py))
        .map_err(to_py)
}

#[pyfunction]
#[pyo3(signature = (keys, groups, rows, labels, *, n_folds, n_subsets, subset_size))]
#[allow(clippy::too_many_arguments)] // the keyword arguments of one Python function
pub fn assign_cells_by_group<'py>(
    py: Python<'py>,
    keys: PyReadonlyArray1<'py, u64>,
    groups: PyReadonlyArray1<'py, u32>,
    rows: PyReadonlyArray1<'py, u32>,
    labels: PyReadonlyArray1<'py, u32>,
    n_folds: usize,
    n_subsets: usize,
    subset_size: usize,
) -> PyResult<(Bound<'py, PyArray1<u8>>, usize)> {
    let all = Grouped::new(slice(&keys, "keys")?, slice(&groups, "groups")?, slice(&labels, "labels")?)?;
    let rows = slice(&rows, "rows")?;
    if rows.iter().any(|&r| r as usize >= all.labels.len()) {
        return Err(crate::error::ShapeError::new_err("rows and labels disagree in the number of rows"));
    }
    py.detach(|| {
        sampling::groups::assign(all.keys, all.groups, rows, all.labels, n_folds, n_subsets, subset_size)
    })
    .map(|(cells, subsets)| (cells.into_pyarray(py), subsets))
    .map_err(to_py)
}
