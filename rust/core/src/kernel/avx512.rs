//! Tile products on AVX-512: float32 FMA, and bfloat16 pairs (`vdpbf16ps`).
//!
//! Registers   8 × 2 accumulators (16 × 1 for one panel), the panels' words of one step, one broadcast
//! Rounding    float32 sums; `vdpbf16ps` sums a pair before the accumulator and flushes denormals
//! Needs       avx512f, avx512bw, avx512vl; avx512f, avx512bf16
//! Defined by  [`super::portable`]; tested in `kernel::tests`
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::hint::black_box;

use super::cpu::{Cpu, cpu};
use super::few_avx512;
use super::layout::{LANES, Layout};
use super::tile::{Kernel, Precision, Tile};

pub(super) const F32: Kernel = Kernel {
    few: Some(few_avx512::FEW),
    registers: Some(f32_registers),
    detect: || {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
    },
    ..Kernel::plain("avx512_f32", Precision::Exact, Layout::F32, f32_one, f32_two)
};

pub(super) const BF16: Kernel = Kernel {
    registers: Some(bf16_registers),
    detect: || is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"),
    pays: is_amd,
    ..Kernel::plain("avx512_bf16", Precision::Bf16, Layout::Pairs, bf16_one, bf16_two)
};

/// Zen 4 and 5 do as many `vdpbf16ps` as float32 FMA in a cycle, twice the products. On the Intel Xeon at hand
/// (AVX-512, bf16 and AMX) registers alone give 121 Gflop/s in bfloat16 and 250 in float32.
fn is_amd() -> bool {
    matches!(cpu(), Cpu::Amd { .. })
}

/// A block of `$rows` × `$panels` accumulators at a time, over all steps.
macro_rules! micro {
    ($name:ident, $features:literal, $rows:literal, $panels:literal, $multiply:expr) => {
        /// # Safety
        /// The CPU has the features; the addresses of `t` are valid as [`Tile`] says.
        #[target_feature(enable = $features)]
        unsafe fn $name(t: &Tile) {
            for first in (0..LANES).step_by($rows) {
                // SAFETY: the caller vouches for the addresses of 16 rows, `steps` steps and the panels.
                unsafe {
                    let a = t.a.add(first * t.a_row);
                    let c = t.c.add(first * t.c_row);
                    t.prefetch(first, $rows, $panels);
                    let mut sums = [[_mm512_setzero_ps(); $panels]; $rows];
                    for s in 0..t.steps {
                        let mut b = [_mm512_setzero_si512(); $panels];
                        for (p, b) in b.iter_mut().enumerate() {
                            *b = _mm512_loadu_si512(t.b.add(p * t.b_panel + s * LANES).cast());
                        }
                        let a = a.add(s * t.a_step);
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let a = _mm512_set1_epi32(a.add(r * t.a_row).read() as i32);
                            for (sum, &b) in sums.iter_mut().zip(&b) {
                                *sum = $multiply(*sum, a, b);
                            }
                        }
                    }
                    for (r, sums) in sums.iter().enumerate() {
                        for (p, &sum) in sums.iter().enumerate() {
                            let c = c.add(r * t.c_row + p * t.c_panel);
                            _mm512_storeu_ps(c, _mm512_add_ps(_mm512_loadu_ps(c), sum));
                        }
                    }
                }
            }
        }
    };
}

/// `$rounds` multiplications of values that stay in registers, in as many chains as hide their latency.
macro_rules! registers {
    ($name:ident, $features:literal, $values:literal, $multiply:expr) => {
        /// # Safety
        /// The CPU has the features.
        #[target_feature(enable = $features)]
        unsafe fn $name(rounds: usize) -> usize {
            const CHAINS: usize = 16;
            let [a, b] = black_box([_mm512_setzero_si512(); 2]);
            let mut sums = [_mm512_setzero_ps(); CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $multiply(*sum, a, b);
                }
            }
            black_box(sums);
            rounds * CHAINS * $values
        }
    };
}

#[inline]
#[target_feature(enable = "avx512f")]
fn multiply_f32(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
    _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_bf16(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
    // SAFETY: both types are 512 bits without invalid values.
    let (a, b) =
        unsafe { (std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b)) };
    _mm512_dpbf16_ps(sum, a, b)
}

micro!(f32_one, "avx512f", 16, 1, multiply_f32);
micro!(f32_two, "avx512f", 8, 2, multiply_f32);
micro!(bf16_one, "avx512f,avx512bf16", 16, 1, multiply_bf16);
micro!(bf16_two, "avx512f,avx512bf16", 8, 2, multiply_bf16);
registers!(f32_registers, "avx512f", 16, multiply_f32);
registers!(bf16_registers, "avx512f,avx512bf16", 32, multiply_bf16);
