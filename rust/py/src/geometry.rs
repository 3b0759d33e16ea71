//! Passes that statistics of a representation need beside moments.

use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use ssl_risk_core::rows::{Matrix, TrainingRows};
use ssl_risk_core::{Run, geometry};

use crate::arguments::threads;
use crate::error::{ParameterError, ShapeError, to_py};
use crate::features::{Features, slice};
use crate::interrupt;

type Vector<'py> = Bound<'py, PyArray1<f64>>;
type Square<'py> = Bound<'py, PyArray2<f64>>;

/// Register the functions of this file.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(symmetric_eigenvalues, m)?)?;
    m.add_function(wrap_pyfunction!(symmetric_eigen, m)?)?;
    m.add_function(wrap_pyfunction!(class_directions, m)?)?;
    m.add_function(wrap_pyfunction!(log_potential, m)?)?;
    m.add_function(wrap_pyfunction!(cross_products, m)?)?;
    m.add_function(wrap_pyfunction!(view_sums, m)?)?;
    m.add_function(wrap_pyfunction!(nearest_rows, m)?)?;
    m.add_function(wrap_pyfunction!(k_nearest_rows, m)?)?;
    Ok(())
}

fn square<'a>(matrix: &'a PyReadonlyArray2<'_, f64>) -> PyResult<(&'a [f64], usize)> {
    let [n, d] = [matrix.shape()[0], matrix.shape()[1]];
    if n != d {
        return Err(ShapeError::new_err(format!("matrix has shape ({n}, {d}); it must be square")));
    }
    let values =
        matrix.as_slice().map_err(|_| ParameterError::new_err("matrix must be a C-contiguous array"))?;
    Ok((values, d))
}

#[pyfunction]
#[pyo3(signature = (matrix, *, n_threads=None))]
fn symmetric_eigenvalues<'py>(
    py: Python<'py>,
    matrix: PyReadonlyArray2<'py, f64>,
    n_threads: Option<usize>,
) -> PyResult<Vector<'py>> {
    let n_threads = threads(n_threads)?;
    let (values, d) = square(&matrix)?;
    let found = interrupt::run(py, None, |_| geometry::eigenvalues(values, d, n_threads))?;
    Ok(found.into_pyarray(py))
}

#[pyfunction]
#[pyo3(signature = (matrix, *, n_threads=None))]
fn symmetric_eigen<'py>(
    py: Python<'py>,
    matrix: PyReadonlyArray2<'py, f64>,
    n_threads: Option<usize>,
) -> PyResult<(Vector<'py>, Square<'py>)> {
    let n_threads = threads(n_threads)?;
    let (values, d) = square(&matrix)?;
    let (found, vectors) = interrupt::run(py, None, |_| geometry::eigen(values, d, n_threads))?;
    Ok((found.into_pyarray(py), vectors.into_pyarray(py).reshape([d, d])?))
}

/// (squares (k), counts (k), directions (k, d))
type Directions<'py> = (Vector<'py>, Bound<'py, PyArray1<u64>>, Square<'py>);

#[pyfunction]
#[pyo3(signature = (features, rows, labels, n_classes, centres, *, n_threads=None))]
fn class_directions<'py>(
    py: Python<'py>,
    features: Features<'py>,
    rows: PyReadonlyArray1<'py, u32>,
    labels: PyReadonlyArray1<'py, u32>,
    n_classes: usize,
    centres: PyReadonlyArray2<'py, f64>,
    n_threads: Option<usize>,
) -> PyResult<Directions<'py>> {
    let n_threads = threads(n_threads)?;
    let slices = features.slices()?;
    let (rows, labels) = (slice(&rows, "rows")?, slice(&labels, "labels")?);
    let d = centres.shape()[1];
    let centres = centres.as_slice()?;
    let found = interrupt::run(py, None, |control| {
        let matrix = slices.matrix()?;
        let rows = TrainingRows::new(&matrix, rows, labels, n_classes)?;
        geometry::class_directions(rows, centres, Run { n_threads, control })
    })?;
    let directions = found.directions.into_pyarray(py).reshape([n_classes, d])?;
    Ok((found.squares.into_pyarray(py), found.counts.into_pyarray(py), directions))
}

#[pyfunction]
#[pyo3(signature = (features, rows, *, t=2.0, n_threads=None))]
fn log_potential<'py>(
    py: Python<'py>,
    features: Features<'py>,
    rows: PyReadonlyArray1<'py, u32>,
    t: f64,
    n_threads: Option<usize>,
) -> PyResult<(f64, usize)> {
    let n_threads = threads(n_threads)?;
    let slices = features.slices()?;
    let rows = slice(&rows, "rows")?;
    let found = interrupt::run(py, None, |control| {
        geometry::log_potential(&slices.matrix()?, rows, t, Run { n_threads, control })
    })?;
    Ok((found.log_mean, found.rows))
}

#[pyfunction]
#[pyo3(signature = (features, rows, shift, other, other_rows, other_shift, *, n_threads=None))]
#[allow(clippy::too_many_arguments)] // the arguments of one Python function
fn cross_products<'py>(
    py: Python<'py>,
    features: Features<'py>,
    rows: PyReadonlyArray1<'py, u32>,
    shift: PyReadonlyArray1<'py, f64>,
    other: Features<'py>,
    other_rows: PyReadonlyArray1<'py, u32>,
    other_shift: PyReadonlyArray1<'py, f64>,
    n_threads: Option<usize>,
) -> PyResult<Square<'py>> {
    let n_threads = threads(n_threads)?;
    let (x, y) = (features.slices()?, other.slices()?);
    let (rows, other_rows) = (slice(&rows, "rows")?, slice(&other_rows, "other_rows")?);
    let (shift, other_shift) = (slice(&shift, "shift")?, slice(&other_shift, "other_shift")?);
    let found = interrupt::run(py, None, |control| {
        let (x, y) = (x.matrix()?, y.matrix()?);
        let run = Run { n_threads, control };
        geometry::cross_products((&x, rows, shift), (&y, other_rows, other_shift), run)
    })?;
    found.into_pyarray(py).reshape([shift.len(), other_shift.len()])
}

/// (sums (d), between (d, d), within (d, d), distance, samples)
type Views<'py> = (Vector<'py>, Square<'py>, Square<'py>, f64, usize);

#[pyfunction]
#[pyo3(signature = (views, rows, shift, *, n_threads=None))]
fn view_sums<'py>(
    py: Python<'py>,
    views: Vec<Features<'py>>,
    rows: Vec<PyReadonlyArray1<'py, u32>>,
    shift: PyReadonlyArray1<'py, f64>,
    n_threads: Option<usize>,
) -> PyResult<Views<'py>> {
    let n_threads = threads(n_threads)?;
    if views.len() != rows.len() {
        let message = format!("{} views come with rows of {}", views.len(), rows.len());
        return Err(ShapeError::new_err(message));
    }
    let slices = views.iter().map(Features::slices).collect::<PyResult<Vec<_>>>()?;
    let rows = rows.iter().map(|rows| slice(rows, "rows")).collect::<PyResult<Vec<_>>>()?;
    let shift = slice(&shift, "shift")?;
    let found = interrupt::run(py, None, |control| {
        let matrices = slices.iter().map(|s| s.matrix()).collect::<Result<Vec<Matrix<'_>>, _>>()?;
        let views: Vec<(&Matrix<'_>, &[u32])> = matrices.iter().zip(rows.iter().copied()).collect();
        geometry::view_sums(&views, shift, Run { n_threads, control })
    })?;
    let d = shift.len();
    let square = |values: Vec<f64>| values.into_pyarray(py).reshape([d, d]);
    let (between, within) = (square(found.between)?, square(found.within)?);
    Ok((found.sums.into_pyarray(py), between, within, found.aligned.distance, found.aligned.samples))
}

#[pyfunction]
#[pyo3(signature = (features, rows, base, base_rows, *, same=false, n_threads=None, progress=None))]
#[allow(clippy::too_many_arguments)] // the arguments of one Python function
fn nearest_rows<'py>(
    py: Python<'py>,
    features: Features<'py>,
    rows: PyReadonlyArray1<'py, u32>,
    base: Features<'py>,
    base_rows: PyReadonlyArray1<'py, u32>,
    same: bool,
    n_threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Bound<'py, PyArray1<u32>>, Vector<'py>)> {
    let n_threads = threads(n_threads)?;
    let (x, y) = (features.slices()?, base.slices()?);
    let (rows, base_rows) = (slice(&rows, "rows")?, slice(&base_rows, "base_rows")?);
    let found = interrupt::run(py, progress.as_ref(), |control| {
        let (x, y) = (x.matrix()?, y.matrix()?);
        geometry::nearest((&x, rows), (&y, base_rows), same, Run { n_threads, control })
    })?;
    Ok((found.position.into_pyarray(py), found.similarity.into_pyarray(py)))
}

#[pyfunction]
#[pyo3(signature = (features, rows, base, base_rows, k, *, n_threads=None, progress=None))]
#[allow(clippy::too_many_arguments)] // the arguments of one Python function
fn k_nearest_rows<'py>(
    py: Python<'py>,
    features: Features<'py>,
    rows: PyReadonlyArray1<'py, u32>,
    base: Features<'py>,
    base_rows: PyReadonlyArray1<'py, u32>,
    k: usize,
    n_threads: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Bound<'py, PyArray2<u32>>, Square<'py>)> {
    let n_threads = threads(n_threads)?;
    let (x, y) = (features.slices()?, base.slices()?);
    let (rows, base_rows) = (slice(&rows, "rows")?, slice(&base_rows, "base_rows")?);
    let found = interrupt::run(py, progress.as_ref(), |control| {
        let (x, y) = (x.matrix()?, y.matrix()?);
        geometry::nearest_of((&x, rows), (&y, base_rows), k, Run { n_threads, control })
    })?;
    let shape = [rows.len(), k];
    Ok((found.position.into_pyarray(py).reshape(shape)?, found.similarity.into_pyarray(py).reshape(shape)?))
}

/// (shift (d), counts (k), sums (k, d), gram (d, d), indices of constant features)
pub type Totals<'py> = (
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<u64>>,
    Square<'py>,
    Square<'py>,
    Bound<'py, PyArray1<u32>>,
);

/// The sums of some cells of moments.
pub fn totals<'py>(
    py: Python<'py>,
    make: impl FnOnce() -> ssl_risk_core::Result<ssl_risk_core::moments::Totals> + Send,
) -> PyResult<Totals<'py>> {
    let found = py.detach(make).map_err(to_py)?;
    let (d, k, constant) = (found.shift.len(), found.counts.len(), found.constant().into_pyarray(py));
    let sums = found.sums.into_pyarray(py).reshape([k, d])?;
    let gram = found.gram.into_pyarray(py).reshape([d, d])?;
    Ok((found.shift.into_pyarray(py), found.counts.into_pyarray(py), sums, gram, constant))
}
