//! Representations as one logical matrix over pieces of memory.
//!
//! A [`Matrix`] is what every solver reads: `n` rows of `d` features in float16 or float32, lying in one or
//! more [`Segment`]s (arrays, or the mapped parts of a bank). Rows are never copied as a whole; a solver
//! stages a block of them in float32 with [`Matrix::stage`].

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::error::{Error, Result};

/// The values of a segment, row-major without holes.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// IEEE binary16.
    F16(&'a [f16]),
    /// IEEE binary32.
    F32(&'a [f32]),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F16(v) => v.len(),
            Self::F32(v) => v.len(),
        }
    }
}

/// Checked before rows of a segment are read: a mapped file may have shrunk since it was opened.
pub trait Guard: Sync {
    /// An error if the memory behind the segment may no longer be read.
    ///
    /// # Errors
    /// [`Error::CorruptBank`] naming the file.
    fn check(&self) -> Result<()>;
}

/// A run of consecutive rows in memory.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    /// The rows.
    pub values: Values<'a>,
    /// Checked before each block is read; `None` for memory that cannot vanish.
    pub guard: Option<&'a dyn Guard>,
}

/// `n` rows of `d` features over one or more segments; see the module's documentation.
pub struct Matrix<'a> {
    n_features: usize,
    segments: Vec<Segment<'a>>,
    /// First storage row of each segment, and the total at the end.
    starts: Vec<usize>,
    /// Storage row of each logical row; `None` where they are the same.
    order: Option<&'a [u64]>,
}

impl<'a> Matrix<'a> {
    /// The segments one after the other.
    ///
    /// # Errors
    /// [`Error::Shape`] if a segment is no whole number of rows.
    pub fn new(n_features: usize, segments: Vec<Segment<'a>>) -> Result<Self> {
        if n_features == 0 {
            return Err(Error::Parameter("representations have no features (shape (n, 0))".into()));
        }
        let mut starts = vec![0];
        for segment in &segments {
            let len = segment.values.len();
            if !len.is_multiple_of(n_features) {
                return Err(Error::Shape {
                    what: "segment modulo n_features",
                    got: len % n_features,
                    expected: 0,
                });
            }
            starts.push(starts[starts.len() - 1] + len / n_features);
        }
        Ok(Self { n_features, segments, starts, order: None })
    }

    /// Logical row `i` is storage row `order[i]`.
    ///
    /// # Errors
    /// [`Error::Parameter`] if an entry points past the last storage row.
    pub fn with_order(mut self, order: &'a [u64]) -> Result<Self> {
        let n = self.starts[self.starts.len() - 1] as u64;
        if let Some(&bad) = order.iter().find(|&&row| row >= n) {
            return Err(Error::Parameter(format!("row order names storage row {bad}, there are {n}")));
        }
        self.order = Some(order);
        Ok(self)
    }

    /// Number of logical rows.
    pub fn n_rows(&self) -> usize {
        match self.order {
            Some(order) => order.len(),
            None => self.starts[self.starts.len() - 1],
        }
    }

    /// Number of features.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// Copy the given logical rows into `out` as float32; rows start there every `stride` values.
    ///
    /// # Errors
    /// What a segment's guard says.
    ///
    /// # Panics
    /// If a row is out of range or `out` is too short: both are checked where they enter the crate.
    pub fn stage(&self, rows: &[u32], out: &mut [f32], stride: usize) -> Result<()> {
        let d = self.n_features;
        assert!(stride >= d && out.len() >= rows.len() * stride, "staging buffer");
        for segment in &self.segments {
            if let Some(guard) = segment.guard {
                guard.check()?;
            }
        }
        let mut s = 0;
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(stride)) {
            let out = &mut out[..d];
            let row = self.order.map_or(row as usize, |o| o[row as usize] as usize);
            if row < self.starts[s] || row >= self.starts[s + 1] {
                s = self.starts.partition_point(|&start| start <= row) - 1;
            }
            let at = (row - self.starts[s]) * d;
            match self.segments[s].values {
                Values::F16(v) => v[at..at + d].convert_to_f32_slice(out),
                Values::F32(v) => out.copy_from_slice(&v[at..at + d]),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_from_the_right_segment_in_the_right_order() {
        let a: Vec<f16> = (0..6).map(|v| f16::from_f32(v as f32)).collect();
        let b: Vec<f32> = (6..10).map(|v| v as f32).collect();
        let order = [4, 0, 3, 1, 2];
        let matrix = Matrix::new(
            2,
            vec![
                Segment { values: Values::F16(&a), guard: None },
                Segment { values: Values::F32(&b), guard: None },
            ],
        )
        .unwrap();
        let mut out = vec![0.0; 6];
        matrix.stage(&[4, 0, 3], &mut out, 2).unwrap();
        assert_eq!(out, [8.0, 9.0, 0.0, 1.0, 6.0, 7.0]);
        let matrix = matrix.with_order(&order).unwrap();
        matrix.stage(&[0, 1, 2], &mut out, 2).unwrap();
        assert_eq!(out, [8.0, 9.0, 0.0, 1.0, 6.0, 7.0]);
        assert_eq!(matrix.n_rows(), 5);
    }

    #[test]
    fn ragged_segments_and_wild_orders_are_refused() {
        let a = [0.0_f32; 5];
        let segment = || vec![Segment { values: Values::F32(&a), guard: None }];
        assert!(matches!(Matrix::new(2, segment()), Err(Error::Shape { .. })));
        assert!(Matrix::new(0, segment()).is_err());
        assert!(Matrix::new(5, segment()).unwrap().with_order(&[1]).is_err());
    }
}
