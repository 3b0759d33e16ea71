//! Sums of a pass that all threads share, in fixed point: whole numbers add up to the same bits in any order.
//!
//! One float64 gradient or one table of classes by classes for each thread would cost gigabytes on a large machine
//! (2048 features, 1,000 classes, 64 threads: 2 GB).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use multiversion::multiversion;
use rayon::prelude::*;

use crate::kernel::{LANES, padded, prefetch_all};
use crate::moments::Design;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn unlocked<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(|e| e.into_inner())
}

/// Features of a stripe, the part of a panel of 16 classes that is locked at a time.
const STRIPE: usize = 64;
/// Whole numbers of this size stand for the largest sum there can be; twice that still converts.
const LARGEST: f64 = (1_u64 << 50) as f64;

/// Σ x rᵀ `(d, k)` over the rows. Residuals are at most 1, so by Cauchy and Schwarz no entry exceeds n times its
/// feature's deviation: that gives each feature its unit.
pub(super) struct SharedGradient {
    /// `(panel, stripe)`: up to `STRIPE` × 16 entries.
    stripes: Vec<Mutex<Vec<i64>>>,
    per_panel: usize,
    /// Whole numbers for 1, of each feature, padded.
    units: Vec<f64>,
}

impl SharedGradient {
    pub fn new(design: &Design) -> Self {
        let (d, k) = (design.n_features(), design.classes.len());
        let wide = padded(d);
        let mut units: Vec<f64> = design.deviations().map(|s| LARGEST / (design.n as f64 * s)).collect();
        units.resize(wide, LARGEST); // sums of padding are zero
        let per_panel = wide.div_ceil(STRIPE);
        let stripes = (0..padded(k) / LANES * per_panel)
            .map(|s| Mutex::new(vec![0; (wide - s % per_panel * STRIPE).min(STRIPE) * LANES]))
            .collect();
        Self { stripes, per_panel, units }
    }

    /// Add a float32 sum in panels ([`crate::kernel::panels_len`]) and clear it; `from` staggers the threads.
    pub fn flush(&self, sum: &mut [f32], from: usize) {
        let wide = self.units.len();
        let n = self.stripes.len();
        for s in (0..n).map(|s| (s + from * n / 8) % n) {
            let (panel, first) = (s / self.per_panel, s % self.per_panel * STRIPE);
            let mut stripe = locked(&self.stripes[s]);
            let sum = &mut sum[(panel * wide + first) * LANES..][..stripe.len()];
            add_units(&mut stripe, sum, &self.units[first..]);
        }
    }

    /// The sums as `(d, k)`.
    pub fn into_rows(self, d: usize, k: usize) -> Vec<f64> {
        let mut rows = vec![0.0; d * k];
        for (s, stripe) in self.stripes.into_iter().enumerate() {
            let (panel, first) = (s / self.per_panel * LANES, s % self.per_panel * STRIPE);
            let stripe = unlocked(stripe);
            for (j, line) in (first..d).zip(stripe.chunks_exact(LANES)) {
                let unit = self.units[j];
                for (out, &v) in rows[j * k..(j + 1) * k].iter_mut().skip(panel).zip(line) {
                    *out = v as f64 / unit;
                }
            }
        }
        rows
    }
}

/// The nearest whole number of a value below 2⁵¹: adding 1.5 · 2⁵² rounds to it, and it then stands in the low bits.
/// What is not finite is noticed in the objective.
#[inline(always)]
fn whole(value: f64) -> i64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    ((value + ROUND).to_bits() as i64).wrapping_sub(ROUND.to_bits() as i64)
}

#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn add_units(total: &mut [i64], sum: &mut [f32], units: &[f64]) {
    let lines = total.chunks_exact_mut(LANES).zip(sum.chunks_exact_mut(LANES));
    for ((total, sum), &unit) in lines.zip(units) {
        for (t, s) in total.iter_mut().zip(sum) {
            let value = (f64::from(*s) * unit).clamp(-2.0 * LARGEST, 2.0 * LARGEST);
            *t = t.wrapping_add(whole(value));
            *s = 0.0;
        }
    }
}

/// Curvature of the rows of each true class along each class's score, `h[j, c]`, for the pairs that matter.
pub(super) enum Confusions {
    /// All pairs: by the true class, which is locked while a row of it is added, those of each class.
    Dense(Vec<Mutex<Vec<u64>>>),
    /// Pairs that occur, by the true class modulo the number of maps.
    Sparse(Vec<Mutex<HashMap<(u32, u32), u64>>>),
}

/// Classes up to which all pairs have a place (32 MB).
const DENSE_CLASSES: usize = 2048;
const MAPS: usize = 64;
/// Classes up to which every residual counts; with more, those below `SMALL` of the row's largest go into the total
/// only. Of the row's largest, since rows that are separated have small residuals only, and a metric without their pairs
/// takes half as many passes more (0003).
const EVERY_PAIR_CLASSES: usize = 64;
const SMALL: f32 = 1.0 / 512.0;
/// A curvature of 1.
const ONE: f64 = (1_u64 << 32) as f64;

impl Confusions {
    pub fn new(k: usize) -> Self {
        if k <= DENSE_CLASSES {
            Self::Dense((0..k).map(|_| Mutex::new(vec![0; k])).collect())
        } else {
            Self::Sparse((0..MAPS).map(|_| Mutex::default()).collect())
        }
    }

    /// Ask for the memory to which rows of true class `j` are added, unless a thread is adding one.
    pub fn prefetch(&self, j: usize) {
        if let Self::Dense(rows) = self
            && let Ok(row) = rows[j].try_lock()
        {
            prefetch_all(&row);
        }
    }

    /// A row of residuals of true class `j`; `curvature` of a residual.
    pub fn add(&self, j: usize, residual: &[f32], curvature: impl Fn(f32) -> f64) {
        let small = if residual.len() <= EVERY_PAIR_CLASSES { 0.0 } else { SMALL * largest(residual) };
        match self {
            Self::Dense(rows) => add_large(&mut locked(&rows[j]), residual, small, curvature),
            Self::Sparse(maps) => {
                let mut map = locked(&maps[j % MAPS]);
                for (c, &r) in residual.iter().enumerate().filter(|(_, r)| r.abs() > small) {
                    *map.entry((j as u32, c as u32)).or_default() += units(curvature(r));
                }
            }
        }
    }

    /// For each class c the `most` true classes j with the largest h[j, c], largest first.
    pub fn heaviest(self, k: usize, most: usize) -> Vec<Vec<(usize, f64)>> {
        let mut by_class: Vec<Vec<(usize, u64)>> = vec![Vec::new(); k];
        match self {
            Self::Dense(rows) => {
                for (j, row) in rows.into_iter().enumerate() {
                    for (pairs, units) in by_class.iter_mut().zip(unlocked(row)) {
                        pairs.push((j, units));
                    }
                }
            }
            Self::Sparse(maps) => {
                for map in maps {
                    for ((j, c), units) in unlocked(map) {
                        by_class[c as usize].push((j as usize, units));
                    }
                }
            }
        }
        by_class
            .into_par_iter()
            .map(|mut pairs| {
                pairs.retain(|&(_, units)| units > 0);
                let order = |a: &(usize, u64), b: &(usize, u64)| b.1.cmp(&a.1).then(a.0.cmp(&b.0));
                if most < pairs.len() {
                    pairs.select_nth_unstable_by(most, order);
                    pairs.truncate(most);
                }
                pairs.sort_unstable_by(order);
                pairs.into_iter().map(|(j, units)| (j, units as f64 / ONE)).collect()
            })
            .collect()
    }
}

/// Whole numbers for a curvature, at most 1.
#[inline(always)]
fn units(curvature: f64) -> u64 {
    whole(curvature * ONE) as u64
}

/// Add the curvature of each residual larger than `small` to its class.
#[multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn add_large<F: Fn(f32) -> f64>(total: &mut [u64], residual: &[f32], small: f32, curvature: F) {
    for (total, line) in total.chunks_mut(LANES).zip(residual.chunks(LANES)) {
        if largest_of(line) <= small {
            continue;
        }
        for (t, &r) in total.iter_mut().zip(line) {
            let h = if r.abs() > small { curvature(r) } else { 0.0 };
            *t = t.wrapping_add(units(h));
        }
    }
}

/// The largest size. Sizes are in the order of their bits, whose maximum needs no order of additions: loops vectorize.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn largest(values: &[f32]) -> f32 {
    largest_of(values)
}

#[inline(always)]
fn largest_of(values: &[f32]) -> f32 {
    let bits = values.iter().fold(0, |max: u32, v| max.max(v.to_bits() & (u32::MAX >> 1)));
    f32::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn design(d: usize, k: usize, n: usize) -> Design {
        let mut covariance = vec![0.0; d * d];
        for j in 0..d {
            covariance[j * d + j] = 4.0_f64.powi(j as i32 % 7 - 3);
        }
        Design { covariance, ..Design::plain(n, d, k) }
    }

    #[test]
    fn a_shared_gradient_is_the_sum_of_its_parts_in_any_order() {
        for (d, k) in [(1, 2), (16, 16), (70, 17), (130, 40)] {
            let design = design(d, k, 1000);
            let part = |p: usize| -> Vec<f32> {
                (0..padded(d) * padded(k)).map(|i| ((i * 37 + p * 101) % 211) as f32 / 64.0 - 1.5).collect()
            };
            let total = |order: [usize; 3]| {
                let shared = SharedGradient::new(&design);
                for p in order {
                    let mut sum = part(p);
                    shared.flush(&mut sum, p);
                    assert!(sum.iter().all(|&v| v == 0.0));
                }
                shared.into_rows(d, k)
            };
            let rows = total([0, 1, 2]);
            assert_eq!(rows, total([2, 0, 1]));
            for j in 0..d {
                for c in 0..k {
                    let at = (c / LANES * padded(d) + j) * LANES + c % LANES;
                    let want = (0..3).map(|p| f64::from(part(p)[at])).sum::<f64>();
                    // three roundings to 2⁻⁵¹ of the largest sum, 1000 deviations of up to 8
                    assert!((rows[j * k + c] - want).abs() <= 2e-11, "{d} {k} {j} {c}");
                }
            }
        }
    }

    #[test]
    fn rows_that_are_separated_keep_their_pairs() {
        let k = 100; // more than `EVERY_PAIR_CLASSES`
        let heaviest = |size: f32| {
            let confusions = Confusions::new(k);
            for j in 0..k {
                let mut r = vec![1e-4 * size; k];
                r[j] = -size;
                r[(j + 1) % k] = 0.5 * size;
                confusions.add(j, &r, |r| f64::from(r.abs()));
            }
            confusions.heaviest(k, 3)
        };
        let small = 2.0_f32.powi(-13);
        for (one, tiny) in heaviest(1.0).iter().zip(heaviest(small)) {
            assert_eq!(one.len(), 2);
            for (&(a, h), (b, g)) in one.iter().zip(tiny) {
                let g = g / f64::from(small);
                assert!(a == b && (g - h).abs() <= 1e-5 * h); // whole 2⁻³² of sizes of 2⁻¹³
            }
        }
    }

    #[test]
    fn confusions_of_few_and_of_many_classes_are_the_same() {
        let k = 100;
        let heaviest = |confusions: Confusions| {
            for row in 0..500 {
                let j = row % k;
                let mut r = vec![0.0004; k]; // below 1/512 of 0.25
                r[j] = -0.5;
                r[(j * j + row / k) % k] = 0.25;
                confusions.add(j, &r, |r| f64::from(r * r));
            }
            confusions.heaviest(k, 3)
        };
        let dense = heaviest(Confusions::new(k));
        assert_eq!(dense, heaviest(Confusions::Sparse((0..MAPS).map(|_| Mutex::default()).collect())));
        assert_eq!(dense[7][0].0, 7);
        assert!(dense.iter().all(|pairs| pairs.len() <= 3 && pairs.iter().all(|&(_, h)| h > 1e-3)));
        assert!(matches!(Confusions::new(3000), Confusions::Sparse(_)));
    }
}
