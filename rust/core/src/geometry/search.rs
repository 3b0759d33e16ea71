//! The most similar rows of another set, found by blocks on the kernels of the probes.
//!
//! A block of base rows is scaled to unit length and packed once, in parallel; then every thread multiplies its
//! queries with it and keeps the best so far. Neither similarities of all pairs nor a copy of the features is held.
//!
//! Of unit vectors u, v the most similar are the nearest: |u − v|² = 2 − 2 cos. Distances stay when a centre c is taken
//! from both, so what is compared is
//!
//! ```text
//! (u − c)·(v − c) − |v − c|²/2 = (|u − c|² − |u − v|²)/2
//! ```
//!
//! whose rounding is relative to how far rows lie apart, not to their length: a common mean of the features leaves
//! cosines that differ by less than float32 tells. Rows that are equal are found by a hash of their values besides.

use std::collections::HashMap;

use rayon::prelude::*;

use super::norm;
use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::{Kernel, LANES, Panels, Precision, RowBuffer, Rows, choose, forward, padded, row_stride};
use crate::rows::Matrix;

/// Position of no base row.
pub(super) const NONE: u32 = u32::MAX;
/// Queries of one product.
const QUERIES: usize = 128;
/// Base rows in a panel group that one product reads: its packed rows stay in the level-2 cache at 512 features.
const GROUP: usize = 256;
/// Base rows that are packed before the queries pass by: 16 MB at 1,024 features.
const BASE_ROWS: usize = 4096;
/// Base rows whose mean direction is the centre.
const CENTRE_ROWS: usize = 2048;

/// Complain unless the rows are there and can be counted.
pub(super) fn check(
    (queries, query_rows): (&Matrix<'_>, &[u32]),
    (base, base_rows): (&Matrix<'_>, &[u32]),
) -> Result<()> {
    base.check_features(queries.n_features())?;
    queries.check_in(query_rows)?;
    base.check_in(base_rows)?;
    if base_rows.len() >= NONE as usize {
        return Err(Error::Parameter(format!("{} base rows are more than can be counted", base_rows.len())));
    }
    Ok(())
}

/// Score and position of the `k` best base rows of each query, best first: (m, k). A base row that has the query's mark
/// is left out; `equal` learns of all base rows, where it is asked for.
pub(super) fn search(
    (queries, query_rows): (&Matrix<'_>, &[u32]),
    (base, base_rows): (&Matrix<'_>, &[u32]),
    k: usize,
    marks: Option<(&[u32], &[u32])>,
    mut equal: Option<&mut Equal>,
    run: Run<'_>,
) -> Result<Vec<(f32, u32)>> {
    let d = queries.n_features();
    let kernel = choose(Precision::Exact)?;
    let mut best = vec![(f32::NEG_INFINITY, NONE); query_rows.len() * k];
    let mut groups: Vec<Group> = Vec::new();
    let centre = centre_of(base, base_rows)?;
    for (b, ids) in base_rows.chunks(BASE_ROWS).enumerate() {
        groups.resize_with(ids.len().div_ceil(GROUP), Group::default);
        groups
            .par_iter_mut()
            .zip(ids.par_chunks(GROUP))
            .try_for_each(|(group, ids)| group.fill(kernel, base, ids, &centre))?;
        if let Some(equal) = equal.as_deref_mut() {
            for (position, &hash) in groups.iter().flat_map(|group| &group.hashes).enumerate() {
                equal.add(hash, (b * BASE_ROWS + position) as u32);
            }
        }
        best.par_chunks_mut(QUERIES * k).zip(query_rows.par_chunks(QUERIES)).enumerate().try_for_each_init(
            || Scratch::new(d),
            |scratch, (c, (best, ids))| {
                run.control.advance(ids.len())?;
                scratch.stage(queries, ids, &centre)?;
                let operand = Rows::new(kernel, &scratch.x, ids.len(), d, row_stride(d), &mut scratch.buffer);
                for (g, group) in groups.iter().enumerate() {
                    let n = group.offsets.len();
                    forward(kernel, &operand, &group.panels, &group.offsets, &mut scratch.scores);
                    let first = b * BASE_ROWS + g * GROUP;
                    let scores = scratch.scores.chunks_exact(padded(n));
                    for (i, (best, scores)) in best.chunks_exact_mut(k).zip(scores).enumerate() {
                        let left_out = marks.map(|(q, b)| (q[c * QUERIES + i], &b[first..first + n]));
                        group.improve(best, &scores[..n], first as u32, left_out);
                    }
                }
                Ok(())
            },
        )?;
    }
    Ok(best)
}

/// Mean direction of some base rows, evenly drawn.
fn centre_of(base: &Matrix<'_>, base_rows: &[u32]) -> Result<Vec<f64>> {
    let d = base.n_features();
    let mut sum = vec![0.0_f64; d];
    let mut row = vec![0.0; d];
    let mut count = 0_usize;
    for &id in base_rows.iter().step_by(base_rows.len().div_ceil(CENTRE_ROWS).max(1)) {
        base.stage_finite(&[id], &mut row, d)?;
        let length = norm(&row);
        if length > 0.0 {
            sum.iter_mut().zip(&row).for_each(|(sum, &v)| *sum += f64::from(v) / length);
            count += 1;
        }
    }
    sum.iter_mut().for_each(|v| *v /= count.max(1) as f64);
    Ok(sum)
}

/// Base rows by a hash of their values: of each, the first two positions.
#[derive(Default)]
pub(super) struct Equal {
    positions: HashMap<u64, [u32; 2]>,
}

impl Equal {
    /// The row of the next position, from 0 on.
    fn add(&mut self, hash: u64, position: u32) {
        let found = self.positions.entry(hash).or_insert([NONE; 2]);
        if let Some(free) = found.iter_mut().find(|p| **p == NONE) {
            *free = position;
        }
    }

    /// The first base row that equals a row, but `itself`; `b` is memory for a row.
    pub(super) fn position_of(
        &self,
        base: &Matrix<'_>,
        base_rows: &[u32],
        row: &[f32],
        b: &mut [f32],
        itself: Option<u32>,
    ) -> Result<Option<u32>> {
        let Some(positions) = self.positions.get(&hash_of(row)) else { return Ok(None) };
        for &position in positions.iter().filter(|&&p| p != NONE) {
            let id = base_rows[position as usize];
            if itself == Some(id) {
                continue;
            }
            base.stage(&[id], b, row.len())?;
            if row == b {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }
}

/// Of the values of a row; 0 and −0 are equal.
fn hash_of(row: &[f32]) -> u64 {
    row.iter().fold(0x9e37_79b9_7f4a_7c15, |hash: u64, &v| {
        ((hash ^ u64::from((v + 0.0).to_bits())).wrapping_mul(0xff51_afd7_ed55_8ccd)).rotate_left(29)
    })
}

/// Scale a row to unit length and take the centre from it; whether it has a direction, which a row of zeros has not.
fn direct(row: &mut [f32], centre: &[f64]) -> bool {
    let length = norm(row);
    if length == 0.0 {
        return false;
    }
    row.iter_mut().zip(centre).for_each(|(v, c)| *v = (f64::from(*v) / length - c) as f32);
    true
}

/// Base rows as a right operand.
#[derive(Default)]
struct Group {
    panels: Panels,
    /// Minus half the squared length of each row.
    offsets: Vec<f32>,
    /// Of the rows as they are.
    hashes: Vec<u64>,
    /// Positions of rows of zeros.
    empty: Vec<usize>,
    x: Vec<f32>,
    turned: Vec<f32>,
}

impl Group {
    fn fill(&mut self, kernel: &Kernel, base: &Matrix<'_>, ids: &[u32], centre: &[f64]) -> Result<()> {
        let (d, n) = (base.n_features(), ids.len());
        self.empty.clear();
        self.x.resize(n * d, 0.0);
        base.stage_finite(ids, &mut self.x, d)?;
        self.turned.resize(n * d, 0.0);
        self.hashes.clear();
        self.hashes.extend(self.x.chunks_exact(d).map(hash_of));
        self.offsets.clear();
        for (i, row) in self.x.chunks_exact_mut(d).enumerate() {
            if !direct(row, centre) {
                self.empty.push(i);
            }
            let length = norm(row);
            self.offsets.push((-0.5 * length * length) as f32);
        }
        // (n, d) → (d, n), in squares that stay in the cache
        for j0 in (0..d).step_by(LANES) {
            for (i, row) in self.x.chunks_exact(d).enumerate() {
                for (j, &v) in row.iter().enumerate().skip(j0).take(LANES) {
                    self.turned[j * n + i] = v;
                }
            }
        }
        self.panels.pack(kernel, &self.turned, d, n, n);
        Ok(())
    }

    /// Bring a query's best so far, best first, up to date with this group's scores; `left_out` is the query's mark and
    /// those of the rows.
    fn improve(&self, best: &mut [(f32, u32)], scores: &[f32], first: u32, left_out: Option<(u32, &[u32])>) {
        let last = best.len() - 1;
        // most groups hold nothing better: find that out in vector registers
        let largest = scores.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        if largest <= best[last].0 {
            return;
        }
        for (i, &score) in scores.iter().enumerate() {
            if score > best[last].0
                && left_out.is_none_or(|(mark, marks)| mark != marks[i])
                && self.empty.binary_search(&i).is_err()
            {
                let at = best.partition_point(|&(better, _)| better >= score);
                best[at..].rotate_right(1);
                best[at] = (score, first + i as u32);
            }
        }
    }
}

/// Memory of one thread.
struct Scratch {
    x: Vec<f32>,
    buffer: RowBuffer,
    scores: Vec<f32>,
}

impl Scratch {
    fn new(d: usize) -> Self {
        let x = vec![0.0; QUERIES * row_stride(d)];
        Self { x, buffer: RowBuffer::default(), scores: vec![0.0; QUERIES * GROUP] }
    }

    fn stage(&mut self, queries: &Matrix<'_>, ids: &[u32], centre: &[f64]) -> Result<()> {
        let (d, stride) = (queries.n_features(), row_stride(queries.n_features()));
        let x = &mut self.x[..ids.len() * stride];
        queries.stage_finite(ids, x, stride)?;
        x.chunks_exact_mut(stride).for_each(|row| {
            direct(&mut row[..d], centre);
        });
        Ok(())
    }
}
