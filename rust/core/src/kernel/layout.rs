//! How the words of operands lie in memory: what kernels and packing agree on.

/// Rows of a tile, and columns of a panel.
pub const LANES: usize = 16;

/// The largest size of a whole number in [`Layout::Fixed`], and words along the contraction whose products fit together
/// into 32 bits whatever they hold.
pub const FIXED_LARGEST: i32 = (1 << 12) - 1;
pub const FIXED_STEPS: usize = 64;
const _: () = assert!(2 * FIXED_STEPS as i64 * (FIXED_LARGEST as i64).pow(2) <= i32::MAX as i64);

/// What is in the words of a kernel's operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // only AMX has tiles
pub(super) enum Layout {
    /// A float32 value.
    F32,
    /// Two values rounded to bfloat16, neighbours along the contraction, the first in the low half.
    Pairs,
    /// Two whole numbers of 16 bits, at most [`FIXED_LARGEST`] in size, neighbours along the contraction, the first in the
    /// low half.
    Fixed,
    /// Pairs in whole groups of 16 words, filled up with zeros; left operands have the words of a group side by
    /// side, so that 16 rows are a tile of 16 × 16 words.
    Tiles,
    /// As [`Self::Tiles`], each group twice: values rounded to bfloat16 (high parts), then what rounding took
    /// away, rounded to bfloat16 (low parts). Together they keep 16 bits, and all of a float16 value.
    SplitTiles,
}

impl Layout {
    /// Words along the contraction for `n` values.
    pub fn steps(self, n: usize) -> usize {
        match self {
            Self::F32 => n,
            Self::Pairs | Self::Fixed => n.div_ceil(2),
            Self::Tiles => n.div_ceil(2 * LANES) * LANES,
            Self::SplitTiles => n.div_ceil(2 * LANES) * 2 * LANES,
        }
    }

    /// Whether words come in whole groups, and left operands in tiles.
    pub fn tiled(self) -> bool {
        matches!(self, Self::Tiles | Self::SplitTiles)
    }

    /// Words along the contraction that belong together.
    pub fn group(self) -> usize {
        if self == Self::SplitTiles { 2 * LANES } else { LANES }
    }
}

/// A left operand from some row on: word (i, s) is
/// `words[i / 16 * block + i % 16 * row + s / 16 * group + s % 16 * step]`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub words: &'a [u32],
    pub row: usize,
    pub step: usize,
    pub group: usize,
    pub block: usize,
}

/// A right operand from some panel on: word (s, j) of panel p is `words[p * panel + s * 16 + j]`.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub words: &'a [u32],
    pub panel: usize,
    pub steps: usize,
}
