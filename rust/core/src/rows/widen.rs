//! float16 and float32 rows as float32.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128i, _mm256_cvtph_ps, _mm512_cvtph_ps};

use half::f16;
use multiversion::{multiversion, target::match_target};

use crate::kernel::prefetch;
#[cfg(target_arch = "aarch64")]
use crate::kernel::widen_four;

/// float16 to float32, exactly.
///
/// `half` asks the CPU and makes a call for each eight values, which costs four times what they do.
#[multiversion(targets("x86_64+avx2+f16c"))]
pub(crate) fn widen(from: &[f16], to: &mut [f32]) {
    let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<8>(), to.as_chunks_mut::<8>());
    for (to, from) in to.iter_mut().zip(from) {
        *to = match_target! {
            "x86_64+avx2+f16c" => bytemuck::cast(_mm256_cvtph_ps(bytemuck::cast(*from))),
            _ => widen_some(*from),
        };
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = from.to_f32();
    }
}

/// float16 to float32 by what every CPU of this architecture has; N is a multiple of four.
#[inline(always)]
fn widen_some<const N: usize>(halves: [f16; N]) -> [f32; N] {
    const { assert!(N.is_multiple_of(4)) }
    #[cfg(target_arch = "aarch64")]
    {
        let mut wide = [0.0; N];
        for (wide, halves) in wide.as_chunks_mut::<4>().0.iter_mut().zip(halves.as_chunks::<4>().0) {
            *wide = bytemuck::cast(widen_four(bytemuck::cast(*halves)));
        }
        wide
    }
    #[cfg(not(target_arch = "aarch64"))]
    halves.map(f16::to_f32)
}

/// `sums += row`, in float32; as many bytes from `later` on are asked for meanwhile.
#[multiversion(targets("x86_64+avx512f+f16c", "x86_64+avx2+f16c"))]
pub(super) fn add_halves(row: &[f16], later: *const u8, sums: &mut [f32]) {
    let ((row, row_rest), (sums, sums_rest)) = (row.as_chunks::<16>(), sums.as_chunks_mut::<16>());
    for (block, (sums, row)) in sums.iter_mut().zip(row).enumerate() {
        prefetch(later.wrapping_add(32 * block));
        let wide: [f32; 16] = match_target! {
            "x86_64+avx512f" => bytemuck::cast(_mm512_cvtph_ps(bytemuck::cast(*row))),
            "x86_64+avx2+f16c" => {
                let halves: [__m128i; 2] = bytemuck::cast(*row);
                bytemuck::cast(halves.map(|v| _mm256_cvtph_ps(v)))
            }
            _ => widen_some(*row),
        };
        for (s, v) in sums.iter_mut().zip(wide) {
            *s += v;
        }
    }
    for (s, v) in sums_rest.iter_mut().zip(row_rest) {
        *s += v.to_f32();
    }
}

/// As [`add_halves`].
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2"))]
pub(super) fn add_singles(row: &[f32], later: *const u8, sums: &mut [f32]) {
    let ((row, row_rest), (sums, sums_rest)) = (row.as_chunks::<16>(), sums.as_chunks_mut::<16>());
    for (block, (sums, row)) in sums.iter_mut().zip(row).enumerate() {
        prefetch(later.wrapping_add(64 * block));
        for (s, &v) in sums.iter_mut().zip(row) {
            *s += v;
        }
    }
    for (s, &v) in sums_rest.iter_mut().zip(row_rest) {
        *s += v;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float16_widens_to_itself() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let mut wide = vec![0.0; all.len()];
        widen(&all, &mut wide);
        for (half, wide) in all.iter().zip(wide) {
            if half.is_nan() {
                assert!(wide.is_nan(), "{:04x}", half.to_bits());
            } else {
                assert_eq!(wide.to_bits(), half.to_f32().to_bits(), "{:04x}", half.to_bits());
            }
        }
    }
}
