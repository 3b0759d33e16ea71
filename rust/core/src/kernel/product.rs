//! The two products of a pass with a probe's weights: forward and backward.

use multiversion::multiversion;
use rayon::prelude::*;

use super::layout::LANES;
use super::panels::{Columns, Panels, Rows};
use super::tile::Kernel;

/// Floats from one row of scores to the next, for `k` classes.
pub fn padded(k: usize) -> usize {
    k.next_multiple_of(LANES)
}

/// Who multiplies: this thread, or all threads of its pool. The bits are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// This thread.
    Here,
    /// All threads of the current pool.
    Spread,
}

/// `z = x w + 1 bᵀ`: rows `x` `(n, d)`, panels `w` of `(d, k)`, `b` `(k)`.
///
/// `z` is `(n, k)` with rows every [`padded`]`(k)` floats and room for a multiple of 16 rows; what lies in
/// the padding is unspecified.
pub fn forward(kernel: &Kernel, x: &Rows<'_>, w: &Panels, b: &[f32], z: &mut [f32]) {
    forward_by(Work::Here, kernel, x, w, b, z);
}

/// [`forward`] by this thread or by all.
pub fn forward_by(work: Work, kernel: &Kernel, x: &Rows<'_>, w: &Panels, b: &[f32], z: &mut [f32]) {
    let stride = padded(b.len());
    for row in z.chunks_exact_mut(stride).take(x.n()) {
        row[..b.len()].copy_from_slice(b);
    }
    debug_assert_eq!(x.steps(), w.steps(), "features of rows and weights");
    // `rows` from row `first` on
    let multiply = |first: usize, z: &mut [f32], rows: usize| {
        let session = kernel.session();
        for p in (0..w.n_panels()).step_by(2) {
            let panels = (w.n_panels() - p).min(2);
            for i in (0..rows).step_by(LANES * session.blocks()) {
                let blocks = (rows - i).div_ceil(LANES).min(session.blocks());
                let z = &mut z[i * stride + p * LANES..];
                session.product(x.left(first + i), w.right(p), z, (stride, LANES), (blocks, panels));
            }
        }
    };
    let n = x.n();
    match work {
        Work::Here => multiply(0, z, n),
        Work::Spread => {
            let z = &mut z[..n.next_multiple_of(LANES) * stride];
            let parts = z.par_chunks_mut(2 * LANES * stride).enumerate();
            parts.for_each(|(i, z)| multiply(2 * LANES * i, z, (n - 2 * LANES * i).min(2 * LANES)));
        }
    }
}

/// `g += xᵀ r`: columns of `x` `(n, d)`, panels `r` of `(n, k)`; `g` `(d, k)` in panels, [`panels_len`] floats.
pub fn backward_add(kernel: &Kernel, x: &Columns<'_>, r: &Panels, g: &mut [f32]) {
    backward_add_by(Work::Here, kernel, x, r, g);
}

/// [`backward_add`] by this thread or by all.
pub fn backward_add_by(work: Work, kernel: &Kernel, x: &Columns<'_>, r: &Panels, g: &mut [f32]) {
    debug_assert_eq!(x.steps(), r.steps(), "rows of features and residuals");
    let panel = x.n_panels() * LANES * LANES;
    // one or two panels from panel `p` on
    let multiply = |p: usize, g: &mut [f32]| {
        let panels = (r.n_panels() - p).min(2);
        let session = kernel.session();
        for i in (0..x.n_panels()).step_by(session.blocks()) {
            let blocks = (x.n_panels() - i).min(session.blocks());
            let g = &mut g[i * LANES * LANES..];
            session.product(x.left(i), r.right(p), g, (LANES, panel), (blocks, panels));
        }
    };
    match work {
        Work::Here => g.chunks_mut(2 * panel).enumerate().for_each(|(i, g)| multiply(2 * i, g)),
        Work::Spread => g.par_chunks_mut(2 * panel).enumerate().for_each(|(i, g)| multiply(2 * i, g)),
    }
}

/// Floats of a matrix `(d, k)` in panels of 16 columns: entry (j, c) is at `(c / 16 · d′ + j) · 16 + c % 16`,
/// where d′ is d rounded up to a multiple of 16.
pub fn panels_len(d: usize, k: usize) -> usize {
    padded(d) * padded(k)
}

/// Add a float32 sum in panels to its float64 total `(d, k)` and clear it.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn flush(sum: &mut [f32], total: &mut [f64], k: usize) {
    let d = total.len() / k;
    for (p, panel) in sum.chunks_exact_mut(padded(d) * LANES).enumerate() {
        for (line, row) in panel.chunks_exact_mut(LANES).zip(total.chunks_exact_mut(k)) {
            for (t, s) in row[p * LANES..].iter_mut().zip(line.iter()) {
                *t += f64::from(*s);
            }
        }
        panel.fill(0.0);
    }
}
