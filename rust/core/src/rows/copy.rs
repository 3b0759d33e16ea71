//! Copying rows out of a matrix in memory.

use half::f16;
use rayon::prelude::*;

use super::matrix::{Matrix, ValuesMut};
use super::widen::widen;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernel::parallel::install;
use crate::values::Values;

/// Bytes that a thread copies between two looks at the control and the guards.
const BLOCK_BYTES: usize = 1 << 20;
/// Copying less than this takes about as long as waking threads does.
const PARALLEL_BYTES: usize = 16 << 20;

/// Let `block` fill `out`, row-major `(rows.len(), d)`, `step` rows at a time, on several threads where that pays.
///
/// # Errors
/// [`Error::Shape`] for a buffer of another length; [`Error::Interrupted`]; those of `block`.
pub(crate) fn fill_blocks<R: Sync, T: Send>(
    rows: &[R],
    out: &mut [T],
    d: usize,
    step: usize,
    n_threads: usize,
    control: &Control,
    block: impl Fn(&[R], &mut [T]) -> Result<()> + Sync,
) -> Result<()> {
    if Some(out.len()) != rows.len().checked_mul(d) {
        return Err(Error::Shape {
            what: "buffer for rows (values in all)",
            got: out.len(),
            expected: rows.len().saturating_mul(d),
        });
    }
    let block = |(rows, out): (&[R], &mut [T])| {
        control.advance(rows.len())?;
        block(rows, out)
    };
    if size_of_val(out) < PARALLEL_BYTES || n_threads < 2 {
        return rows.chunks(step).zip(out.chunks_mut(step * d)).try_for_each(block);
    }
    install(n_threads, || rows.par_chunks(step).zip(out.par_chunks_mut(step * d)).try_for_each(block))
}

/// The error for float32 rows that were asked for as float16.
pub(crate) fn too_narrow() -> Error {
    Error::Parameter(
        "float32 representations were asked for as float16, which may not hold them; read float32".into(),
    )
}

impl Matrix<'_> {
    /// Copy the given logical rows, in the order asked for, into `out`, row-major `(rows.len(), n_features)`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a row out of range, or float16 of float32 rows; [`Error::Shape`] for a buffer of
    /// another length; what a segment's guard says; [`Error::Interrupted`].
    pub fn copy_into(
        &self,
        rows: &[u32],
        out: ValuesMut<'_>,
        n_threads: usize,
        control: &Control,
    ) -> Result<()> {
        if let Some(row) = rows.iter().find(|&&row| row as usize >= self.n_rows()) {
            return Err(Error::Parameter(format!("row {row} asked for, there are {}", self.n_rows())));
        }
        match out {
            ValuesMut::F32(out) => self.copy_blocks(rows, out, n_threads, control, |values, out| {
                match values {
                    Values::F16(values) => widen(values, out),
                    Values::F32(values) => out.copy_from_slice(values),
                }
                Ok(())
            }),
            ValuesMut::F16(out) => {
                self.copy_blocks(rows, out, n_threads, control, |values, out: &mut [f16]| match values {
                    Values::F16(values) => {
                        out.copy_from_slice(values);
                        Ok(())
                    }
                    Values::F32(_) => Err(too_narrow()),
                })
            }
        }
    }

    /// `run` copies values that lie together.
    fn copy_blocks<T: Send>(
        &self,
        rows: &[u32],
        out: &mut [T],
        n_threads: usize,
        control: &Control,
        run: impl Fn(Values<'_>, &mut [T]) -> Result<()> + Sync,
    ) -> Result<()> {
        let d = self.n_features;
        let step = (BLOCK_BYTES / (d * size_of::<T>())).max(1);
        fill_blocks(rows, out, d, step, n_threads, control, |rows, mut out| {
            self.check()?;
            let (mut s, mut i) = (0, 0);
            while i < rows.len() {
                let at = self.find(rows[i], &mut s);
                let segment = s;
                let mut n = 1;
                while i + n < rows.len() && self.find(rows[i + n], &mut s) == at + n * d && s == segment {
                    n += 1;
                }
                let (to, rest) = out.split_at_mut(n * d);
                run(self.segments[segment].values.slice(at..at + n * d), to)?;
                (out, i) = (rest, i + n);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::Segment;
    use super::*;

    /// Two segments of two types, (n, 3), whose values count up.
    fn with_matrix(n: usize, test: impl Fn(&Matrix<'_>)) {
        let a: Vec<f16> = (0..n / 2 * 3).map(|v| f16::from_f32(v as f32)).collect();
        let b: Vec<f32> = (n / 2 * 3..n * 3).map(|v| v as f32).collect();
        let segment = |values| Segment { values, guard: None };
        test(&Matrix::new(3, vec![segment(Values::F16(&a)), segment(Values::F32(&b))]).unwrap());
    }

    #[test]
    fn rows_are_those_of_stage_in_any_order_and_with_any_threads() {
        with_matrix(600, |matrix| {
            let orders: [Vec<u32>; 5] = [
                (0..600).collect(),
                (0..600).rev().collect(),
                (0..600).filter(|row| row % 5 != 0).collect(),
                (0..1200).map(|i| i * 7919 % 600).collect(),
                vec![],
            ];
            for rows in &orders {
                let mut expected = vec![0.0; rows.len() * 3];
                matrix.stage(rows, &mut expected, 3).unwrap();
                for n_threads in [1, 3] {
                    let mut out = vec![f32::NAN; rows.len() * 3];
                    matrix.copy_into(rows, ValuesMut::F32(&mut out), n_threads, &Control::new()).unwrap();
                    assert_eq!(out, expected);
                }
            }
        });
    }

    #[test]
    fn large_copies_are_those_of_small_ones() {
        let values: Vec<f32> = (0..PARALLEL_BYTES / 4 + 4096).map(|v| v as f32).collect();
        let matrix = Matrix::new(4096, vec![Segment { values: Values::F32(&values), guard: None }]).unwrap();
        let rows: Vec<u32> = (0..matrix.n_rows() as u32).collect();
        let mut out = vec![f32::NAN; values.len()];
        matrix.copy_into(&rows, ValuesMut::F32(&mut out), 3, &Control::new()).unwrap();
        assert_eq!(out, values);
    }

    #[test]
    fn what_cannot_be_copied_is_refused() {
        with_matrix(6, |matrix| {
            let control = Control::new();
            let (mut wide, mut narrow) = ([0.0; 3], [f16::ZERO; 3]);
            let beyond = matrix.copy_into(&[6], ValuesMut::F32(&mut wide), 1, &control).unwrap_err();
            assert!(beyond.to_string().contains("row 6 asked for, there are 6"));
            assert!(matrix.copy_into(&[0], ValuesMut::F16(&mut narrow), 1, &control).is_ok());
            let single = matrix.copy_into(&[5], ValuesMut::F16(&mut narrow), 1, &control).unwrap_err();
            assert!(single.to_string().contains("read float32"));
            let short = matrix.copy_into(&[0, 1], ValuesMut::F32(&mut wide), 1, &control).unwrap_err();
            assert!(matches!(short, Error::Shape { got: 3, expected: 6, .. }));
            control.cancel();
            let stopped = matrix.copy_into(&[0], ValuesMut::F32(&mut wide), 1, &control).unwrap_err();
            assert!(matches!(stopped, Error::Interrupted));
        });
    }
}
