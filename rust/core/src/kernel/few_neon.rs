//! Products on rows as they lie ([`super::few`]), on NEON: four features in a register, 24 accumulators at most.
//!
//! Needs       neon, which every aarch64 CPU has
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::aarch64::{
    vaddq_f32 as add, vaddvq_f32 as sum_of, vdupq_n_f32 as broadcast, vmulq_f32 as multiply,
    vsubq_f32 as subtract,
};

use super::few_loops::{few_products, with_zeros};
use super::widen_neon::widen_four;

/// Values of a register.
const WIDTH: usize = 4;

// with more than twelve classes tiles should be faster (by a model: docs/decisions/0016-neon.md)
few_products! {
    "neon", float32x4_t,
    2 2 4, 3 3 4, 4 4 4, 5 5 4, 6 6 4, 8 8 2, 10 10 2, 12 12 2
}

#[inline]
#[target_feature(enable = "neon")]
fn zero() -> float32x4_t {
    broadcast(0.0)
}

/// `a b + c`.
#[inline]
#[target_feature(enable = "neon")]
fn multiply_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    vfmaq_f32(c, a, b)
}

/// # Safety
/// Four values are readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn read(values: *const f32) -> float32x4_t {
    // SAFETY: the caller's.
    unsafe { vld1q_f32(values) }
}

/// # Safety
/// Four values are writable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn write(values: *mut f32, v: float32x4_t) {
    // SAFETY: the caller's.
    unsafe { vst1q_f32(values, v) }
}

/// # Safety
/// Four values of a row from `first` on are readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load<const HALF: bool>(row: *const u8, first: usize) -> float32x4_t {
    // SAFETY: the caller's.
    unsafe {
        if HALF {
            widen_four(vld1_u16(row.add(2 * first).cast()))
        } else {
            vld1q_f32(row.add(4 * first).cast())
        }
    }
}

/// # Safety
/// `n` values of a row from `first` on are readable, fewer than four.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_rest<const HALF: bool>(row: *const u8, first: usize, n: usize) -> float32x4_t {
    // SAFETY: the caller's; float16 values fill half of the room.
    unsafe { load::<HALF>(with_zeros::<HALF, { 4 * WIDTH }>(row, first, n).as_ptr(), 0) }
}
