//! For each row the most similar row of another set, by cosine: a blocked search on the kernels of the probes.
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
use crate::kernel::parallel::install;
use crate::kernel::{Kernel, LANES, Panels, Precision, RowBuffer, Rows, choose, forward, padded, row_stride};
use crate::rows::Matrix;

/// The most similar base row of each query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Nearest {
    /// Position in the base rows, the lowest of those that the kernel finds equal; [`Nearest::NONE`] where there is
    /// none: a query of zeros, or no other base row.
    pub position: Vec<u32>,
    /// Cosine, in float64 of the rows found; NaN where there is none.
    pub similarity: Vec<f64>,
}

impl Nearest {
    /// No base row.
    pub const NONE: u32 = u32::MAX;
}

/// Queries of one product.
const QUERIES: usize = 128;
/// Base rows in a panel group that one product reads: its packed rows stay in the level-2 cache at 512 features.
const GROUP: usize = 256;
/// Base rows that are packed before the queries pass by: 16 MB at 1,024 features.
const BASE_ROWS: usize = 4096;
/// Base rows whose mean direction is the centre.
const CENTRE_ROWS: usize = 2048;

/// The most similar row of `base` for each row of `queries`, rows of one matrix each.
///
/// A query never meets itself: where matrix and row number are the same (`same`), the pair is left out. Rows of zeros
/// have no direction: they find nothing and are never found.
///
/// # Shapes
/// `queries` m rows, `base` n rows; time 2·m·n·d floating point operations, memory O(m + n + block·d).
///
/// # Errors
/// [`Error::Shape`] if the matrices differ in features, [`Error::Parameter`] for a row out of range,
/// [`Error::BadValue`] for NaN or infinity, [`Error::Interrupted`].
///
/// # Accuracy
/// Candidates are compared in float32 products (on AMX of factors that keep 16 bits), so that of base rows whose squared
/// distances differ by less than some 1e-6 (1e-5) of the spread of all directions any may be named; of equal rows the
/// first is. The similarity of the one named is float64.
pub fn nearest(
    (queries, query_rows): (&Matrix<'_>, &[u32]),
    (base, base_rows): (&Matrix<'_>, &[u32]),
    same: bool,
    run: Run<'_>,
) -> Result<Nearest> {
    let d = queries.n_features();
    base.check_features(d)?;
    queries.check_in(query_rows)?;
    base.check_in(base_rows)?;
    if base_rows.len() >= Nearest::NONE as usize {
        return Err(Error::Parameter(format!("{} base rows are more than can be counted", base_rows.len())));
    }
    let kernel = choose(Precision::Exact)?;
    let mut best = vec![(f32::NEG_INFINITY, Nearest::NONE); query_rows.len()];
    let mut groups: Vec<Group> = Vec::new();
    install(run.n_threads, || {
        let centre = centre_of(base, base_rows)?;
        let mut equal = Equal::default();
        for (b, ids) in base_rows.chunks(BASE_ROWS).enumerate() {
            groups.resize_with(ids.len().div_ceil(GROUP), Group::default);
            groups
                .par_iter_mut()
                .zip(ids.par_chunks(GROUP))
                .try_for_each(|(group, ids)| group.fill(kernel, base, ids, &centre))?;
            for (position, &hash) in groups.iter().flat_map(|group| &group.hashes).enumerate() {
                equal.add(hash, (b * BASE_ROWS + position) as u32);
            }
            best.par_chunks_mut(QUERIES).zip(query_rows.par_chunks(QUERIES)).try_for_each_init(
                || Scratch::new(d),
                |scratch, (best, ids)| {
                    run.control.advance(ids.len())?;
                    scratch.stage(queries, ids, &centre)?;
                    let operand =
                        Rows::new(kernel, &scratch.x, ids.len(), d, row_stride(d), &mut scratch.buffer);
                    for (g, group) in groups.iter().enumerate() {
                        let n = group.rows.len();
                        forward(kernel, &operand, &group.panels, &group.offsets, &mut scratch.scores);
                        let first = (b * BASE_ROWS + g * GROUP) as u32;
                        for ((best, &id), scores) in
                            best.iter_mut().zip(ids).zip(scratch.scores.chunks_exact(padded(n)))
                        {
                            group.improve(best, &scores[..n], first, same.then_some(id));
                        }
                    }
                    Ok(())
                },
            )?;
        }
        let found: Vec<(u32, f64)> = best
            .par_iter()
            .zip(query_rows)
            .map_init(
                || (vec![0.0; d], vec![0.0; d]),
                |(q, b), (&(_, position), &id)| {
                    queries.stage(&[id], q, d)?;
                    if position == Nearest::NONE || norm(q) == 0.0 {
                        return Ok((Nearest::NONE, f64::NAN));
                    }
                    let itself = same.then_some(id);
                    if let Some(position) = equal.position_of(base, base_rows, q, b, itself)? {
                        return Ok((position, 1.0));
                    }
                    base.stage(&[base_rows[position as usize]], b, d)?;
                    Ok((position, cosine(q, b)))
                },
            )
            .collect::<Result<_>>()?;
        let (position, similarity) = found.into_iter().unzip();
        Ok(Nearest { position, similarity })
    })
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
struct Equal {
    positions: HashMap<u64, [u32; 2]>,
}

impl Equal {
    /// The row of the next position, from 0 on.
    fn add(&mut self, hash: u64, position: u32) {
        let found = self.positions.entry(hash).or_insert([Nearest::NONE; 2]);
        if let Some(free) = found.iter_mut().find(|p| **p == Nearest::NONE) {
            *free = position;
        }
    }

    /// The first base row that equals a row, but `itself`; `b` is memory for a row.
    fn position_of(
        &self,
        base: &Matrix<'_>,
        base_rows: &[u32],
        row: &[f32],
        b: &mut [f32],
        itself: Option<u32>,
    ) -> Result<Option<u32>> {
        let Some(positions) = self.positions.get(&hash_of(row)) else { return Ok(None) };
        for &position in positions.iter().filter(|&&p| p != Nearest::NONE) {
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

/// Cosine of two rows that are not zero; exactly 1 for equal rows, and for no others.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    if a == b {
        return 1.0;
    }
    let product: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    (product / (norm(a) * norm(b))).clamp(-1.0, 1.0_f64.next_down())
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
    rows: Vec<u32>,
    /// Positions of rows of zeros.
    empty: Vec<usize>,
    x: Vec<f32>,
    turned: Vec<f32>,
}

impl Group {
    fn fill(&mut self, kernel: &Kernel, base: &Matrix<'_>, ids: &[u32], centre: &[f64]) -> Result<()> {
        let (d, n) = (base.n_features(), ids.len());
        self.rows.clear();
        self.rows.extend_from_slice(ids);
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

    /// Bring the best so far up to date with this group's scores; `itself` is a row to leave out.
    fn improve(&self, best: &mut (f32, u32), scores: &[f32], first: u32, itself: Option<u32>) {
        // most groups hold nothing better: find that out in vector registers
        let largest = scores.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        if largest <= best.0 {
            return;
        }
        for (i, &score) in scores.iter().enumerate() {
            if score > best.0 && itself != Some(self.rows[i]) && self.empty.binary_search(&i).is_err() {
                *best = (score, first + i as u32);
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

#[cfg(test)]
mod tests {
    use super::super::tests::{all, matrix, values};
    use super::*;
    use crate::control::Control;

    fn found(
        x: &[f32],
        rows: &[u32],
        y: &[f32],
        base: &[u32],
        d: usize,
        same: bool,
        n_threads: usize,
    ) -> Nearest {
        let run = Run { n_threads, control: &Control::new() };
        nearest((&matrix(x, d), rows), (&matrix(y, d), base), same, run).unwrap()
    }

    #[test]
    fn the_nearest_row_is_that_of_all_pairs() {
        for (m, n, d) in [(1, 1, 1), (130, 257, 7), (300, 5000, 33), (5, 0, 4)] {
            let (x, y) = (values(m * d, 1), values(n * d, 2));
            let one = found(&x, &all(m), &y, &all(n), d, false, 1);
            assert_eq!(one.position, found(&x, &all(m), &y, &all(n), d, false, 3).position);
            for (i, q) in x.chunks_exact(d).enumerate() {
                let best = y.chunks_exact(d).map(|b| cosine(q, b)).fold(f64::NEG_INFINITY, f64::max);
                if n == 0 {
                    assert!(one.position[i] == Nearest::NONE && one.similarity[i].is_nan());
                    continue;
                }
                let at = one.position[i] as usize;
                assert_eq!(one.similarity[i], cosine(q, &y[at * d..(at + 1) * d]));
                assert!(best - one.similarity[i] < 3e-5, "{m} {n} {d}: {best}"); // factors of 16 bits on AMX
            }
        }
    }

    #[test]
    fn a_common_mean_hides_no_row() {
        // cosines of all rows lie within 1e-8: float32 products of the rows themselves tell none apart
        let (m, n, d) = (200, 5000, 16);
        let [mut x, mut y] = [(m, 1), (n, 2)].map(|(rows, seed)| values(rows * d, seed));
        x.iter_mut().chain(&mut y).for_each(|v| *v += 1e4);
        x[..50 * d].copy_from_slice(&y[4000 * d..4050 * d]);
        let one = found(&x, &all(m), &y, &all(n), d, false, 2);
        for (i, q) in x.chunks_exact(d).enumerate() {
            let best = y.chunks_exact(d).map(|b| cosine(q, b)).fold(f64::NEG_INFINITY, f64::max);
            let spread = 1.0 - cosine(q, &y[..d]);
            assert!(best - one.similarity[i] <= 2e-5 * spread, "{i}: {best} {}", one.similarity[i]);
            assert_eq!(one.similarity[i] == 1.0, i < 50);
        }
        assert!((0..50).all(|i| one.position[i] == 4000 + i as u32));
    }

    #[test]
    fn equal_rows_are_found_among_rows_as_near() {
        // within a cluster, rows differ by less than float32 tells beside the distance of the clusters
        let d = 4;
        let mut x: Vec<f32> =
            (0..600).flat_map(|i| [1.0 + (i as f32) * f32::EPSILON, 1.0, 1.0, 0.0]).collect();
        x.extend((0..600).flat_map(|_| [-1.0, 1.0, 0.0, 1.0]));
        let queries: Vec<f32> = x[333 * d..334 * d].iter().chain(&x[900 * d..901 * d]).copied().collect();
        let copies = found(&queries, &all(2), &x, &all(1200), d, false, 1);
        assert_eq!((copies.position, copies.similarity), (vec![333, 600], vec![1.0, 1.0])); // the first of equals
        let others = found(&x, &[600, 601], &x, &all(1200), d, true, 1);
        assert_eq!((others.position, others.similarity), (vec![601, 600], vec![1.0, 1.0]));
        // a multiple is no copy
        let double: Vec<f32> = queries.iter().map(|v| 2.0 * v).collect();
        assert!(found(&double, &all(2), &x, &all(1200), d, false, 1).similarity.iter().all(|&s| s < 1.0));
    }

    #[test]
    fn a_row_never_finds_itself_and_zeros_find_nothing() {
        let d = 3;
        let mut x = values(600 * d, 5);
        x[..d].fill(0.0);
        let twin: Vec<f32> = x[400 * d..401 * d].iter().map(|v| 2.0 * v).collect();
        x[7 * d..8 * d].copy_from_slice(&twin);
        let alone = found(&x, &all(600), &x, &all(600), d, true, 2);
        assert_eq!((alone.position[0], alone.similarity[0].is_nan()), (Nearest::NONE, true));
        assert_eq!((alone.position[7], alone.position[400]), (400, 7));
        assert!((alone.similarity[7] - 1.0).abs() < 1e-15); // an ulp
        assert!(alone.position.iter().enumerate().skip(1).all(|(i, &p)| p != i as u32 && p != 0));
        let with = found(&x, &all(600), &x, &all(600), d, false, 2);
        assert!(with.similarity.iter().skip(1).all(|&s| s > 1.0 - 1e-12)); // itself, or one as close
        // positions count the base rows that were named
        let some = found(&x, &[7], &x, &[400, 9], d, true, 1);
        assert_eq!(some.position, [0]);
    }

    #[test]
    fn nan_is_named_and_widths_must_agree() {
        let mut x = values(30, 1);
        x[14] = f32::NAN;
        let run = Run { n_threads: 1, control: &Control::new() };
        let m = matrix(&x, 3);
        let bad = nearest((&m, &[0]), (&m, &all(10)), true, run);
        assert!(matches!(bad, Err(Error::BadValue { row: 4, column: 2, .. })));
        let other = matrix(&x, 5);
        assert!(matches!(nearest((&m, &[0]), (&other, &[0]), false, run), Err(Error::Shape { .. })));
        assert!(matches!(nearest((&m, &[10]), (&m, &[0]), false, run), Err(Error::Parameter(_))));
    }
}
