//! Products on rows as they lie ([`super::few`]), on AVX-512: sixteen features in a register, 24 accumulators at most.
//!
//! Needs       avx512f, avx512bw and avx512vl (for the last features of a float16 row)
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::arch::x86_64::{
    _mm512_add_ps as add, _mm512_fmadd_ps as multiply_add, _mm512_load_ps as read, _mm512_mul_ps as multiply,
    _mm512_reduce_add_ps as sum_of, _mm512_set1_ps as broadcast, _mm512_setzero_ps as zero,
    _mm512_store_ps as write, _mm512_sub_ps as subtract,
};

use super::few_loops::few_products;

/// Values of a register.
const WIDTH: usize = 16;

few_products! {
    "avx512f,avx512bw,avx512vl", __m512,
    2 2 4, 3 3 4, 4 4 4, 5 5 4, 6 6 4, 8 8 2, 10 10 2, 12 12 2, 16 16 1
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
