//! Tile products of whole numbers on AVX-512 with VNNI (`vpdpwssd`).
//!
//! Registers   8 × 2 accumulators (16 × 1 for one panel), the panels' words of one step, one broadcast
//! Rounding    exact sums of [`FIXED_STEPS`] words, added in float32
//! Needs       avx512f, avx512vnni
//! Defined by  [`super::portable`]; tested in `kernel::tests`
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::hint::black_box;

use super::layout::{FIXED_STEPS, LANES, Layout};
use super::tile::{Kernel, Precision, Tile};

pub(super) const I16: Kernel = Kernel {
    registers: Some(registers),
    detect: || is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni"),
    pays: || true,
    ..Kernel::plain("avx512_vnni_i16", Precision::Fixed, Layout::Fixed, rows::<16, 1>, rows::<8, 2>)
};

/// `R` rows × `P` panels at a time.
///
/// # Safety
/// The CPU has the features; the addresses of `t` are valid as [`Tile`] says, for `P` panels.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn rows<const R: usize, const P: usize>(t: &Tile) {
    for first in (0..LANES).step_by(R) {
        // SAFETY: the caller vouches for the addresses of 16 rows, `steps` steps and the panels.
        unsafe {
            let a = t.a.add(first * t.a_row);
            t.prefetch(first, R, P);
            for begin in (0..t.steps).step_by(FIXED_STEPS) {
                let mut sums = [[_mm512_setzero_si512(); P]; R];
                for s in begin..t.steps.min(begin + FIXED_STEPS) {
                    let mut b = [_mm512_setzero_si512(); P];
                    for (p, b) in b.iter_mut().enumerate() {
                        *b = _mm512_loadu_si512(t.b.add(p * t.b_panel + s * LANES).cast());
                    }
                    let a = a.add(s * t.a_step);
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let a = _mm512_set1_epi32(a.add(r * t.a_row).read() as i32);
                        for (sum, &b) in sums.iter_mut().zip(&b) {
                            *sum = _mm512_dpwssd_epi32(*sum, a, b);
                        }
                    }
                }
                for (r, sums) in sums.iter().enumerate() {
                    for (p, &sum) in sums.iter().enumerate() {
                        let c = t.c.add((first + r) * t.c_row + p * t.c_panel);
                        _mm512_storeu_ps(c, _mm512_add_ps(_mm512_loadu_ps(c), _mm512_cvtepi32_ps(sum)));
                    }
                }
            }
        }
    }
}

/// Multiplications of values that stay in registers, in as many chains as hide their latency.
///
/// # Safety
/// The CPU has the features.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn registers(rounds: usize) -> usize {
    const CHAINS: usize = 16;
    let [a, b] = black_box([_mm512_setzero_si512(); 2]);
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpwssd_epi32(*sum, a, b);
        }
    }
    black_box(sums);
    rounds * CHAINS * 2 * LANES
}
