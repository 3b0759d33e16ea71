//! Products on rows as they lie ([`super::few`]), on AVX-512: sixteen features in a register, 24 accumulators at most.
//!
//! Needs       avx512f, avx512bw and avx512vl (for the last features of a float16 row)
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::few_x86::few_products;

/// Values of a register.
const WIDTH: usize = 16;

few_products! {
    "avx512f,avx512bw,avx512vl", __m512,
    2 2 4, 3 3 4, 4 4 4, 5 5 4, 6 6 4, 8 8 2, 10 10 2, 12 12 2, 16 16 1
}

#[inline]
#[target_feature(enable = "avx512f")]
fn zero() -> __m512 {
    _mm512_setzero_ps()
}

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(value: f32) -> __m512 {
    _mm512_set1_ps(value)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
    _mm512_fmadd_ps(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sum_of(values: __m512) -> f32 {
    _mm512_reduce_add_ps(values)
}

/// # Safety
/// Sixteen values on a cache line.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn read(at: *const f32) -> __m512 {
    // SAFETY: the caller's.
    unsafe { _mm512_load_ps(at) }
}

/// `a + b` to `at`.
///
/// # Safety
/// As [`read`]'s.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn write_sum(at: *mut f32, a: __m512, b: __m512) {
    // SAFETY: the caller's.
    unsafe { _mm512_store_ps(at, _mm512_add_ps(a, b)) }
}

/// `(x − shift) · scale`.
///
/// # Safety
/// As [`read`]'s, for both.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn shifted(x: __m512, shift: *const f32, scale: *const f32) -> __m512 {
    // SAFETY: the caller's.
    unsafe { _mm512_mul_ps(_mm512_sub_ps(x, read(shift)), read(scale)) }
}

/// # Safety
/// Sixteen values of a row from `first` on are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load<const HALF: bool>(row: *const u8, first: usize) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        if HALF {
            _mm512_cvtph_ps(_mm256_loadu_si256(row.add(2 * first).cast()))
        } else {
            _mm512_loadu_ps(row.add(4 * first).cast())
        }
    }
}

/// # Safety
/// `n` values of a row from `first` on are readable, fewer than sixteen.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn load_rest<const HALF: bool>(row: *const u8, first: usize, n: usize) -> __m512 {
    let mask = (1 << n) - 1;
    // SAFETY: the caller's; masked loads touch no more than the mask says.
    unsafe {
        if HALF {
            _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row.add(2 * first).cast()))
        } else {
            _mm512_maskz_loadu_ps(mask, row.add(4 * first).cast())
        }
    }
}
