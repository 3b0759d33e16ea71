//! Several views of the same samples: what of the scatter lies between samples, and what between views of one.

use rayon::prelude::*;

use super::{BLOCK_ROWS, check_same_rows, norm, stage_wide};
use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::Symmetric;
use crate::kernel::parallel::install;
use crate::rows::Matrix;

/// Sums over n samples of which there are V views each; μ is the mean of a sample's views, c the shift.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewSums {
    /// Σ (μ − c), `(d)`.
    pub sums: Vec<f64>,
    /// Σ (μ−c)(μ−c)ᵀ, `(d, d)`, both triangles.
    pub between: Vec<f64>,
    /// Σ over samples and views of (x−μ)(x−μ)ᵀ, `(d, d)`, both triangles.
    pub within: Vec<f64>,
    /// How close views of a sample are.
    pub aligned: Aligned,
}

/// Distances between the directions of views of one sample.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Aligned {
    /// Σ over samples of the mean of ‖x̂_v − x̂_w‖² over pairs of views v ≠ w.
    pub distance: f64,
    /// Samples all of whose views have a direction (‖x‖ > 0): the others are left out.
    pub samples: usize,
}

/// Blocks that are filled before they are added to the sums.
const BLOCKS: usize = 8;

/// Sums over samples of which each matrix holds a view: row `rows[v][i]` of matrix v is view v of sample i.
///
/// # Errors
/// [`Error::Parameter`] for fewer than two views or a row out of range, [`Error::Shape`] if views differ in features or
/// rows, [`Error::BadValue`] for NaN or infinity, [`Error::Interrupted`].
///
/// # Accuracy
/// Float64; the same bits for any number of threads.
pub fn view_sums(views: &[(&Matrix<'_>, &[u32])], shift: &[f64], run: Run<'_>) -> Result<ViewSums> {
    let [(first, rows), ..] = views else {
        return Err(Error::Parameter("there are no views".into()));
    };
    if views.len() < 2 {
        return Err(Error::Parameter("one view says nothing about views: at least two are needed".into()));
    }
    let (d, n) = (first.n_features(), rows.len());
    for (matrix, rows) in views {
        matrix.check_features(shift.len())?;
        check_same_rows(rows.len(), n)?;
        matrix.check_in(rows)?;
    }
    let mut sums = vec![0.0; d];
    let (mut between, mut within) = (Symmetric::new(d), Symmetric::new(d));
    let mut aligned = Aligned::default();
    let mut blocks: Vec<Block> = Vec::new();
    let starts: Vec<usize> = (0..n).step_by(BLOCK_ROWS).collect();
    install(run.n_threads, || {
        for starts in starts.chunks(BLOCKS) {
            blocks.resize_with(starts.len(), Block::default);
            blocks.par_iter_mut().zip(starts).try_for_each(|(block, &start)| {
                let range = start..(start + BLOCK_ROWS).min(n);
                run.control.advance(range.len() * views.len())?;
                block.fill(views, range, shift)
            })?;
            for block in &blocks {
                for row in block.means.chunks_exact(d) {
                    for (sum, v) in sums.iter_mut().zip(row) {
                        *sum += v;
                    }
                }
                aligned.distance += block.aligned.distance;
                aligned.samples += block.aligned.samples;
            }
            between.add_gram_wide(blocks.iter().map(|block| block.means.as_slice()));
            within.add_gram_wide(blocks.iter().flat_map(|block| block.rest.iter().map(Vec::as_slice)));
        }
        Ok(())
    })?;
    let full = |of: &Symmetric| (0..d * d).map(|at| of.get(at / d, at % d)).collect();
    Ok(ViewSums { sums, between: full(&between), within: full(&within), aligned })
}

/// Samples staged by one thread.
#[derive(Default)]
struct Block {
    singles: Vec<f32>,
    /// μ − c, `(samples, d)`.
    means: Vec<f64>,
    /// x − μ of each view, `(samples, d)`.
    rest: Vec<Vec<f64>>,
    aligned: Aligned,
}

impl Block {
    fn fill(
        &mut self,
        views: &[(&Matrix<'_>, &[u32])],
        range: std::ops::Range<usize>,
        shift: &[f64],
    ) -> Result<()> {
        let (d, count) = (shift.len(), views.len() as f64);
        let n = range.len();
        self.rest.resize_with(views.len(), Vec::new);
        // Σ over views of x̂, and how many views have a direction
        let mut directions = vec![0.0; n * d];
        let mut having = vec![0; n];
        self.means.clear();
        self.means.resize(n * d, 0.0);
        for ((matrix, rows), rest) in views.iter().zip(&mut self.rest) {
            stage_wide(matrix, &rows[range.clone()], &mut self.singles, rest)?;
            for (i, (row, narrow)) in rest.chunks_exact(d).zip(self.singles.chunks_exact(d)).enumerate() {
                let length = norm(narrow);
                if length > 0.0 {
                    having[i] += 1;
                    let own = &mut directions[i * d..(i + 1) * d];
                    own.iter_mut().zip(row).for_each(|(sum, v)| *sum += v / length);
                }
            }
            for (v, c) in rest.iter_mut().zip(shift.iter().cycle()) {
                *v -= c;
            }
            for (mean, v) in self.means.iter_mut().zip(rest.iter()) {
                *mean += v / count;
            }
        }
        for rest in &mut self.rest {
            for (v, mean) in rest.iter_mut().zip(&self.means) {
                *v -= mean;
            }
        }
        self.aligned = Aligned::default();
        for (own, &having) in directions.chunks_exact(d).zip(&having) {
            if having == views.len() {
                // Σ over ordered pairs of ‖x̂_v − x̂_w‖² is 2V² − 2‖Σ x̂‖²
                let square: f64 = own.iter().map(|v| v * v).sum();
                self.aligned.distance += 2.0 * (count * count - square).max(0.0) / (count * (count - 1.0));
                self.aligned.samples += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all, matrix, values};
    use super::*;
    use crate::control::Control;

    #[test]
    fn sums_are_those_of_the_definition_for_any_number_of_threads() {
        for (n, d, v) in [(1, 1, 2), (300, 5, 3), (2500, 4, 2)] {
            let mut data: Vec<Vec<f32>> = (0..v).map(|i| values(n * d, 7 + i as u32)).collect();
            if n > 1 {
                data[1][..d].fill(0.0); // sample 0 has a view without direction
            }
            let matrices: Vec<Matrix<'_>> = data.iter().map(|x| matrix(x, d)).collect();
            let rows = all(n);
            let views: Vec<(&Matrix<'_>, &[u32])> = matrices.iter().map(|m| (m, rows.as_slice())).collect();
            let shift = vec![0.1; d];
            let found =
                |n_threads| view_sums(&views, &shift, Run { n_threads, control: &Control::new() }).unwrap();
            let one = found(1);
            assert_eq!(one, found(3));
            let x = |view: usize, i: usize, j: usize| f64::from(data[view][i * d + j]);
            let mean = |i: usize, j: usize| (0..v).map(|view| x(view, i, j)).sum::<f64>() / v as f64;
            for j in 0..d {
                for l in 0..d {
                    let between: f64 = (0..n).map(|i| (mean(i, j) - 0.1) * (mean(i, l) - 0.1)).sum();
                    let within: f64 = (0..n)
                        .flat_map(|i| (0..v).map(move |view| (view, i)))
                        .map(|(view, i)| (x(view, i, j) - mean(i, j)) * (x(view, i, l) - mean(i, l)))
                        .sum();
                    assert!((one.between[j * d + l] - between).abs() < 1e-10); // thousands of terms below 1
                    assert!((one.within[j * d + l] - within).abs() < 1e-10); // as above
                }
            }
            let first = usize::from(n > 1);
            let direction = |view: usize, i: usize| {
                let row = &data[view][i * d..(i + 1) * d];
                row.iter().map(|&a| f64::from(a) / norm(row)).collect::<Vec<_>>()
            };
            let mut distance = 0.0;
            for i in first..n {
                for a in 0..v {
                    for b in (0..v).filter(|&b| b != a) {
                        let (a, b) = (direction(a, i), direction(b, i));
                        let square: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
                        distance += square / (v * (v - 1)) as f64;
                    }
                }
            }
            assert_eq!(one.aligned.samples, n - first);
            assert!((one.aligned.distance - distance).abs() <= 1e-12 * n as f64); // 1 ulp of 4 for each sample
        }
    }

    #[test]
    fn views_that_do_not_fit_are_named() {
        let x = values(12, 1);
        let (a, b) = (matrix(&x, 3), matrix(&x, 4));
        let rows = all(3);
        let run = Run { n_threads: 1, control: &Control::new() };
        assert!(matches!(view_sums(&[(&a, &rows)], &[0.0; 3], run), Err(Error::Parameter(_))));
        assert!(matches!(view_sums(&[(&a, &rows), (&b, &rows)], &[0.0; 3], run), Err(Error::Shape { .. })));
        assert!(matches!(
            view_sums(&[(&a, &rows), (&a, &rows[1..])], &[0.0; 3], run),
            Err(Error::Shape { .. })
        ));
        assert!(matches!(view_sums(&[], &[], run), Err(Error::Parameter(_))));
    }
}
