//! Sums of outer products of rows, kept as the lower triangle in square tiles.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::layout::LANES;
use super::panels::Panels;
use super::tile::Kernel;

/// A symmetric matrix `(d, d)` in float64, as tiles of its lower triangle.
#[derive(Debug, Clone, PartialEq)]
pub struct Symmetric {
    d: usize,
    side: usize,
    /// Tile (I, J), I ≥ J, at I(I+1)/2 + J; row-major `(side, side)`; zeros beyond d.
    tiles: Vec<f64>,
}

impl Symmetric {
    /// The zero matrix.
    pub fn new(d: usize) -> Self {
        // few large tiles read each panel few times; many small ones keep all threads busy
        let side = if d >= 512 { 192 } else { 32 };
        let n = d.div_ceil(side);
        Self { d, side, tiles: vec![0.0; n * (n + 1) / 2 * side * side] }
    }

    /// Entry (i, j).
    pub fn get(&self, i: usize, j: usize) -> f64 {
        let (i, j) = (i.max(j), i.min(j));
        self.tile(i / self.side, j / self.side)[i % self.side * self.side + j % self.side]
    }

    /// All entries, `(d, d)` row-major, both triangles.
    pub fn to_full(&self) -> Vec<f64> {
        self.map_full(|_, _, v| v)
    }

    /// `entry(i, j, v)` for every entry v, `(d, d)` row-major. What it gives must be the same for (j, i).
    ///
    /// Rows are spread over the threads of the current pool.
    pub fn map_full(&self, entry: impl Fn(usize, usize, f64) -> f64 + Sync) -> Vec<f64> {
        /// Entries of a block that is turned at a time: its rows and columns are lines of the cache.
        const BLOCK: usize = 8;
        let (d, side) = (self.d, self.side);
        let mut full = vec![0.0; d * d];
        full.par_chunks_mut(side * d).enumerate().for_each(|(own, full)| {
            let rows = full.len() / d;
            for left in 0..=own {
                let columns = left * side..((left + 1) * side).min(d);
                for (i, row) in self.tile(own, left).chunks_exact(side).enumerate().take(rows) {
                    let below = if left == own { i + 1 } else { columns.len() };
                    let out = &mut full[i * d..][columns.clone()];
                    for (j, (out, &v)) in out.iter_mut().zip(&row[..below]).enumerate() {
                        *out = entry(own * side + i, columns.start + j, v);
                    }
                }
            }
            for low in own..d.div_ceil(side) {
                let tile = self.tile(low, own);
                let columns = side.min(d - low * side);
                for i in (0..rows).step_by(BLOCK) {
                    for j in (0..columns).step_by(BLOCK) {
                        for row in i..(i + BLOCK).min(rows) {
                            let right = if low == own { j.max(row + 1) } else { j };
                            for column in right..(j + BLOCK).min(columns) {
                                full[row * d + low * side + column] =
                                    entry(own * side + row, low * side + column, tile[column * side + row]);
                            }
                        }
                    }
                }
            }
        });
        full
    }

    /// Tile (I, J), I ≥ J.
    fn tile(&self, i: usize, j: usize) -> &[f64] {
        let size = self.side * self.side;
        &self.tiles[(i * (i + 1) / 2 + j) * size..][..size]
    }

    /// `self += other`, of one size.
    pub fn add(&mut self, other: &Self) {
        let size = self.side * self.side;
        self.tiles.par_chunks_exact_mut(size).zip(other.tiles.par_chunks_exact(size)).for_each(|(a, b)| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        });
    }

    /// Add a symmetric matrix `(d, d)`, row-major, of which the lower triangle is read.
    pub fn add_full(&mut self, matrix: &[f64]) {
        let (d, side) = (self.d, self.side);
        self.tiles.par_chunks_exact_mut(side * side).enumerate().for_each(|(at, tile)| {
            let (big_i, big_j) = triangle(at);
            for (i, row) in (big_i * side..d).zip(tile.chunks_exact_mut(side)) {
                let columns = big_j * side..((big_j + 1) * side).min(i + 1);
                row.iter_mut().zip(&matrix[i * d..][columns]).for_each(|(a, b)| *a += b);
            }
        });
    }

    /// All entries in storage order: of matrices of one size, sums and differences are those of the entries.
    pub fn entries_mut(&mut self) -> &mut [f64] {
        &mut self.tiles
    }

    /// See [`Self::entries_mut`].
    pub fn entries(&self) -> &[f64] {
        &self.tiles
    }

    /// Entry (i, j) times `factors[i] · factors[j]`.
    pub fn scale(&mut self, factors: &[f64]) {
        let side = self.side;
        self.tiles.par_chunks_exact_mut(side * side).enumerate().for_each(|(at, tile)| {
            let (big_i, big_j) = triangle(at);
            for (row, &a) in tile.chunks_exact_mut(side).zip(factors.iter().skip(big_i * side)) {
                for (v, &b) in row.iter_mut().zip(factors.iter().skip(big_j * side)) {
                    *v *= a * b;
                }
            }
        });
    }

    /// `self += Σ xᵀ x` over blocks of rows `(n, d)`, row-major, in float64.
    ///
    /// Threads and bits as in [`Self::add_gram`].
    pub fn add_gram_wide<'a>(&mut self, blocks: impl Iterator<Item = &'a [f64]> + Clone + Sync) {
        let (d, side) = (self.d, self.side);
        self.tiles.par_chunks_exact_mut(side * side).enumerate().for_each(|(at, tile)| {
            let (big_i, big_j) = triangle(at);
            for x in blocks.clone() {
                let x = MatRef::from_row_major_slice(x, x.len() / d, d);
                let columns = |big: usize| x.subcols(big * side, side.min(d - big * side));
                let (a, b) = (columns(big_i), columns(big_j));
                // the tile is row-major: seen column-major it is its transpose
                let turned =
                    MatMut::from_column_major_slice_with_stride_mut(tile, b.ncols(), a.ncols(), side);
                matmul(turned, Accum::Add, b.transpose(), a, 1.0, Par::Seq);
            }
        });
    }

    /// `self += Σ xᵀ x` over packed blocks of rows, whose sum is taken in float32.
    ///
    /// Tiles are spread over the threads of the current pool and each is summed in the order of the blocks:
    /// the bits do not depend on the threads.
    pub fn add_gram<'a>(&mut self, kernel: &Kernel, blocks: impl Iterator<Item = &'a Panels> + Clone + Sync) {
        let side = self.side;
        let per_tile = side / LANES;
        self.tiles.par_chunks_exact_mut(side * side).enumerate().for_each_init(
            || vec![0.0_f32; side * side],
            |sums, (at, tile)| {
                let (big_i, big_j) = triangle(at);
                sums.fill(0.0);
                let session = kernel.session();
                for x in blocks.clone() {
                    let panels = |big: usize| big * per_tile..((big + 1) * per_tile).min(x.n_panels());
                    for j in panels(big_j).step_by(2) {
                        let width = (panels(big_j).end - j).min(2);
                        let rows = panels(big_i).start.max(j)..panels(big_i).end;
                        for i in rows.clone().step_by(session.blocks()) {
                            let height = (rows.end - i).min(session.blocks());
                            let (row, column) = (i - big_i * per_tile, j - big_j * per_tile);
                            let c = &mut sums[(row * side + column) * LANES..];
                            session.product(x.left(i), x.right(j), c, (side, LANES), (height, width));
                        }
                    }
                    if big_i == big_j {
                        add_low_squares(x, panels(big_i), sums, side);
                    }
                }
                for (t, &s) in tile.iter_mut().zip(sums.iter()) {
                    *t += f64::from(s);
                }
            },
        );
    }
}

/// What kernels that split their factors leave out of products, low part by low part, has random signs off the
/// diagonal and adds up on it: add it there, for the given panels of a tile of `side` columns.
fn add_low_squares(x: &Panels, panels: Range<usize>, sums: &mut [f32], side: usize) {
    let diagonal = sums.iter_mut().step_by(side + 1);
    let squares = panels.map_while(|p| x.low_squares(p)).flatten();
    diagonal.zip(squares).for_each(|(sum, square)| *sum += square);
}

/// Row and column of the lower triangle's entry `at`, counted row by row.
fn triangle(at: usize) -> (usize, usize) {
    let mut row = ((((8 * at + 1) as f64).sqrt() - 1.0) / 2.0) as usize;
    while (row + 1) * (row + 2) / 2 <= at {
        row += 1;
    }
    while row * (row + 1) / 2 > at {
        row -= 1;
    }
    (row, at - row * (row + 1) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_products_and_scales_are_those_of_the_definition() {
        for (n, d) in [(1, 1), (5, 33), (9, 70), (3, 520)] {
            let x: Vec<f64> = (0..n * d).map(|i| ((i * 37 + i / d * 11) % 101) as f64 / 8.0 - 6.0).collect();
            let mut gram = Symmetric::new(d);
            gram.add_gram_wide(x.chunks(2 * d));
            let factors: Vec<f64> = (0..d).map(|j| 2.0_f64.powi(j as i32 % 5 - 2)).collect();
            let mut scaled = gram.clone();
            scaled.scale(&factors);
            for i in 0..d {
                for j in 0..=i {
                    let want: f64 = (0..n).map(|r| x[r * d + i] * x[r * d + j]).sum(); // exact: eighths
                    assert_eq!(gram.get(i, j), want);
                    assert_eq!(scaled.get(i, j), want * factors[i] * factors[j]);
                }
            }
            let full: Vec<f64> = (0..d * d).map(|at| gram.get(at / d, at % d)).collect();
            assert_eq!(gram.to_full(), full);
            let mapped = gram.map_full(|i, j, v| v + (i + j) as f64);
            assert!((0..d * d).all(|at| mapped[at] == full[at] + (at / d + at % d) as f64));
            let mut sum = gram.clone();
            sum.add(&scaled);
            sum.add_full(&full);
            assert!((0..d * d).all(|at| {
                let (i, j) = (at / d, at % d);
                sum.get(i, j) == full[at] + scaled.get(i, j) + full[at]
            }));
        }
    }

    #[test]
    fn triangle_counts_rows() {
        let mut at = 0;
        for i in 0..70 {
            for j in 0..=i {
                assert_eq!(triangle(at), (i, j));
                at += 1;
            }
        }
    }
}
