//! `Bank` and `BankWriter`: the core's feature bank for Python.

use std::path::PathBuf;
use std::sync::Mutex;

use half::f16;
use numpy::{Element, IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;
use ssl_risk_core::bank::{Bank, Damage, Owner, PartInfo, PartWriter, Verification};
use ssl_risk_core::rows::Values;

use crate::arguments::threads;
use crate::error::{BankError, ParameterError, ShapeError, to_py};
use crate::filled::into_array;
use crate::interrupt;

/// A part of a bank.
#[pyclass(name = "BankPart", module = "ssl_risk_rs._core", frozen, get_all, eq)]
#[derive(PartialEq)]
pub struct PyBankPart {
    name: String,
    rows: u64,
    blocks: usize,
    header_behind: bool,
}

impl From<&PartInfo> for PyBankPart {
    fn from(info: &PartInfo) -> Self {
        let PartInfo { name, rows, blocks, header_behind } = info.clone();
        Self { name, rows, blocks, header_behind }
    }
}

#[pymethods]
impl PyBankPart {
    fn __repr__(&self) -> String {
        format!("BankPart(name='{}', rows={}, blocks={})", self.name, self.rows, self.blocks)
    }
}

/// A block, or a whole file, that is not what was committed.
#[pyclass(name = "BankDamage", module = "ssl_risk_rs._core", frozen, get_all)]
pub struct PyBankDamage {
    part: String,
    block: Option<usize>,
    start: u64,
    stop: u64,
    path: PathBuf,
    reason: String,
}

#[pymethods]
impl PyBankDamage {
    fn __repr__(&self) -> String {
        let Self { part, start, stop, reason, .. } = self;
        let block = self.block.map_or("None".into(), |block| block.to_string());
        format!("BankDamage(part='{part}', block={block}, start={start}, stop={stop}, reason='{reason}')")
    }
}

/// What `Bank.verify` read, and what it found.
#[pyclass(name = "BankVerification", module = "ssl_risk_rs._core", frozen, get_all)]
pub struct PyBankVerification {
    n_rows: u64,
    parts: usize,
    blocks: usize,
    rows: u64,
    bytes: u64,
    behind: Vec<String>,
    damage: Vec<Py<PyBankDamage>>,
}

impl PyBankVerification {
    fn new(py: Python<'_>, found: Verification) -> PyResult<Self> {
        let Verification { n_rows, parts, blocks, rows, bytes, behind, damage } = found;
        let damage = damage.into_iter().map(|found| {
            let Damage { part, block, start, stop, path, reason } = found;
            Py::new(py, PyBankDamage { part, block, start, stop, path, reason })
        });
        Ok(Self { n_rows, parts, blocks, rows, bytes, behind, damage: damage.collect::<PyResult<_>>()? })
    }
}

/// Rows of a feature bank.
#[pyclass(name = "Bank", module = "ssl_risk_rs._core", frozen)]
pub struct PyBank {
    bank: Bank,
}

impl PyBank {
    /// The core's bank, for solvers that accept one.
    pub fn inner(&self) -> &Bank {
        &self.bank
    }
}

#[pymethods]
impl PyBank {
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let bank = py.detach(|| Bank::open(&path)).map_err(to_py)?;
        Ok(Self { bank })
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.bank.path().into()
    }

    #[getter]
    fn n_rows(&self) -> usize {
        self.bank.n_rows()
    }

    #[getter]
    fn n_features(&self) -> usize {
        self.bank.n_features()
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.bank.dtype().name()
    }

    #[getter]
    fn complete(&self) -> bool {
        self.bank.is_complete()
    }

    #[getter]
    fn n_missing(&self) -> u64 {
        self.bank.n_missing()
    }

    fn missing_rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        Ok(py.detach(|| self.bank.missing_rows()).map_err(to_py)?.into_pyarray(py))
    }

    fn parts(&self) -> Vec<PyBankPart> {
        self.bank.parts().map(PyBankPart::from).collect()
    }

    #[pyo3(signature = (rows, *, dtype="float32", n_threads=None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        rows: PyReadonlyArray1<'py, u64>,
        dtype: &str,
        n_threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let n_threads = threads(n_threads)?;
        let rows = rows.as_array();
        let rows = rows.as_standard_layout();
        let rows = rows.as_slice().expect("standard layout");
        if !["float16", "float32"].contains(&dtype) {
            return Err(ParameterError::new_err(format!(
                "dtype must be 'float16' or 'float32', got {dtype:?}"
            )));
        }
        // numpy's own allocation: it is not cleared first, and asks for large pages
        let shape = (rows.len(), self.bank.n_features());
        let out = py.import("numpy")?.call_method1("empty", (shape, dtype))?;
        into_array(py, rows.len(), &out, |out, control| self.bank.read_into(rows, out, n_threads, control))?;
        Ok(out)
    }

    #[pyo3(signature = (progress=None))]
    fn verify(&self, py: Python<'_>, progress: Option<Py<PyAny>>) -> PyResult<PyBankVerification> {
        let found = interrupt::run(py, progress.as_ref(), |control| self.bank.verify(control))?;
        PyBankVerification::new(py, found)
    }

    #[staticmethod]
    #[pyo3(signature = (path, progress=None))]
    fn verify_path(
        py: Python<'_>,
        path: PathBuf,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<PyBankVerification> {
        let found = interrupt::run(py, progress.as_ref(), |control| Verification::of(&path, control))?;
        PyBankVerification::new(py, found)
    }

    fn __repr__(&self) -> String {
        let (n, d) = (self.bank.n_rows(), self.bank.n_features());
        format!("Bank('{}', {n} rows, {d} features)", self.bank.path().display())
    }
}

/// The one writer of a part.
#[pyclass(name = "BankWriter", module = "ssl_risk_rs._core", frozen)]
pub struct PyBankWriter {
    /// Looked at before the lock is taken: in a fork nobody would release it.
    owner: Owner,
    /// `None` once closed.
    writer: Mutex<Option<PartWriter>>,
}

impl PyBankWriter {
    fn new(writer: PartWriter) -> Self {
        Self { owner: writer.owner().clone(), writer: Mutex::new(Some(writer)) }
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut PartWriter) -> ssl_risk_core::Result<T> + Send,
    ) -> PyResult<T> {
        self.owner.check().map_err(to_py)?;
        // the lock is taken without the GIL: its holder may be waiting for the disk
        py.detach(|| {
            let mut guard = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            guard.as_mut().map(|writer| work(writer).map_err(to_py))
        })
        .ok_or_else(|| BankError::new_err(format!("the writer of part {:?} is closed", self.owner.part())))?
    }
}

#[pymethods]
impl PyBankWriter {
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, part: &str) -> PyResult<Self> {
        py.detach(|| PartWriter::open(&path, part)).map(Self::new).map_err(to_py)
    }

    #[staticmethod]
    fn open_free(py: Python<'_>, path: PathBuf, prefix: &str) -> PyResult<Self> {
        py.detach(|| PartWriter::open_free(&path, prefix)).map(Self::new).map_err(to_py)
    }

    #[getter]
    fn part(&self) -> &str {
        self.owner.part()
    }

    #[getter]
    fn committed(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |writer| Ok(writer.committed()))
    }

    fn append(&self, py: Python<'_>, rows: &Bound<'_, PyAny>, features: &Bound<'_, PyAny>) -> PyResult<()> {
        let rows = &row_numbers(rows)?;
        if let Ok(features) = features.extract::<PyReadonlyArray2<'_, f32>>() {
            self.append_values(py, rows, &features, |v| Values::F32(v))
        } else if let Ok(features) = features.extract::<PyReadonlyArray2<'_, f16>>() {
            self.append_values(py, rows, &features, |v| Values::F16(v))
        } else {
            Err(ShapeError::new_err("features must be a float16 or float32 array of shape (m, n_features)"))
        }
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.owner.check().map_err(to_py)?;
        py.detach(|| {
            let writer = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            writer.map_or(Ok(()), PartWriter::close).map_err(to_py)
        })
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("BankWriter(part='{}')", self.owner.part())
    }
}

impl PyBankWriter {
    fn append_values<T: Element + Copy + Sync>(
        &self,
        py: Python<'_>,
        rows: &[u64],
        features: &PyReadonlyArray2<'_, T>,
        values: impl for<'a> FnOnce(&'a [T]) -> Values<'a> + Send,
    ) -> PyResult<()> {
        let (m, d) = (features.shape()[0], features.shape()[1]);
        if m != rows.len() {
            return Err(ShapeError::new_err(format!(
                "features have {m} rows, expected {} (rows)",
                rows.len()
            )));
        }
        let expected = self.with(py, |writer| Ok(writer.manifest().n_features))?;
        if d as u64 != expected {
            return Err(ShapeError::new_err(format!("features have {d} columns, the bank has {expected}")));
        }
        let features = features.as_array();
        let features = features.as_standard_layout(); // copies only what is not row-major
        let features = features.as_slice().expect("standard layout");
        self.with(py, |writer| writer.append(rows, values(features)))
    }
}

/// Row numbers as they are stored: uint64, or int64, as numpy counts.
fn row_numbers(rows: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    if let Ok(rows) = rows.extract::<PyReadonlyArray1<'_, u64>>() {
        return Ok(rows.as_array().to_vec());
    }
    let Ok(rows) = rows.extract::<PyReadonlyArray1<'_, i64>>() else {
        return Err(ParameterError::new_err("rows must be a uint64 or int64 array of shape (m,)"));
    };
    let numbers = rows.as_array();
    numbers
        .iter()
        .map(|&row| u64::try_from(row).map_err(|_| ParameterError::new_err(format!("row {row} is negative"))))
        .collect()
}

/// Add the classes of this file to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyBank>()?;
    m.add_class::<PyBankWriter>()?;
    m.add_class::<PyBankPart>()?;
    m.add_class::<PyBankDamage>()?;
    m.add_class::<PyBankVerification>()
}
