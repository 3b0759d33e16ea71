//! The backward product of residuals most of which are next to nothing.
//!
//! Residuals below a size are rounded to zero or to that size, by a chance that makes them right on average; what is
//! left, a few in a hundred, is multiplied entry by entry. With x in bfloat16 an entry costs four times what it costs in
//! the product of all (docs/decisions/0015-sparse-residuals.md).

use multiversion::{multiversion, target::match_target};

use super::layout::{LANES, Layout};
use super::panels::Rows;
use super::prefetch::prefetch;
use super::product::padded;
use super::tile::Kernel;

/// Features that are multiplied at a time: their sums stay in registers, those of a block's rows in the nearest caches.
const FEATURES: usize = 4 * LANES;
/// Sums of those features for one class.
type Part = [[f32; LANES]; FEATURES / LANES];
/// Classes ahead of which sums are asked for.
const AHEAD: usize = 8;
/// Differences between the chances of one class and the next: the golden ratio of 2³², which spreads them evenly.
const GOLDEN: u32 = 0x9e37_79b1;

/// Products of blocks of residuals without those that are zero, and their sum `(d, k)`.
pub struct SparseProduct {
    layout: Layout,
    d: usize,
    /// [`FEATURES`] features of all classes, in the order in which words are read, then the next ones: what is added to one
    /// after the other lies side by side.
    sum: Vec<Part>,
    /// What a class adds to the chance of a row, padded.
    chances: Vec<u32>,
    /// First entry of each class, and the number of all at the end, `(k + 1)`.
    starts: Vec<usize>,
    /// By class: row of the block, value.
    entries: Vec<(u32, f32)>,
    /// By row: row of the block, class, value.
    found: Vec<(u32, u32, f32)>,
    /// Words of [`FEATURES`] features, by row.
    tile: Vec<u32>,
}

impl SparseProduct {
    /// Whether there is one for rows of this kernel: not where a feature is more than a word, or a whole number.
    pub fn suits(kernel: &Kernel) -> bool {
        !matches!(kernel.layout, Layout::SplitTiles | Layout::Fixed)
    }

    /// For rows of a kernel that it [`Self::suits`].
    pub fn new(kernel: &Kernel, d: usize, k: usize) -> Self {
        debug_assert!(Self::suits(kernel), "a word for each feature or two");
        Self {
            layout: kernel.layout,
            d,
            sum: vec![Part::default(); d.div_ceil(FEATURES) * k],
            chances: (0..padded(k) as u32).map(|c| c.wrapping_mul(GOLDEN)).collect(),
            starts: vec![0; k + 1],
            entries: Vec::new(),
            found: Vec::new(),
            tile: Vec::new(),
        }
    }

    fn n_classes(&self) -> usize {
        self.starts.len() - 1
    }

    /// Take the residuals `z`, a row of `k` every [`padded`]`(k)` floats, of rows with these numbers; those below `small`
    /// become 0 or ± `small`, by a chance that depends on a row's number and the class alone.
    ///
    /// False where more are left than pay: then nothing is taken.
    pub fn round(&mut self, z: &[f32], rows: &[u32], small: f32) -> bool {
        let k = self.n_classes();
        let most = rows.len() * k / entry_cost(self.layout);
        self.found.clear();
        for (i, (z, &row)) in z.chunks_exact(padded(k)).zip(rows).enumerate() {
            round_row(z, (hash(row), &self.chances), small, i as u32, &mut self.found);
            if self.found.len() > most {
                return false;
            }
        }
        self.sort_by_class();
        true
    }

    /// The entries of each class: row of the block, value.
    #[cfg(test)]
    pub fn by_class(&self) -> impl Iterator<Item = (usize, &[(u32, f32)])> {
        self.starts.windows(2).map(|ends| &self.entries[ends[0]..ends[1]]).enumerate()
    }

    fn sort_by_class(&mut self) {
        let k = self.n_classes();
        self.starts.clear();
        self.starts.resize(k + 2, 0);
        for &(_, class, _) in &self.found {
            self.starts[class as usize + 2] += 1;
        }
        for c in 2..k + 2 {
            self.starts[c] += self.starts[c - 1];
        }
        self.entries.resize(self.found.len(), (0, 0.0));
        for &(row, class, value) in &self.found {
            let next = &mut self.starts[class as usize + 1];
            self.entries[*next] = (row, value);
            *next += 1;
        }
        self.starts.truncate(k + 1);
    }

    /// Add xᵀ r of the rows whose residuals were taken to the sum.
    pub fn add(&mut self, x: &Rows<'_>) {
        match self.layout {
            Layout::F32 => self.add_by_words::<FEATURES>(x, add_singles),
            _ => self.add_by_words::<{ FEATURES / 2 }>(x, add_pairs),
        }
    }

    /// `add` multiplies the entries of all classes with `WORDS` words of the rows.
    fn add_by_words<const WORDS: usize>(
        &mut self,
        x: &Rows<'_>,
        add: impl Fn(&[[u32; WORDS]], &[(u32, f32)], &[usize], &mut [Part]),
    ) {
        let (steps, k) = (x.steps(), self.n_classes());
        self.tile.resize(self.tile.len().max(x.n() * WORDS), 0);
        let tile = self.tile.as_chunks_mut().0;
        for (part, first) in (0..steps).step_by(WORDS).enumerate() {
            let width = WORDS.min(steps - first);
            for (i, line) in tile.iter_mut().enumerate().take(x.n()) {
                line[..width].copy_from_slice(&x.row(i)[first..first + width]);
                line[width..].fill(0);
            }
            add(tile, &self.entries, &self.starts, &mut self.sum[part * k..]);
        }
    }

    /// Add the sum to one in panels ([`super::panels_len`]) and clear it.
    pub fn drain(&mut self, sum: &mut [f32]) {
        let (d, k) = (self.d, self.n_classes());
        // features of words that hold two lie apart: of sixteen words the first ones, then the second ones
        let place = |j: usize| match self.layout {
            Layout::F32 => (j / LANES, j % LANES),
            _ => (j / (2 * LANES) * 2 + j % 2, j % (2 * LANES) / 2),
        };
        for (panel, first) in sum.chunks_exact_mut(padded(d) * LANES).zip((0..k).step_by(LANES)) {
            for (j, sums) in panel.chunks_exact_mut(LANES).enumerate().take(d) {
                let (line, lane) = place(j % FEATURES);
                let by_class = &self.sum[j / FEATURES * k..][first..k.min(first + LANES)];
                for (sum, of_class) in sums.iter_mut().zip(by_class) {
                    *sum += of_class[line][lane];
                }
            }
        }
        self.sum.fill(Part::default());
    }
}

/// What an entry costs, in entries of the product of all.
fn entry_cost(layout: Layout) -> usize {
    match layout {
        Layout::F32 | Layout::Pairs | Layout::Fixed => 4,
        Layout::Tiles | Layout::SplitTiles => 32,
    }
}

/// A number's bits, mixed: the end of MurmurHash3 (32 bits; public domain).
fn hash(number: u32) -> u32 {
    let mut h = number.wrapping_add(GOLDEN);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn round_row(
    row: &[f32],
    (of_row, of_classes): (u32, &[u32]),
    small: f32,
    number: u32,
    found: &mut Vec<(u32, u32, f32)>,
) {
    let unit = small / (1 << 24) as f32;
    let lines = row.as_chunks::<LANES>().0.iter().zip(of_classes.as_chunks::<LANES>().0);
    for (first, (line, of_classes)) in (0_u32..).step_by(LANES).zip(lines) {
        let mut kept = [0.0_f32; LANES];
        let mut bits = [0_u32; LANES];
        // bits in place of branches: vector instructions everywhere
        for (i, (((kept, bit), &r), of_class)) in
            (0..).zip(kept.iter_mut().zip(&mut bits).zip(line).zip(of_classes))
        {
            let chance = of_row.wrapping_add(*of_class);
            let size = r.abs();
            let is_kept = size > unit * ((chance >> 8) as i32 as f32);
            let larger = if size > small { size } else { small };
            *kept = f32::from_bits(larger.to_bits() | (r.to_bits() & 1 << 31));
            *bit = if is_kept { 1 << i } else { 0 };
        }
        let mut mask = bits.iter().fold(0, |mask, bit| mask | bit);
        while mask != 0 {
            let c = mask.trailing_zeros();
            found.push((number, first + c, kept[c as usize]));
            mask &= mask - 1;
        }
    }
}

/// Whether the CPU that a version of a function is for multiplies and adds in one instruction.
macro_rules! is_fused {
    () => {
        match_target! {
            "x86_64+avx512f+fma" => true,
            "x86_64+avx2+fma" => true,
            _ => cfg!(target_arch = "aarch64"),
        }
    };
}

/// `x r + sum`, rounded once where the CPU has an instruction for it.
#[inline(always)]
fn add_product(is_fused: bool, x: f32, r: f32, sum: f32) -> f32 {
    if is_fused { x.mul_add(r, sum) } else { x * r + sum }
}

/// Ask for the sums [`AHEAD`] classes after these, which lie in a far cache.
#[inline(always)]
fn prefetch_part(sums: &Part) {
    let later = std::ptr::from_ref(sums).wrapping_add(AHEAD).cast::<[f32; LANES]>();
    for line in 0..FEATURES / LANES {
        prefetch(later.wrapping_add(line));
    }
}

/// `sum += r · x` over the entries of each class; `add_row` adds the words of one row.
#[inline(always)]
fn add_entries<const WORDS: usize>(
    tile: &[[u32; WORDS]],
    entries: &[(u32, f32)],
    starts: &[usize],
    sums: &mut [Part],
    add_row: impl Fn(&mut Part, &[[u32; LANES]], f32),
) {
    for (total, ends) in sums.iter_mut().zip(starts.windows(2)) {
        prefetch_part(total);
        let mut sum = *total; // in registers
        for &(row, r) in &entries[ends[0]..ends[1]] {
            add_row(&mut sum, tile[row as usize].as_chunks().0, r);
        }
        *total = sum;
    }
}

/// [`add_entries`] for words of two features.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn add_pairs(tile: &[[u32; FEATURES / 2]], entries: &[(u32, f32)], starts: &[usize], sums: &mut [Part]) {
    let is_fused = is_fused!();
    add_entries(tile, entries, starts, sums, |sum, words, r| {
        for ([low, high], words) in sum.as_chunks_mut::<2>().0.iter_mut().zip(words) {
            for ((low, high), &word) in low.iter_mut().zip(high).zip(words) {
                *low = add_product(is_fused, f32::from_bits(word << 16), r, *low);
                *high = add_product(is_fused, f32::from_bits(word & 0xffff_0000), r, *high);
            }
        }
    });
}

/// [`add_entries`] for words of one feature.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn add_singles(tile: &[[u32; FEATURES]], entries: &[(u32, f32)], starts: &[usize], sums: &mut [Part]) {
    let is_fused = is_fused!();
    add_entries(tile, entries, starts, sums, |sum, words, r| {
        for (sum, words) in sum.iter_mut().zip(words) {
            for (sum, &word) in sum.iter_mut().zip(words) {
                *sum = add_product(is_fused, f32::from_bits(word), r, *sum);
            }
        }
    });
}
