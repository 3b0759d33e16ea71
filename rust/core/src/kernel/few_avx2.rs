//! Products on rows as they lie ([`super::few`]), on AVX2: eight features in a register, twelve accumulators at most.
//!
//! Needs       avx2, fma, f16c
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::arch::x86_64::{
    _mm256_add_ps as add, _mm256_fmadd_ps as multiply_add, _mm256_load_ps as read, _mm256_mul_ps as multiply,
    _mm256_set1_ps as broadcast, _mm256_setzero_ps as zero, _mm256_store_ps as write,
    _mm256_sub_ps as subtract,
};

use super::few_loops::{few_products, with_zeros};

/// Values of a register.
const WIDTH: usize = 8;

few_products! {
    "avx2,fma,f16c", __m256,
    2 2 4, 3 3 3, 4 4 2, 5 5 2, 6 6 2, 8 8 1, 10 10 1, 12 12 1, 16 8 1
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum_of(values: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps::<1>(values));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// # Safety
/// Eight values of a row from `first` on are readable.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load<const HALF: bool>(row: *const u8, first: usize) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        if HALF {
            _mm256_cvtph_ps(_mm_loadu_si128(row.add(2 * first).cast()))
        } else {
            _mm256_loadu_ps(row.add(4 * first).cast())
        }
    }
}

/// # Safety
/// `n` values of a row from `first` on are readable, fewer than eight.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load_rest<const HALF: bool>(row: *const u8, first: usize, n: usize) -> __m256 {
    // SAFETY: the caller's; float16 values fill half of the room.
    unsafe { load::<HALF>(with_zeros::<HALF, { 4 * WIDTH }>(row, first, n).as_ptr(), 0) }
}
