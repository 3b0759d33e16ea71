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
        for s in 0..self.steps {
            let first = &values[s * per_word * stride..][..m];
            match kernel.precision {
                Precision::Exact => pack_row(first, &mut words[s * LANES..], panel),
                Precision::Bf16 => {
                    let second = (2 * s + 1 < n).then(|| &values[(2 * s + 1) * stride..][..m]);
                    pack_pair(first, second, &mut words[s * LANES..], panel);
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

fn pack_row(row: &[f32], words: &mut [u32], panel: usize) {
    for (p, values) in row.chunks(LANES).enumerate() {
        let out = &mut words[p * panel..][..LANES];
        out[values.len()..].fill(0);
        for (o, v) in out.iter_mut().zip(values) {
            *o = v.to_bits();
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn pack_pair(first: &[f32], second: Option<&[f32]>, words: &mut [u32], panel: usize) {
    for (p, low) in first.chunks(LANES).enumerate() {
        let out = &mut words[p * panel..][..LANES];
        out[low.len()..].fill(0);
        match second {
            Some(second) => {
                for ((o, &low), &high) in out.iter_mut().zip(low).zip(&second[p * LANES..]) {
                    *o = bf16_pair(low, high);
                }
            }
            None => {
                for (o, &low) in out.iter_mut().zip(low) {
                    *o = bf16_pair(low, 0.0);
                }
            }
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
#[derive(Default)]
pub struct Rows {
    words: Words,
    stride: usize,
    steps: usize,
    n: usize,
}

impl Rows {
    /// Pack `n` rows of `m` values that start every `stride` values. Rows are padded with zeros to a
    /// multiple of 16.
    pub fn pack(&mut self, kernel: &Kernel, values: &[f32], n: usize, m: usize, stride: usize) {
        self.steps = m.div_ceil(kernel.values_per_word());
        // not a power of two: 16 rows would share one set of the cache
        self.stride = self.steps.next_multiple_of(LANES) + LANES;
        self.n = n;
        let padded = n.next_multiple_of(LANES);
        let words = self.words.get(padded * self.stride);
        for (i, out) in words.chunks_exact_mut(self.stride).enumerate() {
            let out = &mut out[..self.steps];
            match values.get(i * stride..i * stride + m) {
                Some(row) if i < n => match kernel.precision {
                    Precision::Exact => out.copy_from_slice(bytemuck::cast_slice(row)),
                    Precision::Bf16 => pairs_of(row, out),
                },
                _ => out.fill(0),
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
        &self.words.as_slice()[i * self.stride..]
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
