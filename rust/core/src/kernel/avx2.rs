//! Tile products on AVX2: float32 FMA.
//!
//! Registers   6 × 2 or 5 × 2 accumulators, 2 for a panel's words of one step, one broadcast
//! Rounding    float32 sums
//! Needs       avx2, fma; f16c, which every such CPU has
//! Defined by  [`super::portable`]; tested in `kernel::tests`
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::hint::black_box;

use super::few_avx2;
use super::layout::{LANES, Layout};
use super::tile::{Kernel, Precision, Tile};

pub(super) const F32: Kernel = Kernel {
    few: Some(few_avx2::FEW),
    registers: Some(registers),
    detect: || {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    },
    ..Kernel::plain("avx2_f32", Precision::Exact, Layout::F32, panel, two)
};

/// # Safety
/// The CPU has the features; the addresses of `t` are valid as [`Tile`] says.
#[target_feature(enable = "avx2,fma")]
unsafe fn panel(t: &Tile) {
    const { assert!(6 + 5 + 5 == LANES) }
    // SAFETY: passed on from the caller; together the three have the 16 rows.
    unsafe {
        rows::<6>(t, 0);
        rows::<5>(t, 6);
        rows::<5>(t, 11);
    }
}

/// `N` rows from `first` on: 2 `N` accumulators, at least ten of them, so that the latency of two FMAs a cycle
/// is hidden and each load of a panel's words serves more than one.
///
/// # Safety
/// As [`panel`]; `first + N` is at most 16.
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const N: usize>(t: &Tile, first: usize) {
    // SAFETY: the caller vouches for the addresses of 16 rows, `steps` steps and one panel.
    unsafe {
        let a = t.a.add(first * t.a_row).cast::<f32>();
        t.prefetch(first, N, 1);
        let mut sums = [[_mm256_setzero_ps(); 2]; N];
        for s in 0..t.steps {
            let b = t.b.add(s * LANES).cast::<f32>();
            let b = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
            let a = a.add(s * t.a_step);
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = _mm256_set1_ps(a.add(r * t.a_row).read());
                sums[0] = _mm256_fmadd_ps(a, b[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(a, b[1], sums[1]);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let c = t.c.add((first + r) * t.c_row);
            _mm256_storeu_ps(c, _mm256_add_ps(_mm256_loadu_ps(c), sums[0]));
            let c = c.add(8);
            _mm256_storeu_ps(c, _mm256_add_ps(_mm256_loadu_ps(c), sums[1]));
        }
    }
}

/// # Safety
/// As [`panel`], for two panels.
#[target_feature(enable = "avx2,fma")]
unsafe fn two(t: &Tile) {
    // SAFETY: passed on from the caller; the second panel's addresses are the first's plus its strides.
    unsafe {
        panel(t);
        panel(&Tile { b: t.b.add(t.b_panel), c: t.c.add(t.c_panel), ..*t });
    }
}

/// Multiplications of values that stay in registers, in as many chains as hide their latency.
///
/// # Safety
/// The CPU has the features.
#[target_feature(enable = "avx2,fma")]
unsafe fn registers(rounds: usize) -> usize {
    const CHAINS: usize = 12;
    let [a, b] = black_box([_mm256_setzero_ps(); 2]);
    let mut sums = [_mm256_setzero_ps(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(a, b, *sum);
        }
    }
    black_box(sums);
    rounds * CHAINS * 8
}
