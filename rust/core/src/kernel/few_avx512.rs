//! Products on rows as they lie ([`super::few`]), on AVX-512: sixteen features in a register.
//!
//! Registers   rows × classes accumulators forward, features / 16 × classes backward, at most 24; the rows' features
//! Rounding    float32 sums
//! Needs       avx512f, avx512bw and avx512vl (for the last features of a float16 row)
//! Defined by  the staged products of [`super::product`]; tested in `kernel::few_tests`
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::array::from_fn;
use std::ops::Range;
use std::slice::from_mut;

use super::few::{Backward, Block, Forward, Micro};
use super::layout::LANES;

pub(super) const FEW: Micro = Micro { forward, backward };

/// Rows of a group, and registers of features of a chunk: weights of a chunk stay in the first cache for all rows of a
/// group, where those of all features would come from the second for each row (51 kB at 1280 features and ten classes).
const GROUP: usize = 8;
const CHUNK: usize = 32;

/// Call `$function::<half, classes, rows>` for the block's type and width: as many rows (or groups of 16 features) at a
/// time as have their accumulators in registers.
macro_rules! by_width {
    ($block:expr, $function:ident, $t:expr) => {
        by_width!($block, $function, $t, 2 4, 3 4, 4 4, 5 4, 6 4, 8 2, 10 2, 12 2, 16 1)
    };
    ($block:expr, $function:ident, $t:expr, $($classes:literal $rows:literal),*) => {
        match ($block.is_half, $block.width) {
            $((true, $classes) => $function::<true, $classes, $rows>($t),)*
            $((false, $classes) => $function::<false, $classes, $rows>($t),)*
            _ => unreachable!("a width that there is code for"),
        }
    };
}

/// # Safety
/// The CPU has the features; the addresses are valid as [`Forward`] says.
unsafe fn forward(t: &Forward<'_>) {
    // SAFETY: the caller's.
    unsafe { by_width!(t.block, forward_of, t) }
}

/// # Safety
/// The CPU has the features; the addresses are valid as [`Backward`] says.
unsafe fn backward(t: &Backward<'_>) {
    // SAFETY: the caller's.
    unsafe { by_width!(t.block, backward_of, t) }
}

/// Sixteen features of a row from `first` on, or as many as `mask` says and zeros; shifted and scaled.
///
/// # Safety
/// The features are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn load<const HALF: bool>(row: *const u8, first: usize, mask: Option<__mmask16>) -> __m512 {
    // SAFETY: the caller's; masked loads touch no more than the mask says.
    unsafe {
        match (HALF, mask) {
            (true, None) => _mm512_cvtph_ps(_mm256_loadu_si256(row.add(2 * first).cast())),
            (true, Some(mask)) => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row.add(2 * first).cast())),
            (false, None) => _mm512_loadu_ps(row.add(4 * first).cast()),
            (false, Some(mask)) => _mm512_maskz_loadu_ps(mask, row.add(4 * first).cast()),
        }
    }
}

/// Features from `first` on, shifted and scaled.
///
/// # Safety
/// `first` is a multiple of 16 below the padded length of shift and scale, which start on a cache line.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn scaled(block: &Block<'_>, first: usize, x: __m512) -> __m512 {
    // SAFETY: shift and scale are padded to whole lanes.
    unsafe {
        let shift = _mm512_load_ps(block.shift.as_ptr().add(first));
        let scale = _mm512_load_ps(block.scale.as_ptr().add(first));
        _mm512_mul_ps(_mm512_sub_ps(x, shift), scale)
    }
}

/// The last features, which fill no register.
fn rest(block: &Block<'_>) -> Option<__mmask16> {
    let rest = block.n_features % LANES;
    (rest > 0).then(|| (1 << rest) - 1)
}

/// # Safety
/// As [`forward`]'s.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn forward_of<const HALF: bool, const K: usize, const R: usize>(t: &Forward<'_>) {
    let block = &t.block;
    let n = block.rows.len();
    let whole = block.n_features / LANES;
    let mut sums = [[_mm512_setzero_ps(); K]; GROUP];
    for first in (0..n).step_by(GROUP) {
        let rows = &block.rows[first..(first + GROUP).min(n)];
        let next = |i: usize| block.rows[(first + GROUP + i).min(n - 1)];
        let sums = &mut sums[..rows.len()];
        sums.fill([_mm512_setzero_ps(); K]);
        // SAFETY: features below `n_features` are readable, scores have room for K · stride values. What is fetched is not
        // read.
        unsafe {
            for from in (0..whole).step_by(CHUNK) {
                let steps = from..(from + CHUNK).min(whole);
                let (tuples, singles) = sums.as_chunks_mut::<R>();
                for (at, sums) in tuples.iter_mut().enumerate() {
                    let of = |r: usize| rows[at * R + r];
                    let ahead = |r: usize| next(at * R + r);
                    add_products::<HALF, K, R>(t, from_fn(of), from_fn(ahead), steps.clone(), None, sums);
                }
                for (sums, i) in singles.iter_mut().zip(tuples.len() * R..) {
                    add_products::<HALF, K, 1>(t, [rows[i]], [next(i)], steps.clone(), None, from_mut(sums));
                }
            }
            if let Some(mask) = rest(block) {
                for ((i, &row), sums) in rows.iter().enumerate().zip(sums.iter_mut()) {
                    let steps = whole..whole + 1;
                    add_products::<HALF, K, 1>(t, [row], [next(i)], steps, Some(mask), from_mut(sums));
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (c, &sum) in sums.iter().enumerate() {
                    t.scores.add(c * t.stride + first + i).write(_mm512_reduce_add_ps(sum));
                }
            }
        }
    }
}

/// Add the products of the features of `steps` to the sums of R rows; fetch those of the rows `next` from memory.
///
/// # Safety
/// As [`forward`]'s; the features are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn add_products<const HALF: bool, const K: usize, const R: usize>(
    t: &Forward<'_>,
    rows: [*const u8; R],
    next: [*const u8; R],
    steps: Range<usize>,
    mask: Option<__mmask16>,
    sums: &mut [[__m512; K]],
) {
    let bytes = if HALF { 2 } else { 4 };
    let mut here: [[__m512; K]; R] = from_fn(|r| sums[r]);
    // SAFETY: the caller's; weights, shift and scale are padded.
    unsafe {
        for s in steps {
            let mut x = [_mm512_setzero_ps(); R];
            for ((x, &row), &next) in x.iter_mut().zip(&rows).zip(&next) {
                *x = scaled(&t.block, s * LANES, load::<HALF>(row, s * LANES, mask));
                _mm_prefetch::<_MM_HINT_T1>(next.add(s * LANES * bytes).cast());
            }
            let weights = t.weights.as_ptr().add(s * K * LANES);
            for c in 0..K {
                let w = _mm512_load_ps(weights.add(c * LANES));
                for (here, &x) in here.iter_mut().zip(&x) {
                    here[c] = _mm512_fmadd_ps(x, w, here[c]);
                }
            }
        }
    }
    sums.copy_from_slice(&here);
}

/// # Safety
/// As [`backward`]'s.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn backward_of<const HALF: bool, const K: usize, const G: usize>(t: &Backward<'_>) {
    let whole = t.block.n_features / LANES;
    // SAFETY: groups of features below `whole` are whole, the last is masked.
    unsafe {
        for s in (0..whole / G * G).step_by(G) {
            backward_features::<HALF, K, G>(t, s, None);
        }
        for s in whole / G * G..whole {
            backward_features::<HALF, K, 1>(t, s, None);
        }
        if let Some(mask) = rest(&t.block) {
            backward_features::<HALF, K, 1>(t, whole, Some(mask));
        }
    }
}

/// # Safety
/// As [`backward`]'s, with G groups of 16 features from group `s` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn backward_features<const HALF: bool, const K: usize, const G: usize>(
    t: &Backward<'_>,
    s: usize,
    mask: Option<__mmask16>,
) {
    let mut sums = [[_mm512_setzero_ps(); K]; G];
    // SAFETY: the features are readable, residuals have K · stride values, the sum has room for these features.
    unsafe {
        for (i, &row) in t.block.rows.iter().enumerate() {
            let mut x = [_mm512_setzero_ps(); G];
            for (g, x) in x.iter_mut().enumerate() {
                let first = (s + g) * LANES;
                *x = scaled(&t.block, first, load::<HALF>(row, first, mask));
            }
            for c in 0..K {
                let r = _mm512_set1_ps(*t.residuals.get_unchecked(c * t.stride + i));
                for (sums, &x) in sums.iter_mut().zip(&x) {
                    sums[c] = _mm512_fmadd_ps(r, x, sums[c]);
                }
            }
        }
        for (g, sums) in sums.iter().enumerate() {
            for (c, &sum) in sums.iter().enumerate() {
                let out = t.sum.add(((s + g) * K + c) * LANES);
                _mm512_store_ps(out, _mm512_add_ps(_mm512_load_ps(out), sum));
            }
        }
    }
}
