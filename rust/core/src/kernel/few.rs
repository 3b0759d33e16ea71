//! The two products of a pass with a probe of few classes, on rows as they lie.
//!
//! Tiles of 16 columns ([`super::tile`]) leave lanes empty where there are fewer classes, and want rows that were
//! widened and scaled before. Here the lanes are features: a row is widened and scaled in registers, and multiplied once
//! for each class.

use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

use super::Kernel;
use super::layout::LANES;
use crate::values::Values;

/// Classes of a probe up to which its products can be taken on rows as they lie.
pub const FEW_CLASSES: usize = 16;

/// Numbers of classes that kernels have code for, or the first of them; others are filled up with classes of weight 0.
pub(super) const WIDTHS: [usize; 9] = [2, 3, 4, 5, 6, 8, 10, 12, 16];

/// Sixteen values on a cache line: loads of 64 bytes that cross one take twice as long.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// Whole lines of values.
pub struct Lines(Vec<Line>);

impl Lines {
    fn zeros(n: usize) -> Self {
        Self(vec![Line::zeroed(); n.div_ceil(LANES)])
    }

    fn as_slice(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }

    fn as_mut_slice(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// What a kernel has for rows as they lie.
#[derive(Clone, Copy)]
pub(super) struct Micro {
    /// Most classes with which they are faster than tiles, at most [`FEW_CLASSES`].
    pub classes: usize,
    /// Scores of rows.
    pub forward: unsafe fn(&Forward<'_>),
    /// Adds rows times their residuals.
    pub backward: unsafe fn(&Backward<'_>),
}

/// Rows of one type and what scales them.
pub(super) struct Block<'a> {
    /// First value of each row, float16 or float32; `n_features` of them are readable.
    pub rows: &'a [*const u8],
    pub is_half: bool,
    pub n_features: usize,
    /// Padded with zeros to whole lines, as `scale` is; both start on one, as weights and sum do.
    pub shift: &'a [f32],
    pub scale: &'a [f32],
    /// One of [`WIDTHS`].
    pub width: usize,
}

pub(super) struct Forward<'a> {
    pub block: Block<'a>,
    /// Weight of feature `16 s + l` and class c at `(s · width + c) · 16 + l`.
    pub weights: &'a [f32],
    /// Score of row i and class c, without the intercept, to `scores[c · stride + i]`.
    pub scores: *mut f32,
    pub stride: usize,
}

pub(super) struct Backward<'a> {
    pub block: Block<'a>,
    /// Residual of row i and class c at `residuals[c · stride + i]`.
    pub residuals: &'a [f32],
    pub stride: usize,
    /// In the order of [`Forward::weights`].
    pub sum: *mut f32,
}

/// The products of a kernel with a probe of few classes, for features of one scaling.
pub struct Few {
    micro: Micro,
    shift: Lines,
    scale: Lines,
    n_classes: usize,
    width: usize,
}

impl Few {
    /// `None` where the kernel has no code for this, or there are too many classes. Features become
    /// `(x − shift) · scale`, both `(d)`.
    ///
    /// # Panics
    /// If shift and scale differ in length.
    pub fn new(kernel: &Kernel, shift: &[f32], scale: &[f32], n_classes: usize) -> Option<Self> {
        assert!(shift.len() == scale.len(), "shift and scale");
        let micro = kernel.few.filter(|few| n_classes <= few.classes)?;
        let width = WIDTHS.into_iter().find(|&width| width >= n_classes)?;
        let padded = |values: &[f32]| {
            let mut lines = Lines::zeros(values.len());
            lines.as_mut_slice()[..values.len()].copy_from_slice(values);
            lines
        };
        Some(Self { micro, shift: padded(shift), scale: padded(scale), n_classes, width })
    }

    /// A sum `(d, k)` of zeros, in the order of [`Self::pack`].
    pub fn zeros(&self) -> Lines {
        Lines::zeros(self.shift.as_slice().len() * self.width)
    }

    /// Weights `(d, k)`, row-major, in the order in which they are read.
    pub fn pack(&self, weights: &[f64]) -> Lines {
        let mut packed = self.zeros();
        let values = packed.as_mut_slice();
        for (j, row) in weights.chunks_exact(self.n_classes).enumerate() {
            for (c, &v) in row.iter().enumerate() {
                values[self.place(j, c)] = v as f32;
            }
        }
        packed
    }

    /// Move a sum into panels of 16 classes ([`super::panels_len`]), adding, and clear it.
    pub fn drain(&self, sum: &mut Lines, panels: &mut [f32]) {
        let sum = sum.as_mut_slice();
        for (j, line) in panels.chunks_exact_mut(LANES).enumerate() {
            for (c, out) in line[..self.n_classes].iter_mut().enumerate() {
                *out += std::mem::take(&mut sum[self.place(j, c)]);
            }
        }
        sum.fill(0.0);
    }

    fn place(&self, feature: usize, class: usize) -> usize {
        (feature / LANES * self.width + class) * LANES + feature % LANES
    }

    /// The rows, with weights or a sum `lines`, and `values` scores or residuals of `stride` rows for each class.
    fn block<'a>(&'a self, rows: &'a FewRows<'_>, lines: usize, values: usize, stride: usize) -> Block<'a> {
        assert!(lines == self.shift.as_slice().len() * self.width, "weights or sum");
        assert!(rows.first.len() <= stride && values / FEW_CLASSES >= stride, "scores or residuals");
        assert!(
            rows.first.is_empty() || rows.n_features.div_ceil(LANES) == self.shift.0.len(),
            "features of rows and scaling"
        );
        Block {
            rows: &rows.first,
            is_half: rows.is_half,
            n_features: rows.n_features,
            shift: self.shift.as_slice(),
            scale: self.scale.as_slice(),
            width: self.width,
        }
    }

    /// Scores without the intercept: that of row i and class c to `scores[c · stride + i]`; rows from n to `stride`
    /// and classes from k to 16 are unspecified.
    ///
    /// # Panics
    /// For weights that are not of [`Self::pack`], fewer than 16 · `stride` scores, or more rows than `stride`.
    pub fn forward(&self, rows: &FewRows<'_>, weights: &Lines, scores: &mut [f32], stride: usize) {
        let weights = weights.as_slice();
        let block = self.block(rows, weights.len(), scores.len(), stride);
        // SAFETY: a `Kernel` is reached through `choice::usable` only, which has run `detect`; `FewRows` borrows its
        // rows; the asserts of `block` cover the padded scaling, the weights, and `width` · `stride` scores.
        #[allow(unsafe_code)]
        unsafe {
            (self.micro.forward)(&Forward { block, weights, scores: scores.as_mut_ptr(), stride });
        }
    }

    /// `sum += Σ x rᵀ` over the rows, in the order of [`Self::pack`]; residuals lie as the scores of [`Self::forward`].
    /// Those of classes from k to [`FEW_CLASSES`] must be 0.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn backward_add(&self, rows: &FewRows<'_>, residuals: &[f32], stride: usize, sum: &mut Lines) {
        let sum = sum.as_mut_slice();
        let block = self.block(rows, sum.len(), residuals.len(), stride);
        // SAFETY: as in `forward`; `sum` is borrowed exclusively.
        #[allow(unsafe_code)]
        unsafe {
            (self.micro.backward)(&Backward { block, residuals, stride, sum: sum.as_mut_ptr() });
        }
    }
}

/// Rows of one type where they lie.
pub struct FewRows<'a> {
    first: Vec<*const u8>,
    is_half: bool,
    n_features: usize,
    borrowed: PhantomData<&'a [f32]>,
}

impl<'a> FewRows<'a> {
    /// # Panics
    /// If rows differ in type or length.
    pub fn new(rows: impl Iterator<Item = Values<'a>>) -> Self {
        let (mut first, mut kind) = (Vec::new(), None);
        for row in rows {
            let (start, is_half, n_features) = match row {
                Values::F16(row) => (row.as_ptr().cast(), true, row.len()),
                Values::F32(row) => (row.as_ptr().cast(), false, row.len()),
            };
            assert!(*kind.get_or_insert((is_half, n_features)) == (is_half, n_features), "rows of one kind");
            first.push(start);
        }
        let (is_half, n_features) = kind.unwrap_or_default();
        Self { first, is_half, n_features, borrowed: PhantomData }
    }
}
