//! The products of [`super::few`] on registers of an instruction set: the loops that AVX-512, AVX2 and NEON share.
//!
//! Registers   rows × classes accumulators forward, groups of features × classes backward; the rows' features
//! Rounding    float32 sums
//! Defined by  the staged products of [`super::product`]; tested in `kernel::few_tests`

/// Rows of a group, and features of a chunk: weights of a chunk stay in the first cache for all rows of a group, where
/// those of all features would come from the second for each row (51 kB at 1280 features and ten classes).
pub(super) const GROUP: usize = 8;
pub(super) const CHUNK: usize = 512;

/// The `n` values of a row from `first` on, fewer than there is room for, then zeros.
///
/// # Safety
/// They are readable.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn with_zeros<const HALF: bool, const BYTES: usize>(
    row: *const u8,
    first: usize,
    n: usize,
) -> [u8; BYTES] {
    let size = if HALF { 2 } else { 4 };
    debug_assert!(size * n < BYTES, "fewer than there is room for");
    let mut values = [0; BYTES];
    // SAFETY: the caller's.
    unsafe {
        std::ptr::copy_nonoverlapping(row.add(size * first), values.as_mut_ptr(), size * n);
    }
    values
}

/// Call `$function::<half, classes, part, rows>` for the type and the width of a block.
macro_rules! by_width {
    ($t:expr, $function:ident, $($classes:literal $part:literal $rows:literal),*) => {
        match ($t.block.is_half, $t.block.width) {
            $((true, $classes) => $function::<true, $classes, $part, $rows>($t),)*
            $((false, $classes) => $function::<false, $classes, $part, $rows>($t),)*
            _ => unreachable!("a width that there is code for"),
        }
    };
}

/// `FEW`, the products on registers of type `$vector`. `$classes, $part, $rows`: of a probe of so many classes a part
/// at a time, for as many rows (or groups of features) as have their accumulators in registers.
///
/// Around it stand `WIDTH`, values of a register; the instructions `zero`, `broadcast`, `add`, `subtract`, `multiply`,
/// `multiply_add` (a b + c), and aligned `read` and `write`; with the features `sum_of(register)`, `load::<HALF>(row, first)` of
/// `WIDTH` features and `load_rest::<HALF>(row, first, n)` of n features and zeros.
macro_rules! few_products {
    ($features:literal, $vector:ty, $($classes:literal $part:literal $rows:literal),*) => {
        use std::array::from_fn;
        use std::ops::Range;
        use std::slice::from_mut;

        use super::few::{Backward, Block, Forward, Micro, WIDTHS};
        use super::few_loops::{CHUNK, GROUP, by_width};
        use super::layout::LANES;
        use super::prefetch::{LINE_BYTES, prefetch};

        const _: () = assert!(LANES % WIDTH == 0);

        /// Numbers of classes that there is code for: the first of [`WIDTHS`].
        const CLASSES: &[usize] = &[$($classes),*];
        const _: () = {
            let mut at = 0;
            while at < CLASSES.len() {
                assert!(CLASSES[at] == WIDTHS[at]);
                at += 1;
            }
        };

        pub(super) const FEW: Micro = Micro { classes: CLASSES[CLASSES.len() - 1], forward, backward };

        /// Where class 0 has its value of the first of `WIDTH` features, those of group `s`, where classes are `k`.
        const fn place(s: usize, k: usize) -> usize {
            let first = s * WIDTH;
            first / LANES * LANES * k + first % LANES
        }

        /// # Safety
        /// The CPU has the features; the addresses are valid as [`Forward`] says.
        unsafe fn forward(t: &Forward<'_>) {
            // SAFETY: the caller's.
            unsafe { by_width!(t, forward_of, $($classes $part $rows),*) }
        }

        /// # Safety
        /// The CPU has the features; the addresses are valid as [`Backward`] says.
        unsafe fn backward(t: &Backward<'_>) {
            // SAFETY: the caller's.
            unsafe { by_width!(t, backward_of, $($classes $part $rows),*) }
        }

        /// Features of group `s`, shifted and scaled; the last `rest` of a row where there are fewer than `WIDTH`.
        ///
        /// # Safety
        /// The features are readable; shift and scale are padded to whole lines and start on a cache line.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn features<const HALF: bool>(block: &Block<'_>, row: *const u8, s: usize, rest: usize) -> $vector {
            let first = s * WIDTH;
            // SAFETY: the caller's.
            unsafe {
                let x = if rest == 0 { load::<HALF>(row, first) } else { load_rest::<HALF>(row, first, rest) };
                let (shift, scale) = (block.shift.as_ptr().add(first), block.scale.as_ptr().add(first));
                multiply(subtract(x, read(shift)), read(scale))
            }
        }

        /// # Safety
        /// As [`forward`]'s.
        #[target_feature(enable = $features)]
        unsafe fn forward_of<const HALF: bool, const K: usize, const C: usize, const R: usize>(t: &Forward<'_>) {
            const { assert!(K % C == 0) }
            let block = &t.block;
            let n = block.rows.len();
            let (whole, rest) = (block.n_features / WIDTH, block.n_features % WIDTH);
            let mut sums = [[zero(); K]; GROUP];
            for first in (0..n).step_by(GROUP) {
                let rows = &block.rows[first..(first + GROUP).min(n)];
                let next = |i: usize| block.rows[(first + GROUP + i).min(n - 1)];
                let sums = &mut sums[..rows.len()];
                sums.fill([zero(); K]);
                // SAFETY: features below `n_features` are readable, scores have room for K · stride values. What is
                // fetched is not read.
                unsafe {
                    for from in (0..whole).step_by(CHUNK / WIDTH) {
                        let steps = from..(from + CHUNK / WIDTH).min(whole);
                        let (tuples, singles) = sums.as_chunks_mut::<R>();
                        for (at, sums) in tuples.iter_mut().enumerate() {
                            let of = |r: usize| rows[at * R + r];
                            let ahead = |r: usize| next(at * R + r);
                            add_products::<HALF, K, C, R>(t, from_fn(of), from_fn(ahead), steps.clone(), 0, sums);
                        }
                        for (sums, i) in singles.iter_mut().zip(tuples.len() * R..) {
                            let (row, next) = ([rows[i]], [next(i)]);
                            add_products::<HALF, K, C, 1>(t, row, next, steps.clone(), 0, from_mut(sums));
                        }
                    }
                    if rest > 0 {
                        for ((i, &row), sums) in rows.iter().enumerate().zip(sums.iter_mut()) {
                            let steps = whole..whole + 1;
                            add_products::<HALF, K, C, 1>(t, [row], [next(i)], steps, rest, from_mut(sums));
                        }
                    }
                    for (i, sums) in sums.iter().enumerate() {
                        for (c, &sum) in sums.iter().enumerate() {
                            t.scores.add(c * t.stride + first + i).write(sum_of(sum));
                        }
                    }
                }
            }
        }

        /// Add the products of the features of `steps` to the sums of R rows; fetch those of the rows `next` from memory.
        ///
        /// # Safety
        /// As [`forward`]'s; the features are readable.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn add_products<const HALF: bool, const K: usize, const C: usize, const R: usize>(
            t: &Forward<'_>,
            rows: [*const u8; R],
            next: [*const u8; R],
            steps: Range<usize>,
            rest: usize,
            sums: &mut [[$vector; K]],
        ) {
            let bytes = if HALF { 2 } else { 4 };
            for part in (0..K).step_by(C) {
                let mut here: [[$vector; C]; R] = from_fn(|r| from_fn(|c| sums[r][part + c]));
                // SAFETY: the caller's; weights, shift and scale are padded.
                unsafe {
                    for s in steps.clone() {
                        let mut x = [zero(); R];
                        for ((x, &row), &next) in x.iter_mut().zip(&rows).zip(&next) {
                            *x = features::<HALF>(&t.block, row, s, rest);
                            if part == 0 && s % (LINE_BYTES / (WIDTH * bytes)) == 0 {
                                prefetch(next.add(s * WIDTH * bytes));
                            }
                        }
                        let weights = t.weights.as_ptr().add(place(s, K) + part * LANES);
                        for c in 0..C {
                            let w = read(weights.add(c * LANES));
                            for (here, &x) in here.iter_mut().zip(&x) {
                                here[c] = multiply_add(x, w, here[c]);
                            }
                        }
                    }
                }
                for (sums, here) in sums.iter_mut().zip(&here) {
                    sums[part..part + C].copy_from_slice(here);
                }
            }
        }

        /// # Safety
        /// As [`backward`]'s.
        #[target_feature(enable = $features)]
        unsafe fn backward_of<const HALF: bool, const K: usize, const C: usize, const G: usize>(t: &Backward<'_>) {
            const { assert!(K % C == 0) }
            let (whole, rest) = (t.block.n_features / WIDTH, t.block.n_features % WIDTH);
            // SAFETY: groups of features below `whole` are whole, the last has `rest`.
            unsafe {
                for part in (0..K).step_by(C) {
                    for s in (0..whole / G * G).step_by(G) {
                        backward_features::<HALF, K, C, G>(t, s, 0, part);
                    }
                    for s in whole / G * G..whole {
                        backward_features::<HALF, K, C, 1>(t, s, 0, part);
                    }
                    if rest > 0 {
                        backward_features::<HALF, K, C, 1>(t, whole, rest, part);
                    }
                }
            }
        }

        /// C classes from `part` on.
        ///
        /// # Safety
        /// As [`backward`]'s, with G groups of features from group `s` on.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn backward_features<const HALF: bool, const K: usize, const C: usize, const G: usize>(
            t: &Backward<'_>,
            s: usize,
            rest: usize,
            part: usize,
        ) {
            let mut sums = [[zero(); C]; G];
            // SAFETY: the features are readable, residuals have K · stride values, the sum has room for these features.
            unsafe {
                for (i, &row) in t.block.rows.iter().enumerate() {
                    let mut x = [zero(); G];
                    for (g, x) in x.iter_mut().enumerate() {
                        *x = features::<HALF>(&t.block, row, s + g, rest);
                    }
                    for c in 0..C {
                        let r = broadcast(*t.residuals.get_unchecked((part + c) * t.stride + i));
                        for (sums, &x) in sums.iter_mut().zip(&x) {
                            sums[c] = multiply_add(r, x, sums[c]);
                        }
                    }
                }
                for (g, sums) in sums.iter().enumerate() {
                    for (c, &sum) in sums.iter().enumerate() {
                        let out = t.sum.add(place(s + g, K) + (part + c) * LANES);
                        write(out, add(sum, read(out)));
                    }
                }
            }
        }
    };
}

pub(super) use {by_width, few_products};
