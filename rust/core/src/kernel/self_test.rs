//! A small product whose answer is known to the bit: no kernel is used that gets it wrong.

use super::few::{FEW_CLASSES, Few, FewRows};
use super::layout::LANES;
use super::panels::{Panels, RowBuffer, Rows, row_stride};
use super::product::panels_len;
use super::tile::{Kernel, Precision};
use crate::values::Values;

/// Integers with few bits have exact products and sums: the answer must be bit-exact, both from rows as they
/// lie and from panels, for every shape of tile.
///
/// Others than bfloat16's get factors of more bits than it has, on one side at a time: the product of two low
/// parts, which [`super::layout::Layout::SplitTiles`] leaves out, is zero.
pub(super) fn passes_self_test(kernel: &Kernel) -> bool {
    tiles_are_right(kernel) && kernel.few.is_none_or(|few| few_are_right(kernel, few.classes))
}

fn tiles_are_right(kernel: &Kernel) -> bool {
    const N: usize = 37; // values along the contraction: neither whole words nor whole groups
    const M: usize = 2 * LANES;
    let value = |at: usize, scale: f32| scale * (((at * 7 + 3) % 17) as f32 - 8.0);
    let scales: &[(f32, f32)] = match kernel.precision {
        Precision::Exact | Precision::Fixed => &[(257.0, 1.0), (1.0, 257.0)],
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

/// Products on rows as they lie, for every number of classes and both types of rows.
fn few_are_right(kernel: &Kernel, classes: usize) -> bool {
    const N: usize = 21; // neither whole groups of rows
    const D: usize = 3 * LANES + 5; // nor whole registers of features
    let value = |at: usize| ((at * 7 + 3) % 17) as f32 - 8.0;
    let singles: Vec<f32> = (0..N * D).map(value).collect();
    let halves: Vec<half::f16> = singles.iter().map(|&v| half::f16::from_f32(v)).collect();
    let (shift, scale): (Vec<f32>, Vec<f32>) = (0..D).map(|j| (value(j + 5), value(j + 9))).unzip();
    let x = |i: usize, j: usize| (singles[i * D + j] - shift[j]) * scale[j];
    (2..=classes).all(|k| {
        let Some(few) = Few::new(kernel, &shift, &scale, k) else { return false };
        let weights: Vec<f64> = (0..D * k).map(|at| f64::from(value(at + 1000))).collect();
        let packed = few.pack(&weights);
        [true, false].into_iter().all(|is_half| {
            let rows = FewRows::new((0..N).map(|i| match is_half {
                true => Values::F16(&halves[i * D..(i + 1) * D]),
                false => Values::F32(&singles[i * D..(i + 1) * D]),
            }));
            let stride = N.next_multiple_of(LANES);
            let mut scores = vec![0.0; FEW_CLASSES * stride];
            few.forward(&rows, &packed, &mut scores, stride);
            let forward =
                |i: usize, c: usize| (0..D).map(|j| x(i, j) * weights[j * k + c] as f32).sum::<f32>();
            let right = (0..N * k).all(|at| scores[at % k * stride + at / k] == forward(at / k, at % k));
            let mut residuals: Vec<f32> = (0..scores.len()).map(|at| value(at + 50)).collect();
            residuals[k * stride..].fill(0.0);
            let (mut sum, mut panels) = (few.zeros(), vec![0.0; panels_len(D, k)]);
            few.backward_add(&rows, &residuals, stride, &mut sum);
            few.drain(&mut sum, &mut panels);
            let backward =
                |j: usize, c: usize| (0..N).map(|i| x(i, j) * residuals[c * stride + i]).sum::<f32>();
            right && (0..D * k).all(|at| panels[at / k * LANES + at % k] == backward(at / k, at % k))
        })
    })
}
