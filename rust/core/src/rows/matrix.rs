//! One logical matrix over pieces of memory, and the blocks that solvers stage of it.

use std::ops::Range;

use half::f16;

use super::widen::{add_halves, add_singles, widen};
use crate::error::{Error, Result};
use crate::kernel::all_finite;
use crate::values::Values;

/// Bytes that [`Matrix::add_rows`] asks for before it adds them: the CPU's own read-ahead ends with a page.
const SCAN_AHEAD: usize = 8192;

/// Checked before rows of a segment are read: a mapped file may have shrunk since it was opened.
pub trait Guard: Sync {
    /// An error if the memory behind the segment may no longer be read.
    ///
    /// # Errors
    /// [`Error::CorruptBank`] naming the file.
    fn check(&self) -> Result<()>;

    /// Whether reading this byte of the segment will not wait for a disk, as far as is known.
    fn in_memory(&self, _byte: usize) -> bool {
        true
    }

    /// Start to bring these bytes of the segment into memory; returns before they are there.
    fn will_need(&self, _bytes: Range<usize>) {}
}

/// A run of consecutive rows in memory.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    /// The rows.
    pub values: Values<'a>,
    /// Checked before each block is read; `None` for memory that cannot vanish.
    pub guard: Option<&'a dyn Guard>,
}

/// Where rows are copied to, row-major without holes.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// IEEE binary16.
    F16(&'a mut [f16]),
    /// IEEE binary32.
    F32(&'a mut [f32]),
}

/// `n` rows of `d` features over one or more segments; see the module's documentation.
pub struct Matrix<'a> {
    pub(super) n_features: usize,
    pub(super) segments: Vec<Segment<'a>>,
    /// First storage row of each segment, and the total at the end.
    starts: Vec<usize>,
    /// Storage row of each logical row; `None` where they are the same.
    order: Option<&'a [u32]>,
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
    pub fn with_order(mut self, order: &'a [u32]) -> Result<Self> {
        let n = self.starts[self.starts.len() - 1] as u64;
        if let Some(&bad) = order.iter().find(|&&row| u64::from(row) >= n) {
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
        self.check()?;
        let mut s = 0;
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(stride)) {
            let out = &mut out[..d];
            let at = self.find(row, &mut s);
            match self.segments[s].values {
                Values::F16(v) => widen(&v[at..at + d], out),
                Values::F32(v) => out.copy_from_slice(&v[at..at + d]),
            }
        }
        Ok(())
    }

    /// As [`Self::stage`], for rows that a solver relies on.
    ///
    /// # Errors
    /// [`Error::BadValue`] for the first row that holds NaN or infinity; what a segment's guard says.
    ///
    /// # Panics
    /// As [`Self::stage`].
    pub fn stage_finite(&self, rows: &[u32], out: &mut [f32], stride: usize) -> Result<()> {
        self.stage(rows, out, stride)?;
        let mut staged = out.chunks_exact(stride).zip(rows);
        match staged.find(|(row, _)| !all_finite(&row[..self.n_features])) {
            Some((_, &row)) => Err(self.bad_value(row)),
            None => Ok(()),
        }
    }

    /// Bytes of a value; `None` if segments differ in type.
    pub fn value_bytes(&self) -> Option<usize> {
        let bytes = |segment: &Segment<'_>| match segment.values {
            Values::F16(_) => size_of::<f16>(),
            Values::F32(_) => size_of::<f32>(),
        };
        let first = bytes(self.segments.first()?);
        self.segments.iter().all(|segment| bytes(segment) == first).then_some(first)
    }

    /// The given logical rows where they lie.
    ///
    /// # Errors
    /// What a segment's guard says.
    ///
    /// # Panics
    /// As [`Self::stage`], where a row is taken.
    pub fn values_of(&self, rows: &[u32]) -> Result<impl Iterator<Item = Values<'a>> + Clone> {
        self.check()?;
        let mut s = 0;
        Ok(rows.iter().map(move |&row| {
            let at = self.find(row, &mut s);
            self.segments[s].values.slice(at..at + self.n_features)
        }))
    }

    /// The error for a row that holds NaN or infinity.
    pub(crate) fn bad_value(&self, row: u32) -> Error {
        let mut x = vec![0.0; self.n_features];
        if let Err(error) = self.stage(&[row], &mut x, self.n_features) {
            return error;
        }
        let column = x.iter().position(|v| !v.is_finite()).unwrap_or(0);
        Error::BadValue {
            row: row as usize,
            column,
            value: f64::from(x[column]),
            advice: "remove the row, or find out why the encoder gave it",
        }
    }

    /// [`Error::Shape`] unless rows have `expected` features.
    pub(crate) fn check_features(&self, expected: usize) -> Result<()> {
        if self.n_features == expected {
            return Ok(());
        }
        Err(Error::Shape { what: "number of features", got: self.n_features, expected })
    }

    /// [`Error::Parameter`] unless all `rows` exist.
    pub(crate) fn check_in(&self, rows: &[u32]) -> Result<()> {
        match rows.iter().find(|&&row| row as usize >= self.n_rows()) {
            Some(row) => Err(Error::Parameter(format!("row {row} of {}", self.n_rows()))),
            None => Ok(()),
        }
    }

    /// Add the given logical rows to `sums`, in float32: where they lie, without a copy.
    ///
    /// # Errors
    /// What a segment's guard says.
    ///
    /// # Panics
    /// As [`Self::stage`].
    pub fn add_rows(&self, rows: &[u32], sums: &mut [f32]) -> Result<()> {
        let row_bytes = self.n_features * self.value_bytes().unwrap_or(size_of::<f32>());
        let ahead = SCAN_AHEAD.div_ceil(row_bytes).min(rows.len());
        let values = self.values_of(rows)?;
        let mut later = values.clone().skip(ahead);
        for row in values {
            let later = later.next().unwrap_or(row).address();
            match row {
                Values::F16(row) => add_halves(row, later, sums),
                Values::F32(row) => add_singles(row, later, sums),
            }
        }
        Ok(())
    }

    /// Place of a logical row's first value in its segment, whose number becomes `s`; `s` is tried first.
    pub(super) fn find(&self, row: u32, s: &mut usize) -> usize {
        let row = self.order.map_or(row, |order| order[row as usize]) as usize;
        if row < self.starts[*s] || row >= self.starts[*s + 1] {
            *s = self.starts.partition_point(|&start| start <= row) - 1;
        }
        (row - self.starts[*s]) * self.n_features
    }

    /// What the guards of all segments say.
    pub(super) fn check(&self) -> Result<()> {
        self.segments.iter().filter_map(|segment| segment.guard).try_for_each(Guard::check)
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
    fn rows_are_added_where_they_lie_whatever_lies_after_them() {
        let (d, n) = (37, 400);
        let value = |i: usize| (i * 7 % 64) as f32;
        let a: Vec<f16> = (0..150 * d).map(|i| f16::from_f32(value(i))).collect();
        let b: Vec<f32> = (150 * d..n * d).map(value).collect();
        let segment = |values| Segment { values, guard: None };
        let matrix = Matrix::new(d, vec![segment(Values::F16(&a)), segment(Values::F32(&b))]).unwrap();
        for rows in
            [vec![], vec![3], (0..n as u32).collect(), (0..n as u32).rev().step_by(3).collect::<Vec<_>>()]
        {
            let mut sums = vec![1.0; d];
            matrix.add_rows(&rows, &mut sums).unwrap();
            for (column, sum) in sums.iter().enumerate() {
                let slow: f32 = rows.iter().map(|&row| value(row as usize * d + column)).sum();
                assert_eq!(*sum, 1.0 + slow); // whole numbers: exact
            }
        }
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
