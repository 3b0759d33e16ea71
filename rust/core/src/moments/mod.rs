//! Sufficient statistics of rows, per cell: one pass, then every closed-form answer.
//!
//! A row belongs to one cell (a fold or a held-out subset). Each cell keeps counts, sums, sums by class,
//! ranges and `Σ (x−c)(x−c)ᵀ`; unions of cells are sums, so complements, cross-validation folds, centring,
//! scaling and every penalty follow without another pass ([`Moments::design`]).
//!
//! The shift `c` is zero except for features whose mean is far above their standard deviation: there,
//! sums of raw squares in float32 would cancel (measured: 0.12 relative at 30 standard deviations, 2e-5
//! shifted). Blocks are summed in float32, across blocks in float64.
//!
//! Moments of several machines or days are added with [`Moments::merge`], kept with [`Moments::save`], and
//! answered with [`Moments::solve`].

mod file;
mod solve;

use half::f16;
use multiversion::multiversion;
use rayon::prelude::*;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernel::parallel::{fold_blocks, install};
use crate::kernel::{Kernel, LANES, Panels, Precision, Symmetric, all_finite, choose};
use crate::rows::Matrix;

/// How a probe scales its features, from its own training rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scaling {
    /// Centre only (the intercept absorbs it).
    #[default]
    None,
    /// Unit variance.
    Standardize,
    /// Unit range, as in the paper's few-shot probes.
    MinMax,
}

impl Scaling {
    /// The factor of each feature; 0 for a dead one.
    pub(crate) fn factors(
        self,
        variance: &[f64],
        mean: impl Fn(usize) -> f64,
        width: impl Fn(usize) -> f64,
    ) -> Vec<f64> {
        let largest = variance.iter().copied().fold(0.0, f64::max);
        let factor = |(j, &v): (usize, &f64)| {
            // below these a variance is rounding noise of the features, and scaling it up would make
            // a column of pure leverage
            let dead = v <= 1e-12 * largest || v <= 1e-9 * mean(j) * mean(j);
            match self {
                _ if dead => 0.0,
                Self::None => 1.0,
                Self::Standardize => v.sqrt().recip(),
                Self::MinMax => 1.0 / width(j),
            }
        };
        variance.iter().enumerate().map(factor).collect()
    }
}

/// `x ↦ (x − shift) · scale`, feature by feature; a dead feature has scale 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// `(d)`
    pub shift: Vec<f32>,
    /// `(d)`
    pub scale: Vec<f32>,
}

impl Affine {
    /// Apply to staged rows, which start every `stride` values, in place.
    pub fn apply(&self, x: &mut [f32], stride: usize) {
        for row in x.chunks_mut(stride) {
            shift_and_scale(&mut row[..self.shift.len()], &self.shift, &self.scale);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn shift_and_scale(row: &mut [f32], shift: &[f32], scale: &[f32]) {
    for ((v, &m), &s) in row.iter_mut().zip(shift).zip(scale) {
        *v = (*v - m) * s;
    }
}

/// Statistics of the rows of one cell, about the shift of its [`Moments`].
///
/// Features are cut into panels of 16, so that threads add to disjoint memory.
#[derive(Debug, Clone, PartialEq)]
struct Cell {
    /// Rows of each class, `(k)`.
    counts: Vec<u64>,
    /// Σ (x − c) by class, `(panels, k, 16)`.
    sums: Vec<f64>,
    /// Least and largest x − c, `(panels, 2, 16)`.
    ranges: Vec<f32>,
    /// Σ (x−c)(x−c)ᵀ, `(d, d)`.
    gram: Symmetric,
}

impl Cell {
    fn new(d: usize, k: usize) -> Self {
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
    fn sum(&self, c: usize, j: usize) -> f64 {
        self.sums[(j / LANES * self.counts.len() + c) * LANES + j % LANES]
    }

    /// Largest minus least value of feature `j`.
    fn width(&self, j: usize) -> f64 {
        let at = j / LANES * 2 * LANES + j % LANES;
        f64::from(self.ranges[at + LANES]) - f64::from(self.ranges[at])
    }

    fn add(&mut self, other: &Self) {
        add_into(&mut self.counts, &other.counts);
        add_into(&mut self.sums, &other.sums);
        add_into(self.gram.entries_mut(), other.gram.entries());
        for (a, b) in self.ranges.chunks_exact_mut(2 * LANES).zip(other.ranges.chunks_exact(2 * LANES)) {
            for i in 0..LANES {
                a[i] = a[i].min(b[i]);
                a[LANES + i] = a[LANES + i].max(b[LANES + i]);
            }
        }
    }

    /// Add packed rows; `labels` are those of the rows, block after block.
    fn add_blocks(&mut self, kernel: &Kernel, blocks: &[Block], labels: &[u32]) {
        let k = self.counts.len();
        for &label in labels {
            self.counts[label as usize] += 1;
        }
        let sums = self.sums.par_chunks_exact_mut(k * LANES);
        sums.zip(self.ranges.par_chunks_exact_mut(2 * LANES)).enumerate().for_each(|(p, (sums, range))| {
            let mut labels = labels;
            for block in blocks {
                let (own, rest) = labels.split_at(block.n);
                add_sums(block.panel(p), own, sums, range);
                labels = rest;
            }
        });
        self.gram.add_gram(kernel, blocks.iter().map(|block| &block.panels));
    }
}

/// Rows staged by one thread.
#[derive(Default)]
struct Block {
    n: usize,
    x: Vec<f32>,
    panels: Panels,
}

impl Block {
    /// Stage and pack `rows`; the first row that holds NaN or infinity is an error.
    fn fill(&mut self, kernel: &Kernel, matrix: &Matrix<'_>, rows: &[u32], shift: &[f32]) -> Result<()> {
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
        self.panels.pack(kernel, &self.x, rows.len(), d, d);
        Ok(())
    }

    /// Features `16 p ..` of every row.
    fn panel(&self, p: usize) -> impl Iterator<Item = &[f32]> {
        let d = self.x.len() / self.n;
        self.x.chunks_exact(d).map(move |row| &row[p * LANES..((p + 1) * LANES).min(d)])
    }
}

/// `row − shift`, in place.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn subtract(row: &mut [f32], shift: &[f32]) {
    for (v, &c) in row.iter_mut().zip(shift) {
        *v -= c;
    }
}

/// Add one panel's rows to the sums of their classes `(k, 16)` and to the ranges `(2, 16)`.
fn add_sums<'a>(rows: impl Iterator<Item = &'a [f32]>, labels: &[u32], sums: &mut [f64], range: &mut [f32]) {
    let (least, largest) = range.split_at_mut(LANES);
    for (row, &label) in rows.zip(labels) {
        let sums = &mut sums[label as usize * LANES..][..LANES];
        for (((s, &v), a), b) in sums.iter_mut().zip(row).zip(least.iter_mut()).zip(largest.iter_mut()) {
            *s += f64::from(v);
            *a = if v < *a { v } else { *a };
            *b = if v > *b { v } else { *b };
        }
    }
}

fn add_into<T: Copy + std::ops::AddAssign>(a: &mut [T], b: &[T]) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

/// Statistics of rows in cells; see the module's documentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    n_features: usize,
    n_classes: usize,
    shift: Vec<f32>,
    precision: Precision,
    cells: Vec<Cell>,
}

/// Rows looked at for the shift; strided, because banks may be sorted by class.
const SHIFT_ROWS: usize = 2048;
/// A feature is shifted when its mean is this many standard deviations from zero.
const SHIFT_RATIO: f64 = 8.0;
/// Rows of one block, staged and packed by one thread.
const BLOCK_ROWS: usize = 256;
/// Rows summed in float32 before they are added to the float64 total: few enough that they stay in the last
/// cache (16 MB at 2048 features) while every tile reads them.
const FLUSH_ROWS: usize = 2048;
/// Rows whose features are summed in float32.
const MEAN_ROWS: usize = 256;
/// Rows that are sorted by cell at a time, for each cell: a scan in order, and few partly filled sums.
const SLAB_ROWS: usize = 4096;

/// A shift for [`Moments::new`]: zero, or a float16 value near the mean where |mean| ≫ sd, so that `x − c`
/// is exact for float16 features (Sterbenz).
///
/// # Errors
/// [`Error::Parameter`] for a row out of range; what a segment's guard says.
pub fn choose_shift(matrix: &Matrix<'_>, rows: &[u32]) -> Result<Vec<f32>> {
    let d = matrix.n_features();
    matrix.check_in(rows)?;
    let step = rows.len().div_ceil(SHIFT_ROWS).max(1);
    let sample: Vec<u32> = rows.iter().copied().step_by(step).collect();
    let (mut mean, mut square) = (vec![0.0_f64; d], vec![0.0_f64; d]);
    let mut x = vec![0.0; d];
    for &row in &sample {
        matrix.stage(&[row], &mut x, matrix.n_features())?;
        for ((m, s), &v) in mean.iter_mut().zip(&mut square).zip(&x) {
            *m += f64::from(v);
            *s += f64::from(v) * f64::from(v);
        }
    }
    let n = sample.len().max(1) as f64;
    Ok(mean
        .iter()
        .zip(&square)
        .map(|(&m, &s)| {
            let mean = m / n;
            let sd = (s / n - mean * mean).max(0.0).sqrt();
            let near = f16::from_f64(mean);
            if mean.abs() > SHIFT_RATIO * sd && near.is_finite() {
                near.to_f32()
            } else if mean.abs() > SHIFT_RATIO * sd {
                mean as f32
            } else {
                0.0
            }
        })
        .collect())
}

/// Mean of each feature over `rows`: one scan, nothing else computed.
///
/// # Errors
/// [`Error::Parameter`] if there are no rows or one is out of range, [`Error::BadValue`] for NaN or infinity,
/// what a segment's guard says, [`Error::Interrupted`].
///
/// # Accuracy
/// Sums of [`MEAN_ROWS`] rows in float32, across them in float64.
pub fn feature_means(
    matrix: &Matrix<'_>,
    rows: &[u32],
    n_threads: usize,
    control: &Control,
) -> Result<Vec<f64>> {
    let d = matrix.n_features();
    if rows.is_empty() {
        return Err(Error::Parameter("no rows to take means of".into()));
    }
    matrix.check_in(rows)?;
    let init = || (vec![0.0_f32; d], vec![0.0_f64; d]);
    let runs = fold_blocks(rows.len(), MEAN_ROWS, n_threads, init, |(sums, total), range| {
        let rows = &rows[range];
        control.advance(rows.len())?;
        sums.fill(0.0);
        matrix.add_rows(rows, sums)?;
        if all_finite(sums) {
            add_wide(sums, total);
            return Ok(());
        }
        for &row in rows {
            matrix.stage_finite(&[row], sums, d)?;
            add_wide(sums, total); // each is finite, their sum was not
        }
        Ok(())
    })?;
    let mut means = vec![0.0; d];
    for (_, total) in &runs {
        add_into(&mut means, total);
    }
    for mean in &mut means {
        *mean /= rows.len() as f64;
    }
    Ok(means)
}

fn add_wide(sums: &[f32], total: &mut [f64]) {
    for (t, &s) in total.iter_mut().zip(sums) {
        *t += f64::from(s);
    }
}

impl Moments {
    /// No rows yet.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are no classes, features or cells, or the shift is not finite.
    pub fn new(n_classes: usize, n_cells: usize, shift: Vec<f32>) -> Result<Self> {
        let d = shift.len();
        if d == 0 || n_classes == 0 || n_cells == 0 {
            return Err(Error::Parameter(format!(
                "moments need features, classes and cells, got {d}, {n_classes} and {n_cells}"
            )));
        }
        if let Some(j) = shift.iter().position(|c| !c.is_finite()) {
            return Err(Error::Parameter(format!("shift of feature {j} is {}; it must be finite", shift[j])));
        }
        let cells = vec![Cell::new(d, n_classes); n_cells];
        Ok(Self { n_features: d, n_classes, shift, precision: Precision::Exact, cells })
    }

    /// The same, whose updates may round factors of `Σ (x−c)(x−c)ᵀ` as `precision` says. Counts, sums and ranges
    /// stay exact. Rounded moments are good enough for the metric of a logistic fit, not for ridge.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Number of features.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// Number of classes.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Number of cells.
    pub fn n_cells(&self) -> usize {
        self.cells.len()
    }

    /// Add `rows` of the matrix; `labels` and `cells` are indexed by matrix row.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a label or cell out of range, [`Error::BadValue`] for NaN or infinity,
    /// [`Error::Numerical`] for features whose squares exceed float32, [`Error::Interrupted`]. The moments are
    /// unchanged after an error.
    pub fn update(
        &mut self,
        matrix: &Matrix<'_>,
        rows: &[u32],
        labels: &[u32],
        cells: &[u8],
        n_threads: usize,
        control: &Control,
    ) -> Result<()> {
        let (d, k) = (self.n_features, self.n_classes);
        check_rows(matrix, rows, labels, k)?;
        matrix.check_features(d)?;
        for &row in rows {
            let cell = usize::from(*cells.get(row as usize).ok_or(Error::Shape {
                what: "number of cells by row",
                got: cells.len(),
                expected: matrix.n_rows(),
            })?);
            if cell >= self.cells.len() {
                return Err(Error::Parameter(format!(
                    "row {row} is in cell {cell}, there are {}",
                    self.cells.len()
                )));
            }
        }
        let mut added = vec![Cell::new(d, k); self.cells.len()];
        install(n_threads, || self.accumulate(&mut added, matrix, rows, labels, cells, control))?;
        if added.iter().any(|cell| !cell.gram.entries().iter().all(|v| v.is_finite())) {
            return Err(Error::Numerical(
                "features are too large: their squares exceed float32 (3e38); divide all of them by one number".into(),
            ));
        }
        for (cell, added) in self.cells.iter_mut().zip(&added) {
            cell.add(added);
        }
        Ok(())
    }

    fn accumulate(
        &self,
        added: &mut [Cell],
        matrix: &Matrix<'_>,
        rows: &[u32],
        labels: &[u32],
        cells: &[u8],
        control: &Control,
    ) -> Result<()> {
        let kernel = choose(self.precision)?;
        let mut blocks = Vec::new();
        for slab in rows.chunks(SLAB_ROWS * added.len().min(16)) {
            let mut members = vec![Vec::new(); added.len()];
            for &row in slab {
                members[usize::from(cells[row as usize])].push(row);
            }
            for (cell, members) in added.iter_mut().zip(&members) {
                for rows in members.chunks(FLUSH_ROWS) {
                    control.advance(rows.len())?;
                    blocks.resize_with(rows.len().div_ceil(BLOCK_ROWS), Block::default);
                    blocks
                        .par_iter_mut()
                        .zip(rows.par_chunks(BLOCK_ROWS))
                        .try_for_each(|(block, rows)| block.fill(kernel, matrix, rows, &self.shift))?;
                    let labels: Vec<u32> = rows.iter().map(|&row| labels[row as usize]).collect();
                    cell.add_blocks(kernel, &blocks, &labels);
                }
            }
        }
        Ok(())
    }

    /// Add the rows that another object saw, cell by cell.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the two differ in features, classes, cells or shift.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.check_like(other)?;
        for (a, b) in self.cells.iter_mut().zip(&other.cells) {
            a.add(b);
        }
        Ok(())
    }

    /// Take away rows that were added before, cell by cell. Ranges cannot be taken away and keep their
    /// width: min-max scaling of the rest then needs [`Moments::design`] over cells instead.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the two differ in shape or shift, or a class would have fewer than no rows.
    pub fn subtract(&mut self, other: &Self) -> Result<()> {
        self.check_like(other)?;
        for (a, b) in self.cells.iter().zip(&other.cells) {
            if a.counts.iter().zip(&b.counts).any(|(a, b)| a < b) {
                return Err(Error::Parameter(
                    "cannot subtract rows that were never added: a class has fewer than that".into(),
                ));
            }
        }
        for (a, b) in self.cells.iter_mut().zip(&other.cells) {
            for (a, &b) in a.counts.iter_mut().zip(&b.counts) {
                *a -= b;
            }
            for (a, &b) in a.sums.iter_mut().zip(&b.sums) {
                *a -= b;
            }
            for (a, &b) in a.gram.entries_mut().iter_mut().zip(b.gram.entries()) {
                *a -= b;
            }
        }
        Ok(())
    }

    fn check_like(&self, other: &Self) -> Result<()> {
        if self.shift != other.shift
            || self.n_classes != other.n_classes
            || self.cells.len() != other.cells.len()
        {
            return Err(Error::Parameter(
                "moments differ in features, shift, classes or cells; create both from one template".into(),
            ));
        }
        Ok(())
    }

    /// Rows of each class over the given cells.
    pub fn counts(&self, cells: &[usize]) -> Vec<u64> {
        let mut counts = vec![0; self.n_classes];
        for &c in cells {
            add_into(&mut counts, &self.cells[c].counts);
        }
        counts
    }

    /// Everything a solver needs about the union of `cells`, in scaled coordinates.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a cell does not exist or is named twice, or fewer than two classes have rows.
    pub fn design(&self, cells: &[usize], scaling: Scaling) -> Result<Design> {
        let (d, k) = (self.n_features, self.n_classes);
        if let Some(bad) = cells.iter().find(|&&c| c >= self.cells.len()) {
            return Err(Error::Parameter(format!("cell {bad} of {}", self.cells.len())));
        }
        if let Some((_, twice)) = cells.iter().enumerate().find(|&(i, c)| cells[..i].contains(c)) {
            return Err(Error::Parameter(format!("cell {twice} is named twice")));
        }
        let mut total = Cell::new(d, k);
        for &c in cells {
            total.add(&self.cells[c]);
        }
        let classes: Vec<usize> = (0..k).filter(|&c| total.counts[c] > 0).collect();
        if classes.len() < 2 {
            return Err(Error::Parameter(format!(
                "a probe needs rows of at least two classes, its training rows have {} of {k}",
                classes.len()
            )));
        }
        let n: u64 = total.counts.iter().sum();
        let inv_n = 1.0 / n as f64;
        // mean − shift
        let offset: Vec<f64> =
            (0..d).map(|j| classes.iter().map(|&c| total.sum(c, j)).sum::<f64>() * inv_n).collect();
        let mut covariance = vec![0.0; d * d];
        for i in 0..d {
            for j in 0..=i {
                let v = total.gram.get(i, j) * inv_n - offset[i] * offset[j];
                covariance[i * d + j] = v;
                covariance[j * d + i] = v;
            }
        }
        let variance: Vec<f64> = (0..d).map(|j| covariance[j * d + j].max(0.0)).collect();
        let mean = |j: usize| offset[j] + f64::from(self.shift[j]);
        let scale = scaling.factors(&variance, mean, |j| total.width(j));
        for i in 0..d {
            for j in 0..d {
                covariance[i * d + j] *= scale[i] * scale[j];
            }
        }
        let mut means = Vec::with_capacity(classes.len() * d);
        let mut priors = Vec::with_capacity(classes.len());
        for &c in &classes {
            let count = total.counts[c] as f64;
            priors.push(count * inv_n);
            means.extend((0..d).map(|j| (total.sum(c, j) / count - offset[j]) * scale[j]));
        }
        Ok(Design {
            n: n as usize,
            n_classes: k,
            affine: Affine {
                shift: (0..d).map(|j| (offset[j] + f64::from(self.shift[j])) as f32).collect(),
                scale: scale.iter().map(|&s| s as f32).collect(),
            },
            classes,
            priors,
            means,
            covariance,
        })
    }
}

/// The statistics of a training set in scaled, centred coordinates.
#[derive(Debug, Clone)]
pub struct Design {
    /// Rows.
    pub n: usize,
    /// Classes of the task, those without training rows included.
    pub n_classes: usize,
    /// From raw features to these coordinates.
    pub affine: Affine,
    /// Classes that have training rows, ascending, `(k′)`.
    pub classes: Vec<usize>,
    /// Their shares, `(k′)`.
    pub priors: Vec<f64>,
    /// Their means, `(k′, d)`.
    pub means: Vec<f64>,
    /// Covariance (divided by n), `(d, d)`, both triangles.
    pub covariance: Vec<f64>,
}

impl Design {
    /// Number of features.
    pub fn n_features(&self) -> usize {
        self.affine.shift.len()
    }

    /// Mean variance of a feature, the unit of penalties on unscaled features.
    pub fn mean_variance(&self) -> f64 {
        let d = self.n_features();
        (0..d).map(|j| self.covariance[j * d + j]).sum::<f64>() / d as f64
    }
}

/// What every pass relies on: rows and labels in range.
///
/// # Errors
/// [`Error::Shape`], [`Error::Parameter`].
pub fn check_rows(matrix: &Matrix<'_>, rows: &[u32], labels: &[u32], n_classes: usize) -> Result<()> {
    if labels.len() != matrix.n_rows() {
        return Err(Error::Shape { what: "number of labels", got: labels.len(), expected: matrix.n_rows() });
    }
    matrix.check_in(rows)?;
    for &row in rows {
        let label = labels[row as usize];
        if label as usize >= n_classes {
            return Err(Error::Parameter(format!(
                "row {row} has label {label}, there are {n_classes} classes, counted from 0"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Segment, Values};

    fn data(n: usize, d: usize, mean: f32) -> (Vec<f32>, Vec<u32>) {
        let mut s = 12345_u32;
        let mut next = || {
            s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (s >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let x = (0..n * d).map(|i| f16::from_f32(next() + mean * ((i % d) % 2) as f32).to_f32()).collect();
        (x, (0..n).map(|i| (i % 3) as u32).collect())
    }

    fn moments(x: &[f32], y: &[u32], d: usize, cells: &[u8], threads: usize) -> Moments {
        let matrix = Matrix::new(d, vec![Segment { values: Values::F32(x), guard: None }]).unwrap();
        let rows: Vec<u32> = (0..y.len() as u32).collect();
        let shift = choose_shift(&matrix, &rows).unwrap();
        let mut moments = Moments::new(3, 4, shift).unwrap();
        moments.update(&matrix, &rows, y, cells, threads, &Control::new()).unwrap();
        moments
    }

    /// Against plain float64 two-pass formulas, for far means, odd sizes and unions of cells.
    #[test]
    fn design_agrees_with_two_pass_float64() {
        for (n, d, mean) in [(9, 2, 0.0), (1031, 33, 0.0), (1031, 33, 30.0)] {
            let (x, y) = data(n, d, mean);
            let cells: Vec<u8> = (0..n).map(|i| (i % 4) as u8).collect();
            let design = moments(&x, &y, d, &cells, 2).design(&[0, 2, 3], Scaling::Standardize).unwrap();
            let rows: Vec<usize> = (0..n).filter(|i| i % 4 != 1).collect();
            let count = rows.len() as f64;
            let mu: Vec<f64> =
                (0..d).map(|j| rows.iter().map(|&i| f64::from(x[i * d + j])).sum::<f64>() / count).collect();
            let cov = |a: usize, b: usize| {
                rows.iter()
                    .map(|&i| (f64::from(x[i * d + a]) - mu[a]) * (f64::from(x[i * d + b]) - mu[b]))
                    .sum::<f64>()
                    / count
            };
            assert_eq!(design.n, rows.len());
            for (a, &mean) in mu.iter().enumerate() {
                assert!((f64::from(design.affine.shift[a]) - mean).abs() < 1e-6 * (1.0 + mean.abs()));
                for b in 0..d {
                    let want = cov(a, b) / (cov(a, a) * cov(b, b)).sqrt();
                    // float32 sums of ≤ 2048 products: 1e-6 of the scale
                    assert!((design.covariance[a * d + b] - want).abs() < 4e-6, "{n} {d} {mean}");
                }
            }
        }
    }

    #[test]
    fn complement_is_whole_minus_cell_and_threads_agree() {
        let (x, y) = data(500, 7, 0.0);
        let cells: Vec<u8> = (0..500).map(|i| (i % 2) as u8).collect();
        let all = moments(&x, &y, 7, &cells, 1);
        let other = moments(&x, &y, 7, &cells, 3);
        let (a, b) = (all.design(&[0, 1], Scaling::None), other.design(&[0, 1], Scaling::None));
        for (a, b) in a.unwrap().covariance.iter().zip(&b.unwrap().covariance) {
            assert!((a - b).abs() <= 1e-6 * a.abs().max(1e-3));
        }
        let mut rest = all.clone();
        rest.merge(&all).unwrap();
        rest.subtract(&all).unwrap();
        assert_eq!(rest, all);
        assert!(rest.subtract(&all).is_ok() && rest.subtract(&all).is_err());
    }

    #[test]
    fn constant_and_tiny_columns_are_dead_and_bad_rows_are_named() {
        let (mut x, y) = data(60, 3, 0.0);
        for row in x.chunks_exact_mut(3) {
            row[1] = 0.3;
        }
        let cells = vec![0; 60];
        let design = moments(&x, &y, 3, &cells, 1).design(&[0], Scaling::Standardize).unwrap();
        assert_eq!(design.affine.scale[1], 0.0);
        assert!(design.affine.scale[0] > 0.0);
        x[3 * 41 + 2] = f32::NAN;
        let matrix = Matrix::new(3, vec![Segment { values: Values::F32(&x), guard: None }]).unwrap();
        let rows: Vec<u32> = (0..60).collect();
        let mut moments = Moments::new(3, 1, vec![0.0; 3]).unwrap();
        let error = moments.update(&matrix, &rows, &y, &cells, 1, &Control::new()).unwrap_err();
        assert!(matches!(error, Error::BadValue { row: 41, column: 2, .. }));
        assert_eq!(moments, Moments::new(3, 1, vec![0.0; 3]).unwrap());
        let error = moments.design(&[0], Scaling::None).unwrap_err();
        assert!(error.to_string().contains("two classes"));
    }
}
