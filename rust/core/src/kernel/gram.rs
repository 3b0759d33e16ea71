//! Sums of outer products of rows, kept as the lower triangle in square tiles.

use std::ops::Range;

use rayon::prelude::*;

use super::panels::Panels;
use super::tile::{Kernel, LANES};

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
        let (big_i, big_j) = (i / self.side, j / self.side);
        let tile = big_i * (big_i + 1) / 2 + big_j;
        self.tiles[tile * self.side * self.side + i % self.side * self.side + j % self.side]
    }

    /// All entries in storage order: of matrices of one size, sums and differences are those of the entries.
    pub fn entries_mut(&mut self) -> &mut [f64] {
        &mut self.tiles
    }

    /// See [`Self::entries_mut`].
    pub fn entries(&self) -> &[f64] {
        &self.tiles
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
