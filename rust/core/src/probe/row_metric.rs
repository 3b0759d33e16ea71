//! The metric of the rows themselves: the Hessian's block of each class, exactly.
//!
//! ```text
//! P_c = (1/n) Σᵢ pᵢ_c (1 − pᵢ_c) xᵢ xᵢᵀ + αI        the intercept is one more coordinate of x, 1, without penalty
//! ```
//!
//! Where rows differ in length by orders of magnitude, or classes in shape, the class model of [`super::metric`] says little of
//! the rows that are uncertain: directions in which much is left look steep, and a fit takes slow progress for its end. These
//! blocks are nearly Newton's method, and cost n·d²·k/2, so that only fits of few features can have them.

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::linalg::solvers::{Llt, Solve};
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};
use rayon::prelude::*;

use super::pass::KernelPass;
use super::vectors::remove_mean;
use crate::error::Result;
use crate::kernel::row_stride;

/// Products, and bytes of all blocks, that a metric may take.
const MOST_PRODUCTS: usize = 1 << 31;
const MOST_BYTES: usize = 1 << 28;
/// Rows gone over at a time.
const BLOCK: usize = 256;
/// Share of a class's curvature that its intercept has besides, so that a block is regular.
const INTERCEPT: f64 = 1e-6;

/// Applies P⁻¹.
pub(super) struct RowMetric {
    factors: Vec<Llt<f64>>,
}

impl RowMetric {
    /// What it costs in passes over the rows; infinite where it is not to be had.
    pub fn cost(n: usize, d: usize, k: usize) -> f64 {
        let side = d + 1;
        let products = n.saturating_mul(side * side).saturating_mul(k);
        let bytes = (side * side * k).saturating_mul(size_of::<f64>());
        // a pass takes two products for each feature and class of a row
        if products > MOST_PRODUCTS || bytes > MOST_BYTES { f64::INFINITY } else { 0.5 * d as f64 }
    }

    /// At a point `(d + 1, k′)`; `None` where a block has no Cholesky factor.
    ///
    /// # Errors
    /// Those of reading the rows.
    pub fn new(pass: &KernelPass<'_>, point: &[f64], alpha: f64) -> Result<Option<Self>> {
        let (d, k, n) = (pass.design.n_features(), pass.design.classes.len(), pass.rows.len());
        let side = d + 1;
        let mut blocks = vec![vec![0.0; side * side]; k];
        let stride = row_stride(d);
        let mut x = vec![0.0; BLOCK * stride];
        let mut wide = vec![0.0; BLOCK * side];
        for rows in pass.rows.chunks(BLOCK) {
            let x = &mut x[..rows.len() * stride];
            pass.stage_scaled(rows, x)?;
            let wide = &mut wide[..rows.len() * side];
            for (to, from) in wide.chunks_exact_mut(side).zip(x.chunks_exact(stride)) {
                to.iter_mut().zip(&from[..d]).for_each(|(to, &from)| *to = f64::from(from));
                to[d] = 1.0;
            }
            let predicted = predictions(wide, point, (side, k));
            let rows_of = MatRef::from_row_major_slice(wide, rows.len(), side);
            blocks.par_iter_mut().enumerate().for_each_init(Vec::new, |curved, (c, block)| {
                curved.clear();
                for (row, p) in wide.chunks_exact(side).zip(predicted.chunks_exact(k)) {
                    let h = p[c] * (1.0 - p[c]);
                    curved.extend(row.iter().map(|x| h * x));
                }
                let curved = MatRef::from_row_major_slice(curved, rows.len(), side);
                let block = MatMut::from_column_major_slice_mut(block, side, side);
                let (half, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
                let (x, share) = (rows_of.transpose(), 1.0 / n as f64);
                matmul(block, half, Accum::Add, x, whole, curved, whole, share, Par::Seq);
            });
        }
        let factors: Vec<_> = blocks
            .into_par_iter()
            .map(|mut block| {
                (0..d).for_each(|j| block[j * side + j] += alpha);
                block[d * side + d] += INTERCEPT * block[d * side + d] + f64::from(f32::MIN_POSITIVE);
                MatRef::from_column_major_slice(&block, side, side).llt(Side::Lower).ok()
            })
            .collect();
        Ok(factors.into_iter().collect::<Option<_>>().map(|factors| Self { factors }))
    }

    /// P⁻¹ v for a vector `(d + 1, k′)`, without the part that is the same for all classes.
    pub fn solve(&self, v: &[f32]) -> Vec<f32> {
        let k = self.factors.len();
        let mut out = vec![0.0; v.len()];
        for (c, solved) in self.solved(v).into_iter().enumerate() {
            for (row, &value) in out.chunks_exact_mut(k).zip(solved.col(0).iter()) {
                row[c] = value as f32;
            }
        }
        out.chunks_exact_mut(k).for_each(remove_mean);
        out
    }

    /// vᵀ P⁻¹ v for what is left of a vector without the part that is the same for all classes.
    pub fn norm_square(&self, mut v: Vec<f32>) -> f64 {
        let k = self.factors.len();
        v.chunks_exact_mut(k).for_each(remove_mean);
        let solved = self.solved(&v);
        let of_class = |(c, solved): (usize, &Mat<f64>)| {
            v.chunks_exact(k)
                .zip(solved.col(0).iter())
                .map(|(row, value)| f64::from(row[c]) * value)
                .sum::<f64>()
        };
        solved.iter().enumerate().map(of_class).sum()
    }

    /// P_c⁻¹ v_c of each class, `(d + 1, 1)`.
    fn solved(&self, v: &[f32]) -> Vec<Mat<f64>> {
        let k = self.factors.len();
        let of_class = |(c, factor): (usize, &Llt<f64>)| {
            factor.solve(Mat::from_fn(v.len() / k, 1, |j, _| f64::from(v[j * k + c])))
        };
        self.factors.par_iter().enumerate().map(of_class).collect()
    }
}

/// p of rows `(m, d + 1)` whose last entry is 1, `(m, k)`.
fn predictions(rows: &[f64], point: &[f64], (side, k): (usize, usize)) -> Vec<f64> {
    let mut p = vec![0.0; rows.len() / side * k];
    p.par_chunks_exact_mut(k).zip(rows.par_chunks_exact(side)).for_each(|(p, row)| {
        for (&x, weights) in row.iter().zip(point.chunks_exact(k)) {
            p.iter_mut().zip(weights).for_each(|(p, w)| *p += x * w);
        }
        let largest = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        p.iter_mut().for_each(|p| *p = (*p - largest).exp());
        let total: f64 = p.iter().sum();
        p.iter_mut().for_each(|p| *p /= total);
    });
    p
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Control, Run};
    use crate::kernel::{Precision, choose};
    use crate::moments::{Moments, Scaling};
    use crate::rows::{Matrix, Segment, TrainingRows, Values};

    const N: usize = 700;
    const D: usize = 4;
    const K: usize = 3;

    /// P times what it gives back is what it was given, less what is the same for all classes.
    #[test]
    fn the_blocks_are_those_of_the_hessian() {
        let values: Vec<f32> = (0..N * D).map(|i| ((i * 7_919) % 1_009) as f32 / 300.0 - 1.0).collect();
        let labels: Vec<u32> = (0..N).map(|i| ((i * 11 + i / 10) % K) as u32).collect();
        let matrix = Matrix::new(D, vec![Segment { values: Values::F32(&values), guard: None }]).unwrap();
        let rows: Vec<u32> = (0..N as u32).filter(|row| row % 7 != 3).collect();
        let control = Control::new();
        let training = TrainingRows::new(&matrix, &rows, &labels, K).unwrap();
        let mut moments = Moments::new(K, 1, vec![0.0; D]).unwrap();
        moments.update(training, &vec![0; N], Run { n_threads: 1, control: &control }).unwrap();
        let design = moments.design(&[0], Scaling::Standardize).unwrap();
        let exact = choose(Precision::Exact).unwrap();
        let pass = KernelPass {
            matrix: &matrix,
            rows: &rows,
            targets: rows.iter().map(|&row| labels[row as usize]).collect(),
            design: &design,
            exact,
            reduced: exact,
            scores: exact,
            n_threads: 1,
            control: &control,
        };
        let point: Vec<f64> = (0..(D + 1) * K).map(|i| ((i * 29) % 31) as f64 / 20.0 - 0.7).collect();
        let alpha = 1e-2;
        let metric = RowMetric::new(&pass, &point, alpha).unwrap().expect("the blocks are regular");

        let mut dense = vec![Mat::<f64>::zeros(D + 1, D + 1); K];
        let mut scaled = vec![0.0; row_stride(D)];
        for row in &rows {
            pass.stage_scaled(&[*row], &mut scaled).unwrap();
            let x: Vec<f64> = scaled[..D].iter().map(|&v| f64::from(v)).chain([1.0]).collect();
            let scores: Vec<f64> =
                (0..K).map(|c| (0..=D).map(|j| x[j] * point[j * K + c]).sum::<f64>().exp()).collect();
            let total: f64 = scores.iter().sum();
            for (c, block) in dense.iter_mut().enumerate() {
                let p = scores[c] / total;
                for (i, j) in (0..=D).flat_map(|i| (0..=D).map(move |j| (i, j))) {
                    block[(i, j)] += p * (1.0 - p) * x[i] * x[j] / rows.len() as f64;
                }
            }
        }
        for block in &mut dense {
            (0..D).for_each(|j| block[(j, j)] += alpha);
        }
        let v: Vec<f32> = (0..(D + 1) * K).map(|i| ((i * 17) % 13) as f32 - 6.0).collect();
        let solved = metric.solved(&v);
        for (c, block) in dense.iter().enumerate() {
            let back = block * &solved[c];
            for j in 0..=D {
                let want = f64::from(v[j * K + c]);
                assert!((back[(j, 0)] - want).abs() <= 1e-4 * 6.0, "{c} {j}: {} {want}", back[(j, 0)]);
            }
        }
        let out = metric.solve(&v);
        for (j, row) in out.chunks_exact(K).enumerate() {
            let mean = (0..K).map(|c| solved[c][(j, 0)]).sum::<f64>() / K as f64;
            for (c, &got) in row.iter().enumerate() {
                assert!((f64::from(got) - (solved[c][(j, 0)] - mean)).abs() < 1e-3, "{j} {c}");
            }
        }
        let mut centred = v.clone();
        centred.chunks_exact_mut(K).for_each(remove_mean);
        let solved = metric.solved(&centred);
        let want: f64 = (0..K)
            .flat_map(|c| (0..=D).map(move |j| (j, c)))
            .map(|(j, c)| f64::from(centred[j * K + c]) * solved[c][(j, 0)])
            .sum();
        assert!((metric.norm_square(v) - want).abs() <= 1e-9 * want);
    }

    #[test]
    fn a_metric_of_many_features_is_not_to_be_had() {
        assert_eq!(RowMetric::cost(400, 64, 10), 32.0);
        assert!(RowMetric::cost(1_000_000, 64, 10).is_infinite()); // 4e10 products
        assert!(RowMetric::cost(10, 2_048, 1_000).is_infinite()); // 34 GB
        assert!(RowMetric::cost(usize::MAX, 64, 10).is_infinite());
    }
}
