//! Softmax residual of a block of scores, with what a pass collects on the way.

use multiversion::multiversion;

use super::layout::LANES;

/// Probabilities below this are written as zero. A residual of 1e-30 changes no sum that is kept, and its
/// products with any staged float16 value stay normal numbers: denormals cost a hundred times a product.
pub const FLUSH: f32 = 1e-30;

/// e to this is the smallest value that [`exp`] gives but zero.
const SMALLEST: f32 = -87.0;

/// Sums over the rows of a block.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Residual {
    /// Σ −log p[y].
    pub loss: f64,
    /// Σ entropy of p.
    pub entropy: f64,
    /// Rows whose largest score is not the label's (ties: the lowest class wins).
    pub errors: usize,
}

/// Turn scores into `softmax(z) − onehot(label)`, in place.
///
/// `z` holds a row of `k` scores every [`super::padded`]`(k)` floats and may have more rows than labels;
/// `labels` `(n)` with entries below `k`. The padding becomes zero.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
pub fn softmax_residual(z: &mut [f32], labels: &[u32], k: usize) -> Residual {
    let mut sums = Residual::default();
    for (row, &label) in z.chunks_exact_mut(super::padded(k)).zip(labels) {
        row[k..].fill(f32::NEG_INFINITY);
        let label = label as usize;
        let score = row[label];
        let (lines, _) = row.as_chunks_mut::<LANES>();
        // sixteen sums at a time: the compiler may not reorder one
        let mut max = [f32::NEG_INFINITY; LANES];
        for line in lines.iter() {
            for (m, &v) in max.iter_mut().zip(line) {
                *m = if v > *m { v } else { *m };
            }
        }
        let max = max.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let own = score - max;
        // the lowest class that reaches the maximum is predicted
        if own < 0.0 || lines.as_flattened()[..label].contains(&max) {
            sums.errors += 1;
        }
        // the maximum's own e⁰ = 1 is left out: beside it a sum of 1e-8 would be lost, and with it the whole loss
        // of a row that is predicted with confidence
        let mut others = [0.0_f32; LANES];
        let mut maxima = [0.0_f32; LANES];
        let mut dot = [0.0_f32; LANES]; // Σ e^{z−max} (z − max)
        for line in lines.iter_mut() {
            for (((v, others), maxima), dot) in
                line.iter_mut().zip(&mut others).zip(&mut maxima).zip(&mut dot)
            {
                let shifted = *v - max;
                let e = exp(shifted);
                let is_max = shifted == 0.0;
                *others += if is_max { 0.0 } else { e };
                *maxima += if is_max { 1.0 } else { 0.0 };
                *dot += e * shifted.max(SMALLEST);
                *v = e;
            }
        }
        let (others, maxima): (f32, f32) = (others.iter().sum(), maxima.iter().sum());
        let rest = others + (maxima - 1.0);
        let (total, dot) = (1.0 + rest, dot.iter().sum::<f32>());
        let log_total = f64::from(rest).ln_1p();
        sums.loss += log_total - f64::from(own);
        sums.entropy += log_total - f64::from(dot / total);
        let scale = total.recip();
        for line in lines.iter_mut() {
            for v in line {
                let p = *v * scale;
                *v = if p < FLUSH { 0.0 } else { p };
            }
        }
        row[label] = if own < 0.0 {
            row[label] - 1.0
        } else {
            // 1 − p of the largest p: what the others have together
            let missing = rest * scale;
            if missing < FLUSH { 0.0 } else { -missing }
        };
    }
    sums
}

/// As [`softmax_residual`] for few classes whose scores lie by class: that of row i and class c is `z[c · stride + i]`.
///
/// `z` has 16 classes, those from `k` on become zero; `stride` is a multiple of 16, and `intercept` `(k)` is added first.
/// Entries of rows beyond the labels are unspecified.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
pub fn softmax_residual_by_class(
    z: &mut [f32],
    stride: usize,
    intercept: &[f32],
    labels: &[u32],
) -> Residual {
    debug_assert!(stride.is_multiple_of(LANES) && labels.len() <= stride, "whole lanes of rows");
    let k = intercept.len();
    let mut sums = Residual::default();
    let mut buffer = [[0.0_f32; LANES]; LANES];
    let lines = &mut buffer[..k];
    for (first, labels) in (0..).step_by(LANES).zip(labels.chunks(LANES)) {
        // sixteen rows at a time, one in each lane
        let mut max = [f32::NEG_INFINITY; LANES];
        let mut best = [0_u32; LANES];
        for (c, (line, &b)) in lines.iter_mut().zip(intercept).enumerate() {
            let scores = &z[c * stride + first..][..LANES];
            for i in 0..LANES {
                let score = scores[i] + b;
                let more = score > max[i];
                max[i] = if more { score } else { max[i] };
                best[i] = if more { c as u32 } else { best[i] };
                line[i] = score;
            }
        }
        let mut own = [0.0_f32; LANES];
        for (i, &label) in labels.iter().enumerate() {
            own[i] = lines[label as usize][i] - max[i];
            sums.errors += usize::from(best[i] != label);
        }
        // without the maximum's own e⁰ = 1, as in `softmax_residual`
        let mut rest = [0.0_f32; LANES];
        let mut dot = [0.0_f32; LANES];
        for (c, line) in lines.iter_mut().enumerate() {
            for i in 0..LANES {
                let shifted = line[i] - max[i];
                let e = exp(shifted);
                rest[i] += if best[i] == c as u32 { 0.0 } else { e };
                dot[i] += e * shifted.max(SMALLEST);
                line[i] = e;
            }
        }
        let mut logs = [0.0_f64; LANES];
        let mut means = [0.0_f64; LANES];
        let mut scale = [0.0_f32; LANES];
        for i in 0..LANES {
            let total = 1.0 + rest[i];
            scale[i] = total.recip();
            means[i] = f64::from(dot[i] / total);
            logs[i] = ln_1p(f64::from(rest[i]));
        }
        for i in 0..labels.len() {
            sums.loss += logs[i] - f64::from(own[i]);
            sums.entropy += logs[i] - means[i];
        }
        for (c, line) in lines.iter().enumerate() {
            let out = &mut z[c * stride + first..][..LANES];
            for i in 0..LANES {
                let p = line[i] * scale[i];
                out[i] = if p < FLUSH { 0.0 } else { p };
            }
        }
        for (i, &label) in labels.iter().enumerate() {
            let r = &mut z[label as usize * stride + first + i];
            *r = if own[i] < 0.0 {
                *r - 1.0
            } else {
                let missing = rest[i] * scale[i];
                if missing < FLUSH { 0.0 } else { -missing }
            };
        }
    }
    z[k * stride..].fill(0.0);
    sums
}

/// `ln(1 + x)` for x from 0 to 2²⁰, to some units in the last place; in operations that have vector instructions.
#[inline(always)]
fn ln_1p(x: f64) -> f64 {
    // 1 + x = 2ⁿ m with m from √½ to √2, by the bits: adding 2 − √2 of the lower half carries into the exponent there
    let y = 1.0 + x;
    let shifted = y.to_bits() + (0x3ff0_0000_0000_0000 - std::f64::consts::FRAC_1_SQRT_2.to_bits());
    let n = (shifted >> 52) as i32 - 1023;
    let m = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff) + std::f64::consts::FRAC_1_SQRT_2.to_bits());
    // where n is 0, x itself has digits that 1 + x lost
    let f = if n == 0 { x } else { m - 1.0 };
    // ln(1 + f) = 2 artanh(s), |s| ≤ 0.172
    let s = f / (2.0 + f);
    let q = s * s;
    let mut series = 1.0 / 19.0;
    for odd in [17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        series = series * q + 1.0 / odd;
    }
    f64::from(n) * std::f64::consts::LN_2 + 2.0 * s * series
}

/// Curvature of a row's loss along the score whose residual is `r`: `max(|r| (1 − |r|), r² / 8)`.
///
/// The first is p (1 − p). The second is what it comes to on the way for a row that is predicted wrongly with
/// confidence: its curvature here is next to nothing, and a metric without it makes giant steps for its class.
#[inline(always)]
pub fn curvature(r: f32) -> f64 {
    let r = r.abs();
    f64::from((r * (1.0 - r)).max(0.125 * r * r))
}

/// `mass[c] += h` and `squares[c] += h²` for a row of residuals, where h is their [`curvature`].
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
pub fn add_curvature(residual: &[f32], mass: &mut [f64], squares: &mut [f64]) {
    for ((m, s), &r) in mass.iter_mut().zip(squares).zip(residual) {
        let h = curvature(r);
        *m += h;
        *s += h * h;
    }
}

/// `e^x` for x ≤ 0 to 2 units in the last place; 0 below −87 ([`SMALLEST`]). Branch-free, so that loops vectorize.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts (Cody and Waite): n · HIGH is exact for |n| ≤ 2⁸
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    // adding 1.5 · 2²³ rounds to the nearest integer, which then stands in the low bits
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.max(SMALLEST);
    let shifted = clamped * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * HIGH) - n * LOW;
    // minimax polynomial of e^r on |r| ≤ ln 2 / 2
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let e = p * (r * r) + r + 1.0;
    // the low bits of `shifted` are 0x400000 + n, which the shift moves out of the word
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < SMALLEST { 0.0 } else { e * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_float64() {
        for i in 0..=87_000 {
            let x = -(i as f32) / 1000.0;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) - want).abs() <= 2.0 * f64::from(f32::EPSILON) * want, "{x}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    /// Rows that are predicted with confidence: their losses are all that separable rows have.
    #[test]
    fn small_losses_entropies_and_residuals_keep_their_digits() {
        for distance in [5.0_f32, 15.0, 18.0, 30.0, 60.0] {
            let z = [1.0, 1.0 - distance, 1.5 - distance];
            let mut r = [0.0; LANES];
            r[..3].copy_from_slice(&z);
            let sums = softmax_residual(&mut r, &[0], 3);
            let e = |c: usize| (f64::from(z[c]) - 1.0).exp();
            let rest = e(1) + e(2);
            let entropy = rest.ln_1p()
                - (e(1) * (f64::from(z[1]) - 1.0) + e(2) * (f64::from(z[2]) - 1.0)) / (1.0 + rest);
            // rounding of z − max, exp and a few sums, relative
            let near = |got: f64, want: f64| (got - want).abs() <= 1e-6 * want.abs();
            assert!(near(sums.loss, rest.ln_1p()), "{distance}: {} {}", sums.loss, rest.ln_1p());
            assert!(near(sums.entropy, entropy), "{distance}: {} {entropy}", sums.entropy);
            assert!(near(f64::from(r[0]), -rest / (1.0 + rest)), "{distance}: {}", r[0]);
        }
        // two classes share the maximum
        let mut r = [0.0; LANES];
        r[..3].copy_from_slice(&[2.0, 2.0, -200.0]);
        let sums = softmax_residual(&mut r, &[0], 3);
        assert!((sums.loss - 2.0_f64.ln()).abs() < 1e-7 && sums.errors == 0);
        assert_eq!(r[..3], [-0.5, 0.5, 0.0]);
    }

    #[test]
    fn ln_1p_agrees_with_the_library() {
        let xs = (-1000..=60)
            .map(|e| 2.0_f64.powf(f64::from(e) / 3.0))
            .chain((0..4000).map(|i| f64::from(i) / 200.0));
        for x in xs {
            assert!(
                (ln_1p(x) - x.ln_1p()).abs() <= 4.0 * f64::EPSILON * x.ln_1p(),
                "{x}: {} {}",
                ln_1p(x),
                x.ln_1p()
            );
        }
    }

    /// By class as by row: to rounding of sums in another order, ties and labels on ties included.
    #[test]
    fn scores_by_class_give_what_scores_by_row_give() {
        for k in [2_usize, 3, 10, 16] {
            for n in [1_usize, 15, 16, 17, 48] {
                let stride = n.next_multiple_of(LANES);
                // a step of 0.5, so that maxima are often shared; the last rows are predicted with confidence
                let score = |i: usize, c: usize| {
                    ((i * 7 + c * 5) % 11) as f32 * 0.5 * if i % 5 == 4 { 20.0 } else { 1.0 }
                };
                let intercept: Vec<f32> = (0..k).map(|c| (c % 2) as f32).collect();
                let labels: Vec<u32> = (0..n).map(|i| (i % k) as u32).collect();
                let mut by_row = vec![7.0; stride * LANES];
                let mut by_class = vec![f32::NAN; LANES * stride];
                for i in 0..n {
                    for c in 0..k {
                        by_row[i * LANES + c] = score(i, c) + intercept[c];
                        by_class[c * stride + i] = score(i, c);
                    }
                }
                let want = softmax_residual(&mut by_row, &labels, k);
                let got = softmax_residual_by_class(&mut by_class, stride, &intercept, &labels);
                assert_eq!(got.errors, want.errors, "{k} {n}");
                let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * (1e-6 + b.abs());
                assert!(near(got.loss, want.loss) && near(got.entropy, want.entropy), "{got:?} {want:?}");
                for i in 0..n {
                    for c in 0..LANES {
                        let (a, b) = (by_class[c * stride + i], by_row[i * LANES + c]);
                        assert!(near(f64::from(a), f64::from(b)), "{k} {n} {i} {c}: {a} {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn residual_loss_entropy_and_errors_agree_with_float64() {
        let scores = [[0.0, 0.0, 0.0], [5.0, -3.0, 0.5], [-100.0, 20.0, -100.0], [1.0, 1.0, 0.0]];
        for (row, labels, errors) in
            [(0, [2, 0], [1, 0]), (1, [0, 1], [0, 1]), (2, [0, 1], [1, 0]), (3, [0, 1], [0, 1])]
        {
            for (label, error) in labels.into_iter().zip(errors) {
                let z = scores[row];
                let mut r = [7.0; 2 * LANES]; // a row more than labels
                r[..3].copy_from_slice(&z);
                let sums = softmax_residual(&mut r, &[label], 3);
                let total: f64 = z.iter().map(|&v| f64::from(v).exp()).sum();
                let p: Vec<f64> = z.iter().map(|&v| f64::from(v).exp() / total).collect();
                let entropy: f64 = -p.iter().map(|&p| p * p.ln()).sum::<f64>();
                assert!((sums.loss + p[label as usize].ln()).abs() < 1e-5 * (1.0 + sums.loss), "{row}");
                assert!((sums.entropy - entropy).abs() < 1e-5);
                assert_eq!(sums.errors, error);
                for c in 0..3 {
                    let want = p[c] - f64::from(u8::from(c == label as usize));
                    assert!((f64::from(r[c]) - want).abs() < 1e-6);
                }
                assert!(r[3..LANES].iter().all(|&v| v == 0.0) && r[LANES..].iter().all(|&v| v == 7.0));
            }
        }
    }
}
