//! The hot loops of every pass over the rows: Gram, forward, softmax residual, backward.
//!
//! One contract carries all products: a tile of 16 × 32 results as a sum of outer products ([`tile`]), with a
//! kernel for each instruction set; probes of few classes have products of their own ([`few`]), residuals with few entries one as well ([`sparse`]). Operands are packed ([`panels`]) a block of rows at a time, in the order that
//! kernels read ([`layout`]). Exact kernels
//! sum float32 products; bfloat16 kernels round the factors first and are faster on some of the CPUs that have them.
//! What the CPU says it is decides which run ([`choice`]), never a timing; the environment can name others ([`FORCE_VARIABLE`]).

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod choice;
#[cfg(target_arch = "x86_64")]
mod cpu;
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))] // no kernel reads it
mod few;
#[cfg(target_arch = "x86_64")]
mod few_avx2;
#[cfg(target_arch = "x86_64")]
mod few_avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod few_loops;
#[cfg(target_arch = "aarch64")]
mod few_neon;
#[cfg(test)]
mod few_tests;
mod fixed;
#[cfg(target_arch = "x86_64")]
mod fixed_avx2;
#[cfg(target_arch = "x86_64")]
mod fixed_avx512;
#[cfg(test)]
mod fixed_tests;
mod gram;
mod layout;
#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod model;
#[cfg(target_arch = "aarch64")]
mod neon;
mod panels;
pub mod parallel;
mod portable;
mod prefetch;
mod product;
mod self_test;
mod softmax;
mod sparse;
#[cfg(test)]
mod sparse_tests;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(target_arch = "aarch64")]
mod widen_neon;

pub use choice::{AMX_VARIABLE, Availability, FORCE_VARIABLE, choose, choose_rounding, list, usable};
pub use few::{FEW_CLASSES, Few, FewRows, Lines};
pub use fixed::{FixedRows, FixedScores};
pub use gram::Symmetric;
pub use layout::LANES;
pub use panels::{Columns, Panels, RowBuffer, Rows, row_stride};
pub(crate) use prefetch::{LINE_BYTES, prefetch, prefetch_all};
pub use product::{Work, backward_add, backward_add_by, flush, forward, forward_by, padded, panels_len};
pub use softmax::{FLUSH, Residual, add_curvature, curvature, softmax_residual, softmax_residual_by_class};
pub use sparse::SparseProduct;
pub use tile::{Kernel, Precision};
#[cfg(target_arch = "aarch64")]
pub(crate) use widen_neon::widen_four;

use multiversion::multiversion;

/// Fewest classes at which rounding pays: with few, a pass is spent on reading and converting the rows.
pub const REDUCED_CLASSES: usize = 32;

/// Rows of a block that keep its working set (`row_floats` floats a row) near the level-2 cache, but enough
/// of them that reading weights and gradients once a block costs little.
pub fn block_rows(row_floats: usize) -> usize {
    ((1 << 17) / row_floats.max(1)).clamp(256, 1024) / LANES * LANES
}

/// Whether no value is NaN or infinite.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
pub fn all_finite(row: &[f32]) -> bool {
    let bad = row.iter().fold(0_u32, |bad, v| bad | u32::from(v.to_bits() & 0x7f80_0000 == 0x7f80_0000));
    bad == 0
}
