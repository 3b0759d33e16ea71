//! A small product whose answer is known to the bit: no kernel is used that gets it wrong.

use super::layout::LANES;
use super::panels::{Panels, RowBuffer, Rows, row_stride};
use super::tile::{Kernel, Precision};

/// Integers with few bits have exact products and sums: the answer must be bit-exact, both from rows as they
/// lie and from panels, for every shape of tile.
///
/// Exact kernels get factors of more bits than bfloat16 has, on one side at a time: the product of two low
/// parts, which [`super::layout::Layout::SplitTiles`] leaves out, is zero.
pub(super) fn passes_self_test(kernel: &Kernel) -> bool {
    const N: usize = 37; // values along the contraction: neither whole words nor whole groups
    const M: usize = 2 * LANES;
    let value = |at: usize, scale: f32| scale * (((at * 7 + 3) % 17) as f32 - 8.0);
    let scales: &[(f32, f32)] = match kernel.precision {
        Precision::Exact => &[(257.0, 1.0), (1.0, 257.0)],
        Precision::Bf16 => &[(1.0, 1.0)],
    };
    scales.iter().all(|&(left, right)| {
        let x: Vec<f32> = (0..N * M).map(|i| value(i, left)).collect();
        let w: Vec<f32> = (0..N * M).map(|i| value(i + 1000, right)).collect();
        let (mut columns, mut panels) = (Panels::default(), Panels::default());
        columns.pack(kernel, &x, N, M, M);
        panels.pack(kernel, &w, N, M, M);
        let stride = row_stride(N);
        let mut transposed = vec![0.0; M * stride];
        for (at, &v) in x.iter().enumerate() {
            transposed[at % M * stride + at / M] = v;
        }
        let mut buffer = RowBuffer::default();
        let rows = Rows::new(kernel, &transposed, M, N, stride, &mut buffer);
        let want = |i: usize, j: usize| 1.0 + (0..N).map(|s| x[s * M + i] * w[s * M + j]).sum::<f32>();
        let session = kernel.session();
        [columns.left(0), rows.left(0)].into_iter().all(|a| {
            [(1, 1), (1, 2), (2, 1), (2, 2)].into_iter().all(|(blocks, n)| {
                let mut c = vec![1.0; M * M];
                session.product(a, panels.right(0), &mut c, (M, LANES), (blocks, n));
                (0..M * M).all(|at| {
                    let (i, j) = (at / M, at % M);
                    c[at] == if i < blocks * LANES && j < n * LANES { want(i, j) } else { 1.0 }
                })
            })
        })
    })
}
