//! Operands in the order in which tile products read them.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use multiversion::multiversion;

use super::layout::{FIXED_LARGEST, LANES, Layout, Left, Right};
use super::tile::Kernel;

/// Words of a line of 16 values, two in each.
const HALF: usize = LANES / 2;

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
/// Word (s, j) of panel p is `words[p * steps * 16 + s * 16 + j]`; [`Layout`] says what a word holds.
#[derive(Default)]
pub struct Panels {
    words: Words,
    /// For tiled layouts the same words with each block of 16 × 16 transposed, as left operands need them;
    /// else unused.
    tiles: Words,
    layout: Option<Layout>,
    steps: usize,
    n_panels: usize,
}

impl Panels {
    /// Pack `values`, `n` rows of `m` columns that start every `stride` values.
    pub fn pack(&mut self, kernel: &Kernel, values: &[f32], n: usize, m: usize, stride: usize) {
        let layout = kernel.layout;
        self.fill(layout, (n, m), |p, first, out| {
            let columns = p * LANES..m.min((p + 1) * LANES);
            let row = |i: usize| if i < n { &values[i * stride..][columns.clone()] } else { &[] };
            match layout {
                Layout::F32 => {
                    for (out, s) in out.chunks_exact_mut(LANES).zip(first..) {
                        copy_line(row(s), out);
                    }
                }
                Layout::Pairs | Layout::Tiles => {
                    for (out, s) in out.chunks_exact_mut(LANES).zip(first..) {
                        pair_line(row(2 * s), row(2 * s + 1), out);
                    }
                }
                Layout::Fixed => {
                    for (out, s) in out.chunks_exact_mut(LANES).zip(first..) {
                        fixed_line(row(2 * s), row(2 * s + 1), out);
                    }
                }
                Layout::SplitTiles => {
                    let (high, low) = out.split_at_mut(LANES * LANES);
                    let lines = high.chunks_exact_mut(LANES).zip(low.chunks_exact_mut(LANES));
                    // two words along the contraction for each pair of rows
                    for ((high, low), s) in lines.zip(first / 2..) {
                        split_line(row(2 * s), row(2 * s + 1), high, low);
                    }
                }
            }
        });
    }

    /// Pack the columns of rows whose words are there already: nothing is rounded again.
    fn pack_rows(&mut self, kernel: &Kernel, rows: &Rows<'_>) {
        let (layout, n, m) = (kernel.layout, rows.n, rows.m);
        let line = |out: &mut [u32], s: usize, words: Range<usize>| {
            let words = words.start..words.end.min(rows.steps);
            let row = |i: usize| if i < n { &rows.words[i * rows.stride..][words.clone()] } else { &[] };
            interleave(row(2 * s), row(2 * s + 1), out);
        };
        match layout {
            Layout::F32 => self.pack(kernel, bytemuck::cast_slice(rows.words), n, m, rows.stride),
            Layout::Pairs | Layout::Tiles | Layout::Fixed => self.fill(layout, (n, m), |p, first, out| {
                for (out, s) in out.chunks_exact_mut(LANES).zip(first..) {
                    line(out, s, p * HALF..(p + 1) * HALF);
                }
            }),
            Layout::SplitTiles => self.fill(layout, (n, m), |p, first, out| {
                // 32 values of a row are 16 words of high parts, then 16 of low ones
                let at = p / 2 * layout.group() + p % 2 * HALF;
                for (part, at) in out.chunks_exact_mut(LANES * LANES).zip([at, at + LANES]) {
                    for (out, s) in part.chunks_exact_mut(LANES).zip(first / 2..) {
                        line(out, s, at..at + HALF);
                    }
                }
            }),
        }
    }

    /// Room for `(n, m)` values, filled by `write(panel, first step, words)`, a group of steps of one panel at a time:
    /// neither reads nor writes jump far.
    fn fill(&mut self, layout: Layout, (n, m): (usize, usize), write: impl Fn(usize, usize, &mut [u32])) {
        self.layout = Some(layout);
        self.steps = layout.steps(n);
        self.n_panels = m.div_ceil(LANES);
        let panel = self.steps * LANES;
        let words = self.words.get(panel * self.n_panels);
        let tiles = self.tiles.get(if layout.tiled() { words.len() } else { 0 });
        for first in (0..self.steps).step_by(layout.group()) {
            let end = (first + layout.group()).min(self.steps);
            for p in 0..self.n_panels {
                let place = p * panel + first * LANES..p * panel + end * LANES;
                let out = &mut words[place.clone()];
                write(p, first, out);
                if layout.tiled() {
                    for (tile, out) in tiles[place].as_chunks_mut().0.iter_mut().zip(out.as_chunks().0) {
                        transpose(out, tile);
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

    /// Columns from panel `p` on as rows of a left operand.
    pub(super) fn left(&self, p: usize) -> Left<'_> {
        self.columns().left(p)
    }

    /// Its columns as rows of left operands.
    pub fn columns(&self) -> Columns<'_> {
        let panel = self.steps * LANES;
        let (words, row, step) = if self.layout.is_some_and(Layout::tiled) {
            (&self.tiles, LANES, 1)
        } else {
            (&self.words, 1, LANES)
        };
        let words = &words.as_slice()[..self.n_panels * panel];
        let from_first = Left { words, row, step, group: LANES * LANES, block: panel };
        Columns { from_first, steps: self.steps, n_panels: self.n_panels }
    }

    /// Columns from panel `p` on as columns of a right operand.
    pub(super) fn right(&self, p: usize) -> Right<'_> {
        let panel = self.steps * LANES;
        let words = &self.words.as_slice()[p * panel..self.n_panels * panel];
        Right { words, panel, steps: self.steps }
    }

    /// For each column of panel `p`, the sum of squares of its low parts; none unless the layout has them.
    pub(super) fn low_squares(&self, p: usize) -> Option<[f32; LANES]> {
        (self.layout == Some(Layout::SplitTiles)).then(|| {
            let panel = self.steps * LANES;
            low_squares(&self.words.as_slice()[p * panel..(p + 1) * panel])
        })
    }
}

/// The columns of a matrix `(n, m)` as rows of left operands: products contract over its rows.
pub struct Columns<'a> {
    from_first: Left<'a>,
    steps: usize,
    n_panels: usize,
}

impl<'a> Columns<'a> {
    /// Of rows. They are read as they lie where one panel is all they are multiplied with and the kernel allows it: each
    /// value is then used once, and packing it would cost more than it saves. Else they are packed in `panels`.
    pub fn new(kernel: &Kernel, rows: &Rows<'a>, right: &Panels, panels: &'a mut Panels) -> Self {
        if right.n_panels > 1 || kernel.layout != Layout::F32 {
            panels.pack_rows(kernel, rows);
            return panels.columns();
        }
        let stride = rows.stride;
        let words = &rows.words[..rows.n * stride];
        let from_first = Left { words, row: 1, step: stride, group: LANES * stride, block: LANES };
        Self { from_first, steps: rows.n, n_panels: rows.m.div_ceil(LANES) }
    }

    /// Words along the contraction.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// Panels of 16 columns.
    pub(super) fn n_panels(&self) -> usize {
        self.n_panels
    }

    /// From panel `p` on.
    pub(super) fn left(&self, p: usize) -> Left<'a> {
        Left { words: &self.from_first.words[p * self.from_first.block..], ..self.from_first }
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
    line_of(low, high, out, bf16_pair);
}

/// 16 words of two whole numbers; missing values are zero.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn fixed_line(low: &[f32], high: &[f32], out: &mut [u32]) {
    line_of(low, high, out, fixed_pair);
}

/// 16 words of two values each; missing values are zero.
#[inline(always)]
fn line_of(low: &[f32], high: &[f32], out: &mut [u32], pair: impl Fn(f32, f32) -> u32) {
    if let (Ok(low), Ok(high)) = (<&[f32; LANES]>::try_from(low), <&[f32; LANES]>::try_from(high)) {
        for ((o, &low), &high) in out.iter_mut().zip(low).zip(high) {
            *o = pair(low, high);
        }
    } else {
        out.fill(0);
        for (j, &low) in low.iter().enumerate() {
            out[j] = pair(low, high.get(j).copied().unwrap_or(0.0));
        }
    }
}

/// 16 words of bfloat16 pairs from two rows of 8 words, each two neighbours of its row; missing ones are zero.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn interleave(low: &[u32], high: &[u32], out: &mut [u32]) {
    let full = |words: &[u32]| {
        <[u32; HALF]>::try_from(words).unwrap_or_else(|_| {
            std::array::from_fn(|i| words.get(i).copied().unwrap_or(0)) // at an edge
        })
    };
    let (low, high) = (full(low), full(high));
    for ((out, low), high) in out.as_chunks_mut::<2>().0.iter_mut().zip(low).zip(high) {
        *out = [(low & 0xffff) | (high << 16), (low >> 16) | (high & 0xffff_0000)];
    }
}

/// Two values rounded to bfloat16, the first in the low half.
#[inline(always)]
pub(super) fn bf16_pair(low: f32, high: f32) -> u32 {
    (bf16_bits(low) >> 16) | (bf16_bits(high) & 0xffff_0000)
}

/// Two values rounded to the nearest whole number (ties to even), the first in the low half; what is larger than
/// [`FIXED_LARGEST`] is cut off.
#[inline(always)]
fn fixed_pair(low: f32, high: f32) -> u32 {
    (fixed_bits(low) & 0xffff) | (fixed_bits(high) << 16)
}

/// A whole number in the low 16 bits: adding 1.5 · 2²³ rounds to it, and it then stands in the low bits.
#[inline(always)]
fn fixed_bits(v: f32) -> u32 {
    const LARGEST: f32 = FIXED_LARGEST as f32;
    const ROUND: f32 = 12_582_912.0;
    (v.clamp(-LARGEST, LARGEST) + ROUND).to_bits()
}

/// Bits of the nearest bfloat16 (ties to even) in the high half; finite input.
#[inline(always)]
fn bf16_bits(v: f32) -> u32 {
    let bits = v.to_bits();
    bits.wrapping_add(0x7fff + ((bits >> 16) & 1))
}

/// 16 words of high and of low parts, as [`Layout::SplitTiles`] has them; missing values are zero.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn split_line(first: &[f32], second: &[f32], high: &mut [u32], low: &mut [u32]) {
    let full = |values: &[f32]| {
        let mut line = [0.0; LANES];
        line[..values.len()].copy_from_slice(values);
        line
    };
    let (first, second) = (full(first), full(second));
    for (((high, low), &a), &b) in high.iter_mut().zip(low).zip(&first).zip(&second) {
        (*high, *low) = split_pair(a, b);
    }
}

/// A word of the high parts of two values and a word of their low parts.
#[inline(always)]
fn split_pair(first: f32, second: f32) -> (u32, u32) {
    let low = |v: f32| v - f32::from_bits(bf16_bits(v) & 0xffff_0000); // exact
    (bf16_pair(first, second), bf16_pair(low(first), low(second)))
}

/// `out[j, s] = block[s, j]`, 16 × 16 words.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn transpose(block: &[u32; LANES * LANES], out: &mut [u32; LANES * LANES]) {
    for j in 0..LANES {
        for s in 0..LANES {
            out[j * LANES + s] = block[s * LANES + j];
        }
    }
}

/// For each of 16 columns Σ v² over the bfloat16 pairs of every second group of 16 words, the low parts.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn low_squares(panel: &[u32]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for groups in panel.chunks_exact(2 * LANES * LANES) {
        for line in groups[LANES * LANES..].chunks_exact(LANES) {
            for (sum, &word) in sums.iter_mut().zip(line) {
                let (a, b) = (f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000));
                *sum += a * a + b * b;
            }
        }
    }
    sums
}

/// Rows `(n, m)` whose products contract over their columns: word (i, s) is `words[i * stride + s]`.
pub struct Rows<'a> {
    words: &'a [u32],
    stride: usize,
    steps: usize,
    n: usize,
    m: usize,
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
        let pack = match kernel.layout {
            Layout::F32 => {
                let words = bytemuck::cast_slice(&values[..n.next_multiple_of(LANES) * stride]);
                return Self { words, stride, steps: m, n, m };
            }
            Layout::Pairs | Layout::Tiles => pairs_of,
            Layout::Fixed => fixed_of,
            Layout::SplitTiles => split_pairs_of,
        };
        let rows = values.chunks_exact(stride).take(n).map(|row| &row[..m]);
        Self::pack(kernel, rows, (n, m), buffer, pack)
    }

    /// Of `n` rows of `m` values, whose words `pack` makes.
    pub(super) fn pack<'v>(
        kernel: &Kernel,
        rows: impl Iterator<Item = &'v [f32]>,
        (n, m): (usize, usize),
        buffer: &'a mut RowBuffer,
        mut pack: impl FnMut(&[f32], &mut [u32]),
    ) -> Self {
        let steps = kernel.layout.steps(m);
        let stride = row_stride(steps);
        let words = buffer.0.get(n.next_multiple_of(LANES) * stride);
        for (row, out) in rows.zip(words.chunks_exact_mut(stride)) {
            pack(row, &mut out[..steps]);
        }
        Self { words, stride, steps, n, m }
    }

    pub(super) fn n(&self) -> usize {
        self.n
    }

    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// Words of row `i`.
    pub(super) fn row(&self, i: usize) -> &[u32] {
        &self.words[i * self.stride..][..self.steps]
    }

    /// From row `i` on.
    pub(super) fn left(&self, i: usize) -> Left<'_> {
        let row = self.stride;
        Left { words: &self.words[i * row..], row, step: 1, group: LANES, block: LANES * row }
    }
}

/// A row in [`Layout::Pairs`]; what is left of `out` becomes zero.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn pairs_of(row: &[f32], out: &mut [u32]) {
    neighbours_of(row, out, bf16_pair);
}

/// A row in [`Layout::Fixed`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
pub(super) fn fixed_of(row: &[f32], out: &mut [u32]) {
    neighbours_of(row, out, fixed_pair);
}

/// A row as words of two neighbours; what is left of `out` becomes zero.
#[inline(always)]
fn neighbours_of(row: &[f32], out: &mut [u32], pair: impl Fn(f32, f32) -> u32) {
    let (pairs, rest) = row.as_chunks::<2>();
    let (out, padding) = out.split_at_mut(row.len().div_ceil(2));
    padding.fill(0);
    for (o, &[first, second]) in out.iter_mut().zip(pairs) {
        *o = pair(first, second);
    }
    if let [last] = rest {
        out[pairs.len()] = pair(*last, 0.0);
    }
}

/// A row in [`Layout::SplitTiles`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
fn split_pairs_of(row: &[f32], out: &mut [u32]) {
    for (row, out) in row.chunks(2 * LANES).zip(out.chunks_exact_mut(2 * LANES)) {
        let mut values = [0.0; 2 * LANES];
        values[..row.len()].copy_from_slice(row);
        let (high, low) = out.split_at_mut(LANES);
        for ((high, low), &[first, second]) in high.iter_mut().zip(low).zip(values.as_chunks().0) {
            (*high, *low) = split_pair(first, second);
        }
    }
}
