//! Tile products of whole numbers on AVX2: `vpmaddwd` and an addition, or `vpdpwssd` where the CPU has AVX-VNNI.
//!
//! Registers   6 × 2 or 5 × 2 accumulators, 2 for a panel's words of one step, one broadcast, one product
//! Rounding    exact sums of [`FIXED_STEPS`] words, added in float32
//! Needs       avx2; avxvnni
//! Defined by  [`super::portable`]; tested in `kernel::tests`
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::hint::black_box;

use super::cpu::{Cpu, cpu};
use super::layout::{FIXED_STEPS, LANES, Layout};
use super::tile::{Kernel, Precision, Tile};

pub(super) const I16: Kernel = Kernel {
    registers: Some(madd_registers),
    detect: || is_x86_feature_detected!("avx2"),
    pays: || !is_x86_feature_detected!("avx512f") && multiplies_twice(cpu()),
    ..Kernel::plain("avx2_i16", Precision::Fixed, Layout::Fixed, madd_one, madd_two)
};

pub(super) const VNNI: Kernel = Kernel {
    registers: Some(vnni_registers),
    detect: || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"),
    pays: || true,
    ..Kernel::plain("avx2_vnni_i16", Precision::Fixed, Layout::Fixed, vnni_one, vnni_two)
};

/// Whether `vpmaddwd` runs twice a cycle, as FMA does: not on Haswell, Broadwell and AMD's CPUs before Zen 3, where it takes
/// as long as the float32 products that it replaces.
fn multiplies_twice(cpu: Cpu) -> bool {
    const HASWELL: [u32; 4] = [0x3c, 0x3f, 0x45, 0x46];
    const BROADWELL: [u32; 4] = [0x3d, 0x47, 0x4f, 0x56];
    match cpu {
        Cpu::Amd { family } => family >= 0x19,
        Cpu::Intel { family, model } => {
            family == 6 && !HASWELL.contains(&model) && !BROADWELL.contains(&model)
        }
        Cpu::Other => false,
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn madd(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
}

#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn vnni(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    _mm256_dpwssd_avx_epi32(sum, a, b)
}

/// Tiles of one and two panels, and the most that registers allow.
macro_rules! micro {
    ($rows:ident, $one:ident, $two:ident, $registers:ident, $features:literal, $multiply:expr) => {
        /// `N` rows from `first` on, as many as accumulators allow, so that each load of a panel's words serves them all.
        ///
        /// # Safety
        /// The CPU has the features; the addresses of `t` are valid as [`Tile`] says; `first + N` is at most 16.
        #[target_feature(enable = $features)]
        unsafe fn $rows<const N: usize>(t: &Tile, first: usize) {
            // SAFETY: the caller vouches for the addresses of 16 rows, `steps` steps and one panel.
            unsafe {
                let a = t.a.add(first * t.a_row);
                t.prefetch(first, N, 1);
                for begin in (0..t.steps).step_by(FIXED_STEPS) {
                    let mut sums = [[_mm256_setzero_si256(); 2]; N];
                    for s in begin..t.steps.min(begin + FIXED_STEPS) {
                        let b = t.b.add(s * LANES).cast::<__m256i>();
                        let b = [_mm256_loadu_si256(b), _mm256_loadu_si256(b.add(1))];
                        let a = a.add(s * t.a_step);
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let a = _mm256_set1_epi32(a.add(r * t.a_row).read() as i32);
                            sums[0] = $multiply(sums[0], a, b[0]);
                            sums[1] = $multiply(sums[1], a, b[1]);
                        }
                    }
                    for (r, sums) in sums.iter().enumerate() {
                        for (half, &sum) in sums.iter().enumerate() {
                            let c = t.c.add((first + r) * t.c_row + half * 8);
                            _mm256_storeu_ps(c, _mm256_add_ps(_mm256_loadu_ps(c), _mm256_cvtepi32_ps(sum)));
                        }
                    }
                }
            }
        }

        /// # Safety
        /// The CPU has the features; the addresses of `t` are valid as [`Tile`] says.
        #[target_feature(enable = $features)]
        unsafe fn $one(t: &Tile) {
            const { assert!(6 + 5 + 5 == LANES) }
            // SAFETY: passed on from the caller; together the three have the 16 rows.
            unsafe {
                $rows::<6>(t, 0);
                $rows::<5>(t, 6);
                $rows::<5>(t, 11);
            }
        }

        /// # Safety
        /// As for one panel, for two.
        #[target_feature(enable = $features)]
        unsafe fn $two(t: &Tile) {
            // SAFETY: passed on from the caller; the second panel's addresses are the first's plus its strides.
            unsafe {
                $one(t);
                $one(&Tile { b: t.b.add(t.b_panel), c: t.c.add(t.c_panel), ..*t });
            }
        }

        /// Multiplications of values that stay in registers, in as many chains as hide their latency.
        ///
        /// # Safety
        /// The CPU has the features.
        #[target_feature(enable = $features)]
        unsafe fn $registers(rounds: usize) -> usize {
            const CHAINS: usize = 12;
            let factor = black_box(_mm256_setzero_si256());
            let mut sums = [_mm256_setzero_si256(); CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $multiply(*sum, *sum, factor); // of the sum: products of two constants would leave the loop
                }
            }
            black_box(sums);
            rounds * CHAINS * LANES
        }
    };
}

micro!(madd_rows, madd_one, madd_two, madd_registers, "avx2", madd);
micro!(vnni_rows, vnni_one, vnni_two, vnni_registers, "avx2,avxvnni", vnni);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_whole_numbers_pay_where_the_cpu_multiplies_them_twice_a_cycle() {
        for (cpu, pays) in [
            (Cpu::Amd { family: 0x17 }, false),             // Zen 2
            (Cpu::Amd { family: 0x19 }, true),              // Zen 3
            (Cpu::Intel { family: 6, model: 0x3c }, false), // Haswell
            (Cpu::Intel { family: 6, model: 0x5e }, true),  // Skylake
            (Cpu::Other, false),
        ] {
            assert_eq!(multiplies_twice(cpu), pays, "{cpu:?}");
        }
    }
}
