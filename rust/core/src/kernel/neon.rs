//! Tile products on NEON: float32 FMA.
//!
//! Registers   4 × 4 accumulators, 4 for a panel's words of one step, 1 or 4 for the rows'
//! Rounding    float32 sums
//! Needs       neon, which every aarch64 CPU has
//! Defined by  [`super::portable`]; tested in `kernel::tests`
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::array::from_fn;
use std::hint::black_box;

use super::few_neon;
use super::layout::{LANES, Layout};
use super::tile::{Kernel, Precision, Tile};

pub(super) const F32: Kernel = Kernel {
    name: "neon_f32",
    precision: Precision::Exact,
    layout: Layout::F32,
    one: panel,
    two,
    four: None,
    few: Some(few_neon::FEW),
    state: None,
    registers: Some(registers),
    detect: || true,
    pays: || false,
    opt_in: false,
};

/// Values of a register.
const WIDTH: usize = 4;
/// Sixteen columns of a row.
type Line = [float32x4_t; LANES / WIDTH];

/// Rows of a block: their words of a step fill a register, and their sixteen accumulators are as many chains as hide the
/// latency of four FMAs a cycle.
const ROWS: usize = WIDTH;

/// # Safety
/// The addresses of `t` are valid as [`Tile`] says.
#[target_feature(enable = "neon")]
unsafe fn panel(t: &Tile) {
    for first in (0..LANES).step_by(ROWS) {
        // SAFETY: the caller vouches for the addresses of 16 rows, `steps` steps and one panel.
        unsafe {
            t.prefetch(first, ROWS, 1);
            let a = t.a.add(first * t.a_row).cast::<f32>();
            let mut sums = [[vdupq_n_f32(0.0); LANES / WIDTH]; ROWS];
            if t.a_row == 1 {
                for s in 0..t.steps {
                    add_outer(&mut sums, vld1q_f32(a.add(s * t.a_step)), line(t, s));
                }
            } else {
                let whole = t.steps / WIDTH * WIDTH;
                for s in (0..whole).step_by(WIDTH) {
                    let a: [_; ROWS] = from_fn(|r| vld1q_f32(a.add(r * t.a_row + s)));
                    add_step::<0>(&mut sums, a, line(t, s));
                    add_step::<1>(&mut sums, a, line(t, s + 1));
                    add_step::<2>(&mut sums, a, line(t, s + 2));
                    add_step::<3>(&mut sums, a, line(t, s + 3));
                }
                for s in whole..t.steps {
                    let a: [f32; ROWS] = from_fn(|r| a.add(r * t.a_row + s).read());
                    add_outer(&mut sums, vld1q_f32(a.as_ptr()), line(t, s));
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let c = t.c.add((first + r) * t.c_row);
                for (q, &sum) in sums.iter().enumerate() {
                    let c = c.add(q * WIDTH);
                    vst1q_f32(c, vaddq_f32(vld1q_f32(c), sum));
                }
            }
        }
    }
}

/// # Safety
/// As [`panel`], for two panels.
#[target_feature(enable = "neon")]
unsafe fn two(t: &Tile) {
    // SAFETY: passed on from the caller; the second panel's addresses are the first's plus its strides.
    unsafe {
        panel(t);
        panel(&Tile { b: t.b.add(t.b_panel), c: t.c.add(t.c_panel), ..*t });
    }
}

/// A panel's words of step `s`.
///
/// # Safety
/// As [`panel`]; `s` is a step.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn line(t: &Tile, s: usize) -> Line {
    // SAFETY: the caller's.
    unsafe { from_fn(|q| vld1q_f32(t.b.add(s * LANES + q * WIDTH).cast())) }
}

/// Add the products of one step, whose words of the rows are the lanes of `a`.
#[inline]
#[target_feature(enable = "neon")]
fn add_outer(sums: &mut [Line; ROWS], a: float32x4_t, b: Line) {
    add_row::<0>(&mut sums[0], a, b);
    add_row::<1>(&mut sums[1], a, b);
    add_row::<2>(&mut sums[2], a, b);
    add_row::<3>(&mut sums[3], a, b);
}

/// Add the products of the step whose words of the rows are lane `LANE` of each of `a`.
#[inline]
#[target_feature(enable = "neon")]
fn add_step<const LANE: i32>(sums: &mut [Line; ROWS], a: [float32x4_t; ROWS], b: Line) {
    for (sums, a) in sums.iter_mut().zip(a) {
        add_row::<LANE>(sums, a, b);
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn add_row<const LANE: i32>(sums: &mut Line, a: float32x4_t, b: Line) {
    for (sum, b) in sums.iter_mut().zip(b) {
        *sum = vfmaq_laneq_f32::<LANE>(*sum, b, a);
    }
}

/// Multiplications of values that stay in registers, in as many chains as hide their latency.
///
/// # Safety
/// The CPU has NEON, as every aarch64 CPU has.
#[target_feature(enable = "neon")]
unsafe fn registers(rounds: usize) -> usize {
    const CHAINS: usize = 24;
    let [a, b] = black_box([vdupq_n_f32(0.0); 2]);
    let mut sums = [vdupq_n_f32(0.0); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = vfmaq_f32(*sum, a, b);
        }
    }
    black_box(sums);
    rounds * CHAINS * WIDTH
}
