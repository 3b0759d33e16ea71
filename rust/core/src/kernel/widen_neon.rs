//! float16 to float32 on NEON, for which stable Rust has no intrinsic.
//!
//! Needs       neon, which every aarch64 CPU has
#![allow(unsafe_code)]

use std::arch::aarch64::*;

/// Four float16 values as float32.
#[inline(always)]
pub(crate) fn widen_four(halves: uint16x4_t) -> float32x4_t {
    let wide;
    // SAFETY: the instruction touches registers only; every aarch64 CPU has it.
    unsafe {
        std::arch::asm!(
            "fcvtl {wide:v}.4s, {halves:v}.4h",
            wide = out(vreg) wide,
            halves = in(vreg) halves,
            options(pure, nomem, nostack)
        );
    }
    wide
}
