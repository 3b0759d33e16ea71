//! Moments of rows.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use ssl_risk_core::kernel::parallel::install;
use ssl_risk_core::rows::TrainingRows;
use ssl_risk_core::{Result, Run, moments};

use crate::arguments::{count, scaling_from, sums_from, threads};
use crate::design::Design;
use crate::error::to_py;
use crate::features::{Features, slice};
use crate::geometry::{Totals, totals};
use crate::interrupt;
use crate::linear::LinearProbe;
use crate::whole::Whole;

/// Sufficient statistics of rows, by cell: one pass serves every complement, fold, scaling and penalty.
///
/// A row belongs to one cell (a fold or a held-out subset). Each cell keeps class counts, sums by class,
/// ranges and Σ (x−c)(x−c)ᵀ with the shift c (`choose_shift`), summed in float64 where an update has few products,
/// else blocks of rows in float32, across blocks in float64.
///
/// update(features, labels, rows=None, cells=None): add rows, in one pass
/// merge(other), subtract(other): add or take away what another object saw
/// solve(alphas, cells=None, *, scaling="none"): a ridge probe for each penalty,
///     min_W,b  (1/2n) ‖X W + 1bᵀ − Y‖² + (α/2) ‖W‖²
/// save(path), load(path): a checked file, the same bits
#[pyclass(frozen, module = "ssl_risk_rs._core")]
pub struct Moments {
    n_features: usize,
    n_classes: usize,
    n_cells: usize,
    /// Rows after the last change. This and the sizes are read with the GIL, which must not wait for `sums`.
    rows: AtomicU64,
    sums: Mutex<moments::Moments>,
}

impl Moments {
    fn from_core(sums: moments::Moments) -> Self {
        Self {
            n_features: sums.n_features(),
            n_classes: sums.n_classes(),
            n_cells: sums.n_cells(),
            rows: AtomicU64::new(sums.n_rows()),
            sums: Mutex::new(sums),
        }
    }

    /// Waits for an update that another thread runs: call without the GIL.
    fn lock(&self) -> MutexGuard<'_, moments::Moments> {
        // a poisoned lock means a panic in an update, which leaves the moments unchanged
        self.sums.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn change(&self, change: impl FnOnce(&mut moments::Moments) -> Result<()> + Send) -> Result<()> {
        let mut sums = self.lock();
        let sums = &mut *sums;
        change(sums)?;
        self.rows.store(sums.n_rows(), Ordering::Relaxed);
        Ok(())
    }

    fn copy(&self) -> moments::Moments {
        self.lock().clone()
    }
}

#[pymethods]
impl Moments {
    #[new]
    #[pyo3(signature = (n_features, n_classes, *, n_cells=1, shift=None, precision="auto"))]
    fn new(
        n_features: i64,
        n_classes: i64,
        n_cells: i64,
        shift: Option<PyReadonlyArray1<'_, f32>>,
        precision: &str,
    ) -> PyResult<Self> {
        let n_features = count("n_features", n_features)?;
        let (n_classes, n_cells) = (count("n_classes", n_classes)?, count("n_cells", n_cells)?);
        let shift = match &shift {
            Some(array) => slice(array, "shift")?.to_vec(),
            None => vec![0.0; n_features],
        };
        if shift.len() != n_features {
            return Err(crate::error::ShapeError::new_err(format!(
                "shift has {} features, expected {n_features}",
                shift.len()
            )));
        }
        let moments = moments::Moments::new(n_classes, n_cells, shift).map_err(to_py)?;
        Ok(Self::from_core(match sums_from(precision)? {
            Some(sums) => moments.with_sums(sums),
            None => moments,
        }))
    }

    #[getter]
    fn n_features(&self) -> usize {
        self.n_features
    }

    #[getter]
    fn n_classes(&self) -> usize {
        self.n_classes
    }

    #[getter]
    fn n_cells(&self) -> usize {
        self.n_cells
    }

    #[pyo3(signature = (features, labels, rows=None, cells=None, *, n_threads=None))]
    fn update(
        &self,
        py: Python<'_>,
        features: Features<'_>,
        labels: &Bound<'_, PyAny>,
        rows: Option<&Bound<'_, PyAny>>,
        cells: Option<&Bound<'_, PyAny>>,
        n_threads: Option<usize>,
    ) -> PyResult<()> {
        let n_threads = threads(n_threads)?;
        let slices = features.slices()?;
        let labels = Whole::<u32>::new(labels, "labels", "label")?;
        let labels = labels.values("labels")?;
        let rows = match rows {
            Some(rows) => Whole::new(rows, "rows", "row")?,
            None => Whole::Converted((0..labels.len() as u32).collect()),
        };
        let cells = match cells {
            Some(cells) => Whole::new(cells, "cells", "cell")?,
            None => Whole::Converted(vec![0_u8; labels.len()]),
        };
        let (rows, cells) = (rows.values("rows")?, cells.values("cells")?);
        if cells.len() != labels.len() {
            return Err(crate::error::ShapeError::new_err(format!(
                "cells has {} entries, expected {} (labels)",
                cells.len(),
                labels.len()
            )));
        }
        interrupt::run(py, None, |control| {
            let matrix = slices.matrix()?;
            let training = TrainingRows::new(&matrix, rows, labels, self.n_classes)?;
            self.change(|sums| sums.update(training, cells, Run { n_threads, control }))
        })
    }

    #[pyo3(signature = (cell, counts, sums, least, largest, gram, *, precision, n_threads=None))]
    #[allow(clippy::too_many_arguments)] // the arguments of one Python function
    fn add_sums(
        &self,
        py: Python<'_>,
        cell: usize,
        counts: PyReadonlyArray1<'_, u64>,
        sums: PyReadonlyArray2<'_, f64>,
        least: PyReadonlyArray1<'_, f32>,
        largest: PyReadonlyArray1<'_, f32>,
        gram: PyReadonlyArray2<'_, f64>,
        precision: &str,
        n_threads: Option<usize>,
    ) -> PyResult<()> {
        let how = sums_from(precision)?.ok_or_else(|| {
            crate::error::ParameterError::new_err("precision of given sums must be named, not 'auto'")
        })?;
        let given = moments::CellSums {
            counts: slice(&counts, "counts")?,
            sums: rows(&sums, "sums", (self.n_classes, self.n_features))?,
            least: slice(&least, "least")?,
            largest: slice(&largest, "largest")?,
            gram: rows(&gram, "gram", (self.n_features, self.n_features))?,
        };
        let n_threads = threads(n_threads)?;
        py.detach(|| self.change(|sums| install(n_threads, || sums.add_sums(cell, given, how))))
            .map_err(to_py)
    }

    #[pyo3(signature = (other, *, n_threads=None))]
    fn merge(&self, py: Python<'_>, other: &Self, n_threads: Option<usize>) -> PyResult<()> {
        let n_threads = threads(n_threads)?;
        py.detach(|| {
            let other = other.copy(); // first, so that no two locks are held, and `other` may be `self`
            self.change(|sums| install(n_threads, || sums.merge(&other)))
        })
        .map_err(to_py)
    }

    fn subtract(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        py.detach(|| {
            let other = other.copy(); // first, so that no two locks are held, and `other` may be `self`
            self.change(|sums| sums.subtract(&other))
        })
        .map_err(to_py)
    }

    #[pyo3(signature = (alphas, cells=None, *, scaling="none", n_threads=None))]
    fn solve(
        &self,
        py: Python<'_>,
        alphas: Vec<f64>,
        cells: Option<Vec<usize>>,
        scaling: &str,
        n_threads: Option<usize>,
    ) -> PyResult<Vec<LinearProbe>> {
        let (scaling, n_threads) = (scaling_from(scaling)?, threads(n_threads)?);
        let probes = interrupt::run(py, None, |_| {
            let moments = self.lock();
            let cells = cells.unwrap_or_else(|| (0..moments.n_cells()).collect());
            install(n_threads, || moments.solve(&alphas, &cells, scaling))
        })?;
        Ok(probes.into_iter().map(LinearProbe).collect())
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.lock().save(&path)).map_err(to_py)
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| moments::Moments::load(&path)).map(Self::from_core).map_err(to_py)
    }

    /// Pickled as the file that `save` writes: moments travel between processes.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let (py, moments) = (slf.py(), slf.get());
        let bytes = py.detach(|| moments.lock().to_bytes());
        Ok((slf.get_type().getattr("_from_bytes")?, (PyBytes::new(py, &bytes),)))
    }

    #[staticmethod]
    fn _from_bytes(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        py.detach(|| moments::Moments::from_bytes(bytes)).map(Self::from_core).map_err(to_py)
    }

    fn __repr__(&self) -> String {
        let rows = self.rows.load(Ordering::Relaxed);
        format!(
            "Moments({} features, {} classes, {} cells, {rows} rows)",
            self.n_features, self.n_classes, self.n_cells
        )
    }

    #[pyo3(signature = (cells=None, *, n_threads=None))]
    fn totals<'py>(
        &self,
        py: Python<'py>,
        cells: Option<Vec<usize>>,
        n_threads: Option<usize>,
    ) -> PyResult<Totals<'py>> {
        let n_threads = threads(n_threads)?;
        totals(py, || {
            let moments = self.lock();
            let cells = cells.unwrap_or_else(|| (0..moments.n_cells()).collect());
            install(n_threads, || moments.totals(&cells))
        })
    }

    #[pyo3(signature = (cells=None, *, scaling="none", like=None, n_threads=None))]
    fn design(
        &self,
        py: Python<'_>,
        cells: Option<Vec<usize>>,
        scaling: &str,
        like: Option<&Design>,
        n_threads: Option<usize>,
    ) -> PyResult<Design> {
        let (scaling, n_threads) = (scaling_from(scaling)?, threads(n_threads)?);
        py.detach(|| {
            let moments = self.lock();
            let cells = cells.unwrap_or_else(|| (0..moments.n_cells()).collect());
            install(n_threads, || moments.design(&cells, scaling))
        })
        .map(|design| Design::new(design, like))
        .map_err(to_py)
    }
}

/// A C-contiguous array of this shape as a slice, row-major.
fn rows<'a>(array: &'a PyReadonlyArray2<'_, f64>, name: &str, (n, m): (usize, usize)) -> PyResult<&'a [f64]> {
    if array.shape() != [n, m] {
        let message = format!("{name} has shape {:?}, expected ({n}, {m})", array.shape());
        return Err(crate::error::ShapeError::new_err(message));
    }
    array
        .as_slice()
        .map_err(|_| crate::error::ParameterError::new_err(format!("{name} must be a C-contiguous array")))
}

#[pyfunction]
pub fn choose_shift<'py>(
    py: Python<'py>,
    features: Features<'py>,
    rows: PyReadonlyArray1<'py, u32>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let slices = features.slices()?;
    let rows = slice(&rows, "rows")?;
    let shift = py.detach(|| moments::choose_shift(&slices.matrix()?, rows)).map_err(to_py)?;
    Ok(shift.into_pyarray(py))
}

#[pyfunction]
#[pyo3(signature = (features, rows, *, n_threads=None))]
pub fn feature_means<'py>(
    py: Python<'py>,
    features: Features<'py>,
    rows: PyReadonlyArray1<'py, u32>,
    n_threads: Option<usize>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let n_threads = threads(n_threads)?;
    let slices = features.slices()?;
    let rows = slice(&rows, "rows")?;
    let means = interrupt::run(py, None, |control| {
        moments::feature_means(&slices.matrix()?, rows, Run { n_threads, control })
    })?;
    Ok(means.into_pyarray(py))
}
