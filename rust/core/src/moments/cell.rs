//! Sums over the rows of one cell, and the blocks of rows they are taken from.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::error::Result;
use crate::kernel::{Kernel, LANES, Panels, Symmetric, all_finite, prefetch, prefetch_all};
use crate::rows::Matrix;

/// Rows that are asked for ahead.
const ROWS_AHEAD: usize = 16;

/// Statistics of the rows of one cell, about the shift of its [`Moments`].
///
/// Features are cut into panels of 16, so that threads add to disjoint memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    /// Rows of each class, `(k)`.
    pub counts: Vec<u64>,
    /// Σ (x − c) by class, `(panels, k, 16)`.
    pub sums: Vec<f64>,
    /// Least and largest x − c, `(panels, 2, 16)`; those beyond the last feature are unspecified.
    pub ranges: Vec<f32>,
    /// Σ (x−c)(x−c)ᵀ, `(d, d)`.
    pub gram: Symmetric,
}

impl Cell {
    pub fn new(d: usize, k: usize) -> Self {
        let panels = d.div_ceil(LANES);
        let range = [[f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]];
        Self {
            counts: vec![0; k],
            sums: vec![0.0; panels * k * LANES],
            ranges: range.as_flattened().repeat(panels),
            gram: Symmetric::new(d),
        }
    }

    /// Σ (x − c) of feature `j` over the rows of class `c`.
    pub fn sum(&self, c: usize, j: usize) -> f64 {
        self.panel(j / LANES, c)[j % LANES]
    }

    /// The same of features `16 panel ..`, `(16)`.
    pub fn panel(&self, panel: usize, c: usize) -> &[f64] {
        &self.sums[(panel * self.counts.len() + c) * LANES..][..LANES]
    }

    /// Largest minus least value of feature `j`.
    pub fn width(&self, j: usize) -> f64 {
        let at = j / LANES * 2 * LANES + j % LANES;
        f64::from(self.ranges[at + LANES]) - f64::from(self.ranges[at])
    }

    pub fn add(&mut self, other: &Self) {
        add_into(&mut self.counts, &other.counts);
        add_into(&mut self.sums, &other.sums);
        self.gram.add(&other.gram);
        for (a, b) in self.ranges.chunks_exact_mut(2 * LANES).zip(other.ranges.chunks_exact(2 * LANES)) {
            for i in 0..LANES {
                a[i] = a[i].min(b[i]);
                a[LANES + i] = a[LANES + i].max(b[LANES + i]);
            }
        }
    }

    /// Largest |x − c| of each feature, `(d)`.
    pub fn largest(&self, d: usize) -> impl Iterator<Item = f32> {
        (0..d).map(|j| {
            let at = j / LANES * 2 * LANES + j % LANES;
            self.ranges[at].abs().max(self.ranges[at + LANES].abs())
        })
    }

    /// Add rows that have been filled; `labels` are those of the rows, block after block.
    pub fn add_blocks(&mut self, products: &Products<'_>, blocks: &[Block], labels: &[u32]) {
        let k = self.counts.len();
        for &label in labels {
            self.counts[label as usize] += 1;
        }
        let sums = self.sums.par_chunks_exact_mut(k * LANES);
        sums.zip(self.ranges.par_chunks_exact_mut(2 * LANES)).enumerate().for_each(|(p, (sums, range))| {
            let mut labels = labels;
            for block in blocks {
                let (own, rest) = labels.split_at(block.n);
                add_sums(&block.x, p * LANES, own, sums, range);
                labels = rest;
            }
        });
        match products {
            Products::Wide => self.gram.add_gram_wide(blocks.iter().map(|block| block.wide.as_slice())),
            Products::Packed { kernel, .. } => {
                self.gram.add_gram(kernel, blocks.iter().map(|block| &block.panels));
            }
        }
    }
}

/// How the products of features are taken.
pub(super) enum Products<'a> {
    /// In float64.
    Wide,
    /// By a kernel, of features times `units` `(d)`, powers of two that keep squares within float32.
    Packed { kernel: &'a Kernel, units: Option<&'a [f32]> },
}

/// Rows staged by one thread.
#[derive(Default)]
pub(super) struct Block {
    n: usize,
    /// x − c, `(n, d)`.
    x: Vec<f32>,
    /// The same, for [`Products::Wide`].
    wide: Vec<f64>,
    /// The same times units, for [`Products::Packed`].
    panels: Panels,
}

impl Block {
    /// Stage `rows` and prepare their products; the first row that holds NaN or infinity is an error.
    pub fn fill(
        &mut self,
        products: &Products<'_>,
        matrix: &Matrix<'_>,
        rows: &[u32],
        shift: &[f32],
    ) -> Result<()> {
        let d = shift.len();
        self.n = rows.len();
        self.x.resize(rows.len() * d, 0.0);
        matrix.stage(rows, &mut self.x, d)?;
        for (row, &id) in self.x.chunks_exact_mut(d).zip(rows) {
            if !all_finite(row) {
                return Err(matrix.bad_value(id));
            }
            subtract(row, shift);
        }
        match products {
            Products::Wide => {
                self.wide.clear();
                self.wide.extend(self.x.iter().map(|&v| f64::from(v)));
            }
            Products::Packed { kernel, units: None } => self.panels.pack(kernel, &self.x, self.n, d, d),
            Products::Packed { kernel, units: Some(units) } => {
                let x: Vec<f32> = self
                    .x
                    .chunks_exact(d)
                    .flat_map(|row| row.iter().zip(*units).map(|(v, u)| v * u))
                    .collect();
                self.panels.pack(kernel, &x, self.n, d, d);
            }
        }
        Ok(())
    }
}

/// `row − shift`, in place.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn subtract(row: &mut [f32], shift: &[f32]) {
    for (v, &c) in row.iter_mut().zip(shift) {
        *v -= c;
    }
}

/// Add up to 16 features from `first` on of rows `x` to the sums of their classes `(k, 16)` and to the ranges `(2, 16)`.
///
/// From one row to the next lie more bytes than the CPU reads ahead by itself, and classes come in any order: both are
/// asked for ahead, or most of the time is waiting.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn add_sums(x: &[f32], first: usize, labels: &[u32], sums: &mut [f64], range: &mut [f32]) {
    let d = x.len() / labels.len();
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let ([least, largest], []) = range.as_chunks_mut::<LANES>() else {
        unreachable!("a range of 16 features")
    };
    // arrays of their own: compilers know what does not overlap, and use vector instructions everywhere
    let (mut low, mut high) = (*least, *largest);
    for (i, (row, &label)) in x.chunks_exact(d).zip(labels).enumerate() {
        prefetch(row.as_ptr().wrapping_add(ROWS_AHEAD * d + first));
        if let Some(&later) = labels.get(i + ROWS_AHEAD) {
            prefetch_all(&sums[later as usize]);
        }
        let row = &row[first..];
        let line = row.first_chunk().copied().unwrap_or_else(|| {
            let mut line = [0.0; LANES]; // what is reported reads nothing beyond the last feature
            line[..row.len()].copy_from_slice(row);
            line
        });
        for (s, v) in sums[label as usize].iter_mut().zip(line) {
            *s += f64::from(v);
        }
        for ((a, b), v) in low.iter_mut().zip(&mut high).zip(line) {
            *a = if v < *a { v } else { *a };
            *b = if v > *b { v } else { *b };
        }
    }
    (*least, *largest) = (low, high);
}

pub(super) fn add_into<T: Copy + std::ops::AddAssign>(a: &mut [T], b: &[T]) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a += b;
    }
}
