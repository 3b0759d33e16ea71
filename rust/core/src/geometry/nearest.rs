//! For each row the most similar row of another set, or the k most similar, by cosine: a blocked search on the kernels
//! of the probes.
//!
//! The search is [`super::search`]'s, in float32; what it names is judged in float64.

use rayon::prelude::*;

use super::norm;
use super::search::{self, Equal, check, search};
use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::parallel::install;
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
    pub const NONE: u32 = search::NONE;
}

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
    check((queries, query_rows), (base, base_rows))?;
    let d = queries.n_features();
    let marks = same.then_some((query_rows, base_rows));
    install(run.n_threads, || {
        let mut equal = Equal::default();
        let best = search((queries, query_rows), (base, base_rows), 1, marks, Some(&mut equal), run)?;
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

/// The `k` most similar rows of `base` for each row of `queries`, as [`nearest`], most similar first.
///
/// # Shapes
/// Positions and similarities (m, k); where there are fewer, [`Nearest::NONE`] and NaN at the end. Memory O(m·k).
///
/// # Errors
/// Those of [`nearest`]; [`Error::Parameter`] for k = 0.
///
/// # Accuracy
/// As [`nearest`]; those that are named are put in the order of their similarity in float64.
pub fn nearest_of(
    (queries, query_rows): (&Matrix<'_>, &[u32]),
    (base, base_rows): (&Matrix<'_>, &[u32]),
    k: usize,
    run: Run<'_>,
) -> Result<Nearest> {
    check((queries, query_rows), (base, base_rows))?;
    if k == 0 {
        return Err(Error::Parameter("the number of neighbours must be at least 1".into()));
    }
    let d = queries.n_features();
    install(run.n_threads, || {
        let best = search((queries, query_rows), (base, base_rows), k, None, None, run)?;
        let found: Vec<Vec<(u32, f64)>> = best
            .par_chunks(k)
            .zip(query_rows)
            .map_init(
                || (vec![0.0; d], vec![0.0; d]),
                |(q, b), (best, &id)| {
                    queries.stage(&[id], q, d)?;
                    let mut found = vec![(Nearest::NONE, f64::NAN); k];
                    if norm(q) > 0.0 {
                        for (found, &(_, position)) in
                            found.iter_mut().zip(best).take_while(|(_, best)| best.1 != Nearest::NONE)
                        {
                            base.stage(&[base_rows[position as usize]], b, d)?;
                            *found = (position, cosine(q, b));
                        }
                    }
                    let there = found.partition_point(|&(position, _)| position != Nearest::NONE);
                    found[..there].sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                    Ok(found)
                },
            )
            .collect::<Result<_>>()?;
        let (position, similarity) = found.into_iter().flatten().unzip();
        Ok(Nearest { position, similarity })
    })
}

/// Cosine of two rows that are not zero; exactly 1 for equal rows, and for no others.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    if a == b {
        return 1.0;
    }
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).clamp(-1.0, 1.0_f64.next_down())
}

/// Inner product in float64, in sums side by side: with one, each addition waits for the last.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let (wide_a, wide_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = wide_a.remainder().iter().zip(wide_b.remainder());
    let rest: f64 = rest.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    let mut sums = [0.0_f64; 8];
    for (a, b) in wide_a.zip(wide_b) {
        for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    sums.iter().sum::<f64>() + rest
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
    fn the_k_nearest_are_those_of_all_pairs() {
        let (m, n, d) = (150, 5000, 9);
        let (mut x, mut y) = (values(m * d, 3), values(n * d, 4));
        x[5 * d..6 * d].fill(0.0);
        y[70 * d..71 * d].fill(0.0);
        let (qm, bm, control) = (matrix(&x, d), matrix(&y, d), Control::new());
        let run = Run { n_threads: 2, control: &control };
        for k in [1, 4, 33, 6000] {
            let one = nearest_of((&qm, &all(m)), (&bm, &all(n)), k, run).unwrap();
            assert_eq!((one.position.len(), one.similarity.len()), (m * k, m * k));
            for (i, q) in x.chunks_exact(d).enumerate() {
                let base = y.chunks_exact(d).enumerate().filter(|&(j, _)| j != 70 && i != 5);
                let mut wanted: Vec<f64> = base.map(|(_, b)| cosine(q, b)).collect();
                wanted.sort_by(|a, b| b.total_cmp(a));
                wanted.truncate(k);
                let (places, cosines) = (&one.position[i * k..][..k], &one.similarity[i * k..][..k]);
                assert!(places[wanted.len()..].iter().all(|&p| p == Nearest::NONE));
                assert!(cosines[wanted.len()..].iter().all(|c| c.is_nan()));
                for (j, &cos) in wanted.iter().enumerate() {
                    let place = places[j] as usize;
                    assert_eq!(cosines[j], cosine(q, &y[place * d..(place + 1) * d]));
                    assert!((cosines[j] - cos).abs() < 3e-5);
                }
                let mut named = places[..wanted.len()].to_vec();
                named.sort_unstable();
                named.dedup();
                assert_eq!(named.len(), wanted.len());
            }
        }
        assert!(matches!(nearest_of((&qm, &[0]), (&bm, &all(n)), 0, run), Err(Error::Parameter(_))));
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

    #[test]
    fn equal_rows_among_the_k_nearest_come_in_their_order() {
        let y = [[1.0_f32, 2.0], [3.0, 1.0], [1.0, 2.0], [1.0, 2.0]].concat();
        let run = Run { n_threads: 1, control: &Control::new() };
        let m = matrix(&y, 2);
        let found = nearest_of((&m, &[0]), (&m, &all(4)), 4, run).unwrap();
        assert_eq!(found.position, [0, 2, 3, 1]);
    }

    #[test]
    fn the_second_of_two_equal_rows_is_found_by_the_first_among_rows_as_near() {
        // neighbours differ by less than float32 tells beside the other cluster
        let d = 4;
        let mut x: Vec<f32> =
            (0..600).flat_map(|i| [1.0 + (i as f32) * f32::EPSILON, 1.0, 1.0, 0.0]).collect();
        x.extend((0..600).flat_map(|_| [-1.0, 1.0, 0.0, 1.0]));
        x.copy_within(333 * d..334 * d, 500 * d);
        x[500 * d + 3] = -0.0; // equals 0
        let found = found(&x, &[333, 500], &x, &all(1200), d, true, 1);
        assert_eq!((found.position, found.similarity), (vec![500, 333], vec![1.0, 1.0]));
    }
}
