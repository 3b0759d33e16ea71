//! Copies of rows, in any order, from memory or disk.

use std::ops::Range;

use half::f16;
use rayon::prelude::*;

use super::matrix::{Matrix, Values};
use super::widen::widen;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernel::parallel::install;

/// Where rows are copied to, row-major without holes.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// IEEE binary16.
    F16(&'a mut [f16]),
    /// IEEE binary32.
    F32(&'a mut [f32]),
}

/// Rows that a thread asks of the disk together and then copies, between two looks at the control.
const GATHER_ROWS: usize = 256;
/// Copying less than this takes about as long as waking threads does.
const PARALLEL_BYTES: usize = 16 << 20;
/// Bytes between rows that are read with them: the disk takes no longer.
const NEAR_BYTES: usize = 1 << 16;
/// Rows of a block whose presence in memory stands for that of all: asking costs a hundredth of copying.
const SAMPLED: usize = 4;

impl Matrix<'_> {
    /// Copy the given logical rows into `out`, in the order asked for.
    ///
    /// # Errors
    /// [`Error::Shape`] if `out` has another size; [`Error::Parameter`] for a row out of range, or float32
    /// rows as float16, which may not hold them; what a segment's guard says; [`Error::Interrupted`].
    pub fn gather(
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
            ValuesMut::F32(out) => {
                self.copy_blocks(rows, out, n_threads, control, |values, out| match values {
                    Values::F16(v) => widen(v, out),
                    Values::F32(v) => out.copy_from_slice(v),
                })
            }
            ValuesMut::F16(out) => {
                if self.segments.iter().any(|segment| matches!(segment.values, Values::F32(_))) {
                    return Err(Error::Parameter(
                        "float32 representations were asked for as float16, which may not hold them; read float32"
                            .into(),
                    ));
                }
                self.copy_blocks(rows, out, n_threads, control, |values, out| {
                    if let Values::F16(v) = values {
                        out.copy_from_slice(v);
                    }
                })
            }
        }
    }

    fn copy_blocks<T: Send>(
        &self,
        rows: &[u32],
        out: &mut [T],
        n_threads: usize,
        control: &Control,
        copy: impl Fn(Values<'_>, &mut [T]) + Sync,
    ) -> Result<()> {
        let d = self.n_features;
        if Some(out.len()) != rows.len().checked_mul(d) {
            return Err(Error::Shape {
                what: "buffer for rows (values in all)",
                got: out.len(),
                expected: rows.len().saturating_mul(d),
            });
        }
        let block = |(i, out): (usize, &mut [T])| {
            let from = i * GATHER_ROWS;
            let block = &rows[from..(from + GATHER_ROWS).min(rows.len())];
            control.advance(block.len())?;
            self.check()?;
            self.prefetch(block);
            let mut s = 0;
            let mut at = self.find(block[0], &mut s);
            for (i, out) in out.chunks_exact_mut(d).enumerate() {
                let values = self.segments[s].values.slice(at..at + d);
                if let Some(&next) = block.get(i + 1) {
                    at = self.find(next, &mut s);
                    self.segments[s].values.touch(at); // on its way while this row is copied
                }
                copy(values, out);
            }
            Ok(())
        };
        if size_of_val(out) < PARALLEL_BYTES || n_threads < 2 {
            return out.chunks_mut(GATHER_ROWS * d).enumerate().try_for_each(block);
        }
        install(n_threads, || out.par_chunks_mut(GATHER_ROWS * d).enumerate().try_for_each(block))
    }

    /// Ask the disk for the rows, unless they seem to be in memory.
    fn prefetch(&self, rows: &[u32]) {
        let d = self.n_features;
        let mut s = 0;
        let step = rows.len().div_ceil(SAMPLED).max(1);
        let cold = rows.iter().step_by(step).any(|&row| {
            let at = self.find(row, &mut s);
            let segment = &self.segments[s];
            segment.guard.is_some_and(|guard| !guard.in_memory(at * segment.values.size()))
        });
        if !cold {
            return;
        }
        // rows near each other are asked for together
        let mut near: Option<(usize, Range<usize>)> = None;
        for &row in rows {
            let at = self.find(row, &mut s);
            let size = self.segments[s].values.size();
            let bytes = at * size..(at + d) * size;
            match &mut near {
                Some((segment, so_far))
                    if *segment == s
                        && bytes.start >= so_far.start
                        && bytes.start <= so_far.end.saturating_add(NEAR_BYTES) =>
                {
                    so_far.end = so_far.end.max(bytes.end);
                }
                _ => {
                    if let Some((segment, bytes)) = near.replace((s, bytes)) {
                        self.will_need(segment, bytes);
                    }
                }
            }
        }
        if let Some((segment, bytes)) = near {
            self.will_need(segment, bytes);
        }
    }

    fn will_need(&self, segment: usize, bytes: Range<usize>) {
        if let Some(guard) = self.segments[segment].guard {
            guard.will_need(bytes);
        }
    }
}
