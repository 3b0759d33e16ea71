//! Sums of products and transposition of the vectors of a fit. Sums are float64, in thirty-two parts at a time: the
//! compiler may not reorder one, and with fewer parts each addition waits for the last.

use std::ops::AddAssign;

use multiversion::multiversion;

use crate::kernel::LANES;

const PARTS: usize = 32;

/// The sum of a power of two of parts, half and half: added one after the other, they would keep compilers from
/// vectorizing this sum and the loop before it.
#[inline(always)]
fn total<T: Copy + AddAssign, const N: usize>(mut parts: [T; N]) -> T {
    const { assert!(N.is_power_of_two()) }
    let mut width = N / 2;
    while width > 0 {
        for i in 0..width {
            let part = parts[i + width];
            parts[i] += part;
        }
        width /= 2;
    }
    parts[0]
}

macro_rules! dot {
    ($name:ident, $a:ty, $b:ty) => {
        /// Σ a b.
        #[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
        pub(super) fn $name(a: &[$a], b: &[$b]) -> f64 {
            let mut sums = [0.0_f64; PARTS];
            let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<PARTS>(), b.as_chunks::<PARTS>());
            for (a, b) in a.iter().zip(b) {
                for ((s, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                    *s += f64::from(a) * f64::from(b);
                }
            }
            for ((s, &a), &b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
                *s += f64::from(a) * f64::from(b);
            }
            total(sums)
        }
    };
}

dot!(dot_f32, f32, f32);
dot!(dot_f32_f64, f32, f64);
dot!(dot_f64, f64, f64);

/// `y += t · x`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn add_multiple(y: &mut [f64], t: f64, x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += t * f64::from(x);
    }
}

/// Σ a v and Σ b v.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn two_dots(a: &[f32], b: &[f32], v: &[f32]) -> (f64, f64) {
    let (mut of_a, mut of_b) = ([0.0_f64; PARTS], [0.0_f64; PARTS]);
    let ((a, a_rest), (b, b_rest), (v, v_rest)) =
        (a.as_chunks::<PARTS>(), b.as_chunks::<PARTS>(), v.as_chunks::<PARTS>());
    for ((a, b), v) in a.iter().zip(b).zip(v) {
        for i in 0..PARTS {
            let v = f64::from(v[i]);
            of_a[i] += f64::from(a[i]) * v;
            of_b[i] += f64::from(b[i]) * v;
        }
    }
    let rest = |a: &[f32]| a.iter().zip(v_rest).map(|(&a, &v)| f64::from(a) * f64::from(v)).sum::<f64>();
    (total(of_a) + rest(a_rest), total(of_b) + rest(b_rest))
}

/// a · b for four b.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn four_dots(a: &[f64], b: [&[f64]; 4]) -> [f64; 4] {
    let mut sums = [[0.0_f64; LANES]; 4];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let b = b.map(|b| b.as_chunks::<LANES>());
    for (i, a) in a.iter().enumerate() {
        for (sums, (b, _)) in sums.iter_mut().zip(&b) {
            for ((s, &a), &b) in sums.iter_mut().zip(a).zip(&b[i]) {
                *s += a * b;
            }
        }
    }
    let rest = b.map(|(_, b_rest)| a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>());
    std::array::from_fn(|q| total(sums[q]) + rest[q])
}

/// `y += t · x`, float32.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn add_multiple_f32(y: &mut [f32], t: f32, x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += t * x;
    }
}

/// `y += t · x + u · z`, float32.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn add_two_multiples(y: &mut [f32], t: f32, x: &[f32], u: f32, z: &[f32]) {
    for ((y, &x), &z) in y.iter_mut().zip(x).zip(z) {
        *y = (*y + t * x) + u * z;
    }
}

/// `x + t · y`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn sum_with_multiple(x: &[f64], t: f64, y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + t * y).collect()
}

/// `x − y`, rounded to float32.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn difference(x: &[f64], y: &[f64]) -> Vec<f32> {
    x.iter().zip(y).map(|(x, y)| (x - y) as f32).collect()
}

/// `y = s · y + t · x`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn scale_and_add(y: &mut [f64], s: f64, t: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = s * *y + t * x;
    }
}

/// `to = t · x · y`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn multiple_of_product(to: &mut [f64], t: f64, x: &[f32], y: &[f64]) {
    for ((to, &x), &y) in to.iter_mut().zip(x).zip(y) {
        *to = t * f64::from(x) * y;
    }
}

/// Without their mean.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub(super) fn remove_mean(v: &mut [f32]) {
    let mut sums = [0.0_f32; PARTS];
    let (chunks, rest) = v.as_chunks::<PARTS>();
    for chunk in chunks {
        for (s, v) in sums.iter_mut().zip(chunk) {
            *s += v;
        }
    }
    let sum = total(sums) + rest.iter().sum::<f32>();
    let mean = sum / v.len() as f32;
    v.iter_mut().for_each(|v| *v -= mean);
}

/// A row-major matrix `(rows, columns)` as `(columns, rows)`.
pub(super) fn transpose(from: &[f32], (rows, columns): (usize, usize), to: &mut [f32]) {
    for i0 in (0..rows).step_by(LANES) {
        for j0 in (0..columns).step_by(LANES) {
            if i0 + LANES <= rows && j0 + LANES <= columns {
                transpose_tile(&from[i0 * columns + j0..], columns, &mut to[j0 * rows + i0..], rows);
                continue;
            }
            for i in i0..(i0 + LANES).min(rows) {
                for j in j0..(j0 + LANES).min(columns) {
                    to[j * rows + i] = from[i * columns + j];
                }
            }
        }
    }
}

/// A square of [`LANES`] numbers; rows begin every `stride` numbers.
fn transpose_tile(from: &[f32], stride: usize, to: &mut [f32], to_stride: usize) {
    let tile: [[f32; LANES]; LANES] =
        std::array::from_fn(|i| from[i * stride..][..LANES].try_into().expect("as many numbers"));
    for (j, to) in to.chunks_mut(to_stride).take(LANES).enumerate() {
        let line: [f32; LANES] = std::array::from_fn(|i| tile[i][j]);
        to[..LANES].copy_from_slice(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_one_number_after_the_other() {
        for n in [0, 1, 31, 32, 33, 700] {
            let a: Vec<f32> = (0..n).map(|i| (i % 13) as f32 - 6.0).collect();
            let b: Vec<f64> = (0..n).map(|i| (i % 7) as f64 - 3.0).collect();
            let c: Vec<f32> = b.iter().map(|&b| b as f32).collect();
            let wide: Vec<f64> = a.iter().map(|&a| f64::from(a)).collect();
            let plain: f64 = a.iter().zip(&b).map(|(&a, b)| f64::from(a) * b).sum();
            assert_eq!([dot_f32(&a, &c), dot_f32_f64(&a, &b), dot_f64(&wide, &b)], [plain; 3]);
            assert_eq!(two_dots(&a, &c, &c), (plain, dot_f32(&c, &c)));
        }
    }

    #[test]
    fn four_sums_are_one_each() {
        for n in [0, 15, 16, 50] {
            let row =
                |a: usize| -> Vec<f64> { (0..n).map(|i| ((i * 7 + a * 5) % 11) as f64 - 5.0).collect() };
            let (x, rows) = (row(0), [row(1), row(2), row(3), row(4)]);
            let want = rows.each_ref().map(|row| x.iter().zip(row).map(|(x, v)| x * v).sum::<f64>());
            assert_eq!(four_dots(&x, rows.each_ref().map(|row| row.as_slice())), want);
        }
    }

    #[test]
    fn nothing_is_left_of_a_mean() {
        for n in [1, 5, 32, 100] {
            let mut v: Vec<f32> = (0..n).map(|i| (i % 5) as f32).collect();
            let mean = v.iter().sum::<f32>() / n as f32;
            let want: Vec<f32> = v.iter().map(|v| v - mean).collect();
            remove_mean(&mut v);
            assert_eq!(v, want);
        }
    }

    #[test]
    fn a_transposed_matrix_has_rows_for_columns() {
        for (rows, columns) in [(1, 1), (16, 16), (3, 40), (33, 17)] {
            let from: Vec<f32> = (0..rows * columns).map(|v| v as f32).collect();
            let mut to = vec![0.0; rows * columns];
            transpose(&from, (rows, columns), &mut to);
            assert!((0..rows).all(|i| (0..columns).all(|j| to[j * rows + i] == from[i * columns + j])));
        }
    }
}
