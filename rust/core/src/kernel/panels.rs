//! Operands in the order in which tile products read them.

use bytemuck::{Pod, Zeroable};
use multiversion::multiversion;

use super::tile::{Kernel, LANES, Precision};

/// One cache line, so that panels start on one.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u32; LANES]);

/// A buffer that starts on a cache line; grows, never shrinks.
#[derive(Default)]
pub(super) struct Words(Vec<Line>);

impl Words {
    /// The first `n` words; what they held before may remain.
    pub fn get(&mut self, n: usize) -> &mut [u32] {
        let lines = n.div_ceil(LANES);
        if self.0.len() < lines {
            self.0.resize(lines, Line::zeroed());
        }
        &mut bytemuck::cast_slice_mut(&mut self.0)[..n]
    }

    pub fn as_slice(&self) -> &[u32] {
        bytemuck::cast_slice(&self.0)
    }
}

/// A matrix `(n, m)` cut into panels of 16 columns, padded with zeros; products contract over its rows.
///
/// Word (s, j) of panel p is `words[p * steps * 16 + s * 16 + j]`, where a word holds one row or a pair.
#[derive(Default)]
pub struct Panels {
    words: Words,
    steps: usize,
    n_panels: usize,
}

impl Panels {
    /// Pack `values`, `n` rows of `m` columns that start every `stride` values.
    pub fn pack(&mut self, kernel: &Kernel, values: &[f32], n: usize, m: usize, stride: usize) {
        let per_word = kernel.values_per_word();
        self.steps = n.div_ceil(per_word);
        self.n_panels = m.div_ceil(LANES);
        let panel = self.steps * LANES;
        let words = self.words.get(panel * self.n_panels);
        // a few rows of one panel at a time: neither reads nor writes jump far
        for first in (0..self.steps).step_by(LANES) {
            let steps = first..(first + LANES).min(self.steps);
            for p in 0..self.n_panels {
                let columns = p * LANES..m.min((p + 1) * LANES);
                let out = &mut words[p * panel + steps.start * LANES..p * panel + steps.end * LANES];
                match kernel.precision {
                    Precision::Exact => {
                        for (out, s) in out.chunks_exact_mut(LANES).zip(steps.clone()) {
                            copy_line(&values[s * stride..][columns.clone()], out);
                        }
                    }
                    Precision::Bf16 => {
                        for (out, s) in out.chunks_exact_mut(LANES).zip(steps.clone()) {
                            let low = &values[2 * s * stride..][columns.clone()];
                            let high = if 2 * s + 1 < n {
                                &values[(2 * s + 1) * stride..][columns.clone()]
                            } else {
                                &[]
                            };
                            pair_line(low, high, out);
                        }
                    }
                }
            }
        }
    }

    /// Words along the contraction.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// Panels of 16 columns.
    pub(super) fn n_panels(&self) -> usize {
        self.n_panels
    }

    /// Words from one panel to the next.
    pub(super) fn panel_words(&self) -> usize {
        self.steps * LANES
    }

    /// From panel `p` on.
    pub(super) fn from(&self, p: usize) -> &[u32] {
        &self.words.as_slice()[..self.n_panels * self.panel_words()][p * self.panel_words()..]
    }
}

/// 16 words of float32; missing values are zero.
#[inline(always)]
fn copy_line(values: &[f32], out: &mut [u32]) {
    if let Ok(values) = <&[f32; LANES]>::try_from(values) {
        out.copy_from_slice(bytemuck::cast_slice(values));
    } else {
        out.fill(0);
        out[..values.len()].copy_from_slice(bytemuck::cast_slice(values));
    }
}

/// 16 words of bfloat16 pairs; missing values are zero.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn pair_line(low: &[f32], high: &[f32], out: &mut [u32]) {
    if let (Ok(low), Ok(high)) = (<&[f32; LANES]>::try_from(low), <&[f32; LANES]>::try_from(high)) {
        for ((o, &low), &high) in out.iter_mut().zip(low).zip(high) {
            *o = bf16_pair(low, high);
        }
    } else {
        out.fill(0);
        for (j, &low) in low.iter().enumerate() {
            out[j] = bf16_pair(low, high.get(j).copied().unwrap_or(0.0));
        }
    }
}

/// Two values rounded to bfloat16, the first in the low half.
#[inline(always)]
pub(super) fn bf16_pair(low: f32, high: f32) -> u32 {
    (bf16_bits(low) >> 16) | (bf16_bits(high) & 0xffff_0000)
}

/// Bits of the nearest bfloat16 (ties to even) in the high half; finite input.
#[inline(always)]
fn bf16_bits(v: f32) -> u32 {
    let bits = v.to_bits();
    bits.wrapping_add(0x7fff + ((bits >> 16) & 1))
}

/// Rows `(n, m)` whose products contract over their columns: word (i, s) is `words[i * stride + s]`.
pub struct Rows<'a> {
    words: &'a [u32],
    stride: usize,
    steps: usize,
    n: usize,
}

/// Memory for rows that a kernel does not read as they lie.
#[derive(Default)]
pub struct RowBuffer(Words);

/// Values from one row to the next that suit [`Rows`]: a power of two would put 16 rows into one set of the
/// cache.
pub fn row_stride(m: usize) -> usize {
    m.next_multiple_of(LANES) + LANES
}

impl<'a> Rows<'a> {
    /// `n` rows of `m` values that start every `stride` values, with memory for a multiple of 16 rows: what
    /// lies beyond row n enters only results that nobody reads.
    pub fn new(
        kernel: &Kernel,
        values: &'a [f32],
        n: usize,
        m: usize,
        stride: usize,
        buffer: &'a mut RowBuffer,
    ) -> Self {
        let steps = m.div_ceil(kernel.values_per_word());
        let padded = n.next_multiple_of(LANES);
        match kernel.precision {
            Precision::Exact => {
                Self { words: bytemuck::cast_slice(&values[..padded * stride]), stride, steps, n }
            }
            Precision::Bf16 => {
                let width = row_stride(steps);
                let words = buffer.0.get(padded * width);
                for (row, out) in values.chunks_exact(stride).zip(words.chunks_exact_mut(width)).take(n) {
                    pairs_of(&row[..m], &mut out[..steps]);
                }
                Self { words, stride: width, steps, n }
            }
        }
    }

    pub(super) fn n(&self) -> usize {
        self.n
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// From row `i` on.
    pub(super) fn from(&self, i: usize) -> &[u32] {
        &self.words[i * self.stride..]
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn pairs_of(row: &[f32], out: &mut [u32]) {
    let (pairs, rest) = row.as_chunks::<2>();
    for (o, &[low, high]) in out.iter_mut().zip(pairs) {
        *o = bf16_pair(low, high);
    }
    if let [last] = rest {
        out[pairs.len()] = bf16_pair(*last, 0.0);
    }
}
