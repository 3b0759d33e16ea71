//! Whole numbers that callers have in whatever type their library gave them.

use numpy::{Element, PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::error::{ParameterError, ShapeError};
use crate::features::slice;

/// A vector of whole numbers: read where it lies if it is of type `T`, else converted.
pub enum Whole<'py, T: Element> {
    /// As it lies.
    Lying(PyReadonlyArray1<'py, T>),
    /// Of another type.
    Converted(Vec<T>),
}

impl<'py, T: Element + TryFrom<i64> + TryFrom<u64>> Whole<'py, T> {
    /// `values`, called `name`, each of which is called `one`.
    pub fn new(values: &Bound<'py, PyAny>, name: &str, one: &str) -> PyResult<Self> {
        if values.hasattr("mask")? {
            let message =
                format!("{name} are masked, and a mask is not read here; fill or drop what it hides");
            return Err(ParameterError::new_err(message));
        }
        if let Ok(array) = values.cast::<PyArray1<T>>() {
            return Ok(Self::Lying(array.readonly()));
        }
        let array = values.py().import("numpy")?.call_method1("asarray", (values,))?;
        let shape: Vec<usize> = array.getattr("shape")?.extract()?;
        if shape.len() != 1 {
            let message =
                format!("{name} must be a vector, not an array of shape {}", array.getattr("shape")?);
            return Err(ShapeError::new_err(message));
        }
        let dtype = array.getattr("dtype")?;
        let converted = match &*dtype.getattr("kind")?.extract::<String>()? {
            "i" => converted::<i64, T>(&array, "int64", one),
            "u" => converted::<u64, T>(&array, "uint64", one),
            _ => Err(ParameterError::new_err(format!("{name} must be whole numbers, not {dtype}"))),
        };
        Ok(Self::Converted(converted?))
    }

    /// The numbers.
    pub fn values(&self, name: &str) -> PyResult<&[T]> {
        match self {
            Self::Lying(array) => slice(array, name),
            Self::Converted(values) => Ok(values),
        }
    }
}

fn converted<W, T>(array: &Bound<'_, PyAny>, dtype: &str, one: &str) -> PyResult<Vec<T>>
where
    W: Element + Copy + std::fmt::Display,
    T: TryFrom<W>,
{
    let wide = array.call_method1("astype", (dtype,))?;
    let wide: PyReadonlyArray1<'_, W> = wide.extract()?;
    let number = |(place, &value): (usize, &W)| {
        T::try_from(value).map_err(|_| {
            ParameterError::new_err(format!("{one} {value} at position {place} is out of range"))
        })
    };
    wide.as_array().iter().enumerate().map(number).collect()
}
