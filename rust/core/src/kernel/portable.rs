//! Tile products in plain Rust: the definition that every other kernel is tested against.
#![allow(unsafe_code)]

use super::layout::{LANES, Layout};
use super::tile::{Kernel, Precision, Tile};

pub(super) const F32: Kernel = Kernel::plain(
    "portable",
    Precision::Exact,
    Layout::F32,
    |t| {
        // SAFETY: passed on from the caller.
        unsafe { tile::<1>(t, f32_product) }
    },
    |t| {
        // SAFETY: passed on from the caller.
        unsafe { tile::<2>(t, f32_product) }
    },
);

/// Slow: it exists to define and test bfloat16 products where the CPU has none.
pub(super) const BF16: Kernel = Kernel::plain(
    "portable_bf16",
    Precision::Bf16,
    Layout::Pairs,
    |t| {
        // SAFETY: passed on from the caller.
        unsafe { tile::<1>(t, bf16_dot) }
    },
    |t| {
        // SAFETY: passed on from the caller.
        unsafe { tile::<2>(t, bf16_dot) }
    },
);

/// Slow: it exists to define and test products of whole numbers.
pub(super) const I16: Kernel = Kernel::plain(
    "portable_i16",
    Precision::Fixed,
    Layout::Fixed,
    |t| {
        // SAFETY: passed on from the caller.
        unsafe { tile::<1>(t, fixed_dot) }
    },
    |t| {
        // SAFETY: passed on from the caller.
        unsafe { tile::<2>(t, fixed_dot) }
    },
);

fn f32_product(a: u32, b: u32) -> f32 {
    f32::from_bits(a) * f32::from_bits(b)
}

fn fixed_dot(a: u32, b: u32) -> f32 {
    let (low, high) = (|w: u32| i32::from(w as i16), |w: u32| i32::from((w >> 16) as i16));
    (low(a) * low(b) + high(a) * high(b)) as f32
}

fn bf16_dot(a: u32, b: u32) -> f32 {
    let (low, high) = (|w: u32| f32::from_bits(w << 16), |w: u32| f32::from_bits(w & 0xffff_0000));
    low(a) * low(b) + high(a) * high(b)
}

/// # Safety
/// The addresses of `t` are valid as [`Tile`] says, for `P` panels.
#[inline(always)]
unsafe fn tile<const P: usize>(t: &Tile, multiply: impl Fn(u32, u32) -> f32) {
    for i in 0..LANES {
        for p in 0..P {
            // SAFETY: the caller vouches for these addresses.
            unsafe {
                let mut sums = [0.0_f32; LANES];
                for s in 0..t.steps {
                    let a = t.a.add(i * t.a_row + s * t.a_step).read();
                    let b = t.b.add(p * t.b_panel + s * LANES);
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum += multiply(a, b.add(j).read());
                    }
                }
                let c = t.c.add(i * t.c_row + p * t.c_panel);
                for (j, sum) in sums.into_iter().enumerate() {
                    *c.add(j) += sum;
                }
            }
        }
    }
}
