//! A metric close to the Hessian, class by class, from one-pass statistics.
//!
//! The Hessian block of class c is the mean of p_c(1 − p_c) x xᵀ + αI. Rows of true class j are replaced by
//! their class model, within-class covariance S_w (shared) plus μ_j μ_jᵀ:
//!
//! ```text
//! P_c = m_c S_w + αI + s_c min(1, S_w / v) + Σ_{j in top J} h[j, c] μ_j μ_jᵀ + rest_c diag(S_b)        m_c = Σ_j h[j, c]
//! s_c = tr(S_w)/n · Σ h²/Σ h
//! ```
//!
//! s_c is what a row adds to the curvature along itself, which is where the gradient lies: with few rows for each
//! feature it is more than what S_w says (100 rows a class, 2048 features: 16 passes instead of 30). Rows have next to
//! nothing in directions of a variance far below v, a tenth of the mean: with s_c there too, fits on features whose
//! deviations span five decades stopped at 310 times their tolerance, now below it, in a third of the passes.
//!
//! h is the curvature mass that a pass collects. In the eigenbasis of S_w the first terms are diagonal (in that of
//! nearly the same rows they are taken for it) and the rest is a rank-J update (Woodbury). The intercept is one
//! more coordinate with eigenvalue 0, mean 1 and no penalty, but at least 0.01 m_c. Matrices are float32: they shape directions, and no
//! answer.

use std::sync::Arc;

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, MatMut, MatRef, Side, get_global_parallelism};
use rayon::prelude::*;

use super::pass::Curvature;
use super::vectors::{
    add_multiple, dot_f32, dot_f32_f64, four_dots, multiple_of_product, remove_mean, transpose,
};
use crate::error::{Error, Result};
use crate::kernel::LINE_BYTES;
use crate::moments::Design;

/// Share of the mean variance below which a direction has less of what a row adds along itself.
const ROW_VARIANCE: f64 = 0.1;
/// Correlation within classes, and covariance in units of the mean variance, below which two features count as
/// uncorrelated: what float32 makes of none. Penalties are far above the latter.
const DIAGONAL: f32 = 1e-5;
const NO_COVARIANCE: f32 = 1e-7;

/// Sum of an axis' squared correlations with all others, on average, up to which another basis will do: fits take as many
/// passes at 0.19 and a quarter more at 0.77 (docs/decisions/0003-logistic-solver.md). And the share of the mean variance
/// below which an axis' correlations count less.
const CORRELATED: f64 = 0.2;
const NEGLIGIBLE: f32 = 1e-5;
/// Numbers of a cache line.
const LINE: usize = LINE_BYTES / size_of::<f64>();

/// The class model of a training set: what fits of all penalties on it share. Costs one symmetric
/// eigendecomposition, or two products where another set's basis will do, so make it once for each [`Design`].
pub struct ClassModel {
    design: Arc<Design>,
    /// Variances within classes along the axes, `(d)`: eigenvalues of S_w where these are its eigenvectors.
    variances: Vec<f64>,
    /// Axes, `(d, d)`: eigenvectors of S_w, or of another set's; `None` where S_w is diagonal as it stands.
    basis: Option<Arc<Mat<f32>>>,
    /// Class means along the axes, `(d, k′)`.
    means: Mat<f32>,
    /// Diagonal of the between-class covariance along the axes, `(d)`.
    between: Vec<f64>,
    /// tr(S_w) / n.
    row_size: f64,
    /// How much of a row's curvature each direction has: less where the variance is below that of the directions in
    /// which rows lie, `(d)`.
    row_shares: Vec<f64>,
}

impl ClassModel {
    /// The model of a training set; `like` is that of one with nearly the same rows, in whose eigenbasis this one stays if
    /// S_w is nearly diagonal there as well.
    ///
    /// # Errors
    /// [`Error::Numerical`] if the eigendecomposition does not converge.
    pub fn new(design: Arc<Design>, like: Option<&Self>) -> Result<Self> {
        let (d, k) = (design.n_features(), design.classes.len());
        let mu = MatRef::from_row_major_slice(&design.means, k, d);
        let weighted = Mat::from_fn(d, k, |j, c| design.priors[c] * mu[(c, j)]);
        // in float64: where classes lie far apart, S_w is a small difference
        let total = MatRef::from_row_major_slice(&design.covariance, d, d);
        let within = total - &weighted * mu;
        // variances whose float32 has few digits left, or none, are those of features that are larger by a power of two
        let most = (0..d).map(|j| within[(j, j)]).fold(0.0_f64, f64::max);
        let unit = if most > 0.0 && most < 1e-20 { 2.0_f64.powi(most.log2() as i32) } else { 1.0 };
        let within = narrow((within * faer::Scale(1.0 / unit)).as_ref());
        if (0..d).any(|j| !within[(j, j)].is_finite()) {
            let what = "the covariance within classes is not finite in float32: features are too large: scale them, or divide all of them by one number";
            return Err(Error::Numerical(what.into()));
        }
        let mu = narrow(mu.transpose());
        let near = like.and_then(|like| like.basis.as_ref()).filter(|basis| basis.nrows() == d);
        let (variances, basis) = if is_diagonal(&within) {
            (diagonal(&within), None)
        } else if let Some((variances, basis)) = near.and_then(|basis| variances_along(basis, &within)) {
            (variances, Some(basis))
        } else {
            let eigen = within.self_adjoint_eigen(Side::Lower).map_err(|_| {
                Error::Numerical("eigendecomposition of the within-class covariance failed".into())
            })?;
            (eigen.S().column_vector().iter().copied().collect(), Some(Arc::new(eigen.U().to_owned())))
        };
        let basis_of = basis.as_deref();
        let means = rotated(basis_of, mu.as_ref());
        let mut between = vec![0.0; d];
        for (c, prior) in design.priors.iter().enumerate() {
            for (b, &m) in between.iter_mut().zip(column(&means, c)) {
                *b += prior * f64::from(m) * f64::from(m);
            }
        }
        let variances: Vec<f64> = variances.into_iter().map(|v| unit * f64::from(v).max(0.0)).collect();
        let row_size = variances.iter().sum::<f64>() / design.n as f64;
        let mean_variance = variances.iter().sum::<f64>() / d as f64;
        let row_variance = (ROW_VARIANCE * mean_variance).max(f64::MIN_POSITIVE);
        let row_shares = variances.iter().map(|v| (v / row_variance).min(1.0)).collect();
        Ok(Self { design, variances, basis, means, between, row_size, row_shares })
    }

    /// Whose class model this is.
    pub fn design(&self) -> &Design {
        &self.design
    }

    fn n_features(&self) -> usize {
        self.variances.len()
    }

    /// Linear discriminant with a ridge of a tenth of the mean variance, as parameters `(d + 1, k′)`: a
    /// starting direction whose scale is still to be found.
    pub(super) fn discriminant(&self) -> Vec<f64> {
        let design = &self.design;
        let (d, k) = (self.n_features(), self.means.ncols());
        // without any variance means are zero as well: they are then divided by what float32 still holds
        let ridge = (0.1 * design.mean_variance()).max(f64::from(f32::MIN_POSITIVE));
        let rotated = Mat::from_fn(d, k, |j, c| self.means[(j, c)] / (self.variances[j] + ridge) as f32);
        let weights = rotated_back(self.basis.as_deref(), &rotated);
        let mut point = vec![0.0; (d + 1) * k];
        for c in 0..k {
            let pairs = column(&self.means, c).iter().zip(column(&rotated, c));
            let half: f64 = pairs.map(|(&m, &r)| 0.5 * f64::from(m) * f64::from(r)).sum();
            for j in 0..d {
                point[j * k + c] = f64::from(weights[(j, c)]);
            }
            point[d * k + c] = design.priors[c].ln() - half;
        }
        point
    }
}

/// Whether the entries off the diagonal are rounding, for features in whose coordinates the classes spread alike.
fn is_diagonal(m: &Mat<f32>) -> bool {
    let d = m.nrows();
    let mean = (0..d).map(|j| m[(j, j)]).sum::<f32>() / d as f32;
    let small = |i: usize, j: usize| {
        let v = m[(i, j)].abs();
        v <= NO_COVARIANCE * mean || v <= DIAGONAL * m[(i, i)].abs().sqrt() * m[(j, j)].abs().sqrt()
    };
    (0..d).all(|j| (j + 1..d).all(|i| small(i, j)))
}

fn diagonal(m: &Mat<f32>) -> Vec<f32> {
    (0..m.nrows()).map(|j| m[(j, j)]).collect()
}

/// Variances along the axes of a basis, and that basis, unless they are too far from uncorrelated.
fn variances_along(basis: &Arc<Mat<f32>>, within: &Mat<f32>) -> Option<(Vec<f32>, Arc<Mat<f32>>)> {
    let along = basis.transpose() * (within * basis.as_ref());
    let variances = diagonal(&along);
    let d = variances.len();
    let least = NEGLIGIBLE * variances.iter().sum::<f32>() / d as f32;
    let inverse: Vec<f32> = variances.iter().map(|v| v.max(least).recip()).collect();
    let of_column = |j: usize| {
        let correlations = column(&along, j).iter().zip(&inverse).map(|(v, i)| (v * i) * (v * inverse[j]));
        f64::from(correlations.enumerate().filter(|&(i, _)| i != j).map(|(_, r)| r).sum::<f32>())
    };
    let correlation = (0..d).map(of_column).sum::<f64>() / d as f64;
    (correlation <= CORRELATED).then(|| (variances, basis.clone()))
}

/// Coordinates `(d, k′)` in the eigenbasis.
fn rotated(basis: Option<&Mat<f32>>, m: MatRef<'_, f32>) -> Mat<f32> {
    basis.map_or_else(|| m.to_owned(), |basis| basis.transpose() * m)
}

/// Coordinates `(d, k′)` in that of the features.
fn rotated_back(basis: Option<&Mat<f32>>, m: &Mat<f32>) -> Mat<f32> {
    basis.map_or_else(|| m.clone(), |basis| basis * m)
}

fn narrow(m: MatRef<'_, f64>) -> Mat<f32> {
    Mat::from_fn(m.nrows(), m.ncols(), |i, j| m[(i, j)] as f32)
}

fn column(m: &Mat<f32>, c: usize) -> &[f32] {
    m.col(c).try_as_col_major().expect("an owned matrix is column-major").as_slice()
}

/// The metric for one curvature mass; applies P⁻¹.
pub(super) struct Metric<'a> {
    model: &'a ClassModel,
    blocks: Vec<Block>,
}

struct Block {
    /// Inverse of the diagonal part in the eigenbasis, intercept last, `(d + 1)`.
    inverse: Vec<f64>,
    /// Classes of the rank-one terms with the square roots of their masses.
    top: Vec<(usize, f64)>,
    /// Inverse of I + Mᵀ D⁻¹ M, `(J, J)`.
    core: Mat<f64>,
}

impl<'a> Metric<'a> {
    /// At a point where the rows have this curvature.
    pub fn new(model: &'a ClassModel, curvature: &Curvature, alpha: f64) -> Self {
        let k = model.means.ncols();
        let blocks = (0..k).into_par_iter().map(|c| Block::new(model, curvature, alpha, c)).collect();
        Self { model, blocks }
    }

    /// P⁻¹ v for a vector `(d + 1, k′)`, without the part that is the same for all classes: softmax does not
    /// see it, so the Hessian has next to nothing there (a tenth fewer passes on a bank of 10 classes).
    pub fn solve(&self, v: &[f32]) -> Vec<f32> {
        let (d, k) = self.shape();
        let (weights, intercept) = v.split_at(d * k);
        let mut rotated = self.rotated(weights);
        let mut out = vec![0.0; (d + 1) * k];
        let (out_weights, out_intercept) = out.split_at_mut(d * k);
        let of_classes = rotated.par_chunks_mut(d).zip(intercept).zip(out_intercept);
        of_classes.enumerate().for_each_init(
            || Room::new(d),
            |room, (c, ((column, &intercept), out))| {
                *out = self.blocks[c].solve(&self.model.means, column, intercept, room);
            },
        );
        match &self.model.basis {
            None => transpose(&rotated, (k, d), out_weights),
            Some(basis) => {
                let to = MatMut::from_row_major_slice_mut(out_weights, d, k);
                let from = MatRef::from_column_major_slice(&rotated, d, k);
                matmul(to, Accum::Replace, basis.as_ref(), from, 1.0, get_global_parallelism());
            }
        }
        out.par_chunks_mut(k).for_each(remove_mean);
        out
    }

    /// vᵀ P⁻¹ v for what is left of a vector `(d + 1, k′)` without the part that is the same for all classes: in the
    /// eigenbasis, without the way back.
    pub fn norm_square(&self, mut v: Vec<f32>) -> f64 {
        let (d, k) = self.shape();
        v.par_chunks_mut(k).for_each(remove_mean); // residuals that were rounded do not add up to zero
        let (weights, intercept) = v.split_at(d * k);
        let rotated = self.rotated(weights);
        let room = || (vec![0.0; d], Room::new(d));
        let of_classes = rotated.par_chunks(d).zip(intercept).enumerate();
        let squares = of_classes.map_init(room, |(solved, room), (c, (column, &intercept))| {
            solved.copy_from_slice(column);
            let out = self.blocks[c].solve(&self.model.means, solved, intercept, room);
            dot_f32(column, solved) + f64::from(intercept) * f64::from(out)
        });
        squares.collect::<Vec<f64>>().into_iter().sum()
    }

    /// Features and classes.
    fn shape(&self) -> (usize, usize) {
        (self.model.n_features(), self.model.means.ncols())
    }

    /// Weights `(d, k′)` in the eigenbasis, by class.
    fn rotated(&self, weights: &[f32]) -> Vec<f32> {
        let (d, k) = self.shape();
        let mut rotated = vec![0.0; d * k];
        match &self.model.basis {
            None => transpose(weights, (d, k), &mut rotated),
            Some(basis) => {
                let to = MatMut::from_column_major_slice_mut(&mut rotated, d, k);
                let from = MatRef::from_row_major_slice(weights, d, k);
                matmul(to, Accum::Replace, basis.transpose(), from, 1.0, get_global_parallelism());
            }
        }
        rotated
    }
}

/// Memory for the vector of one class.
struct Room {
    u: Vec<f64>,
    update: Vec<f64>,
}

impl Room {
    fn new(d: usize) -> Self {
        Self { u: vec![0.0; d], update: vec![0.0; d] }
    }
}

impl Block {
    fn new(model: &ClassModel, curvature: &Curvature, alpha: f64, c: usize) -> Self {
        let heaviest = &curvature.heaviest[c];
        let mass = curvature.mass[c].max(1e-12);
        let rest = (mass - heaviest.iter().map(|&(_, h)| h).sum::<f64>()).max(0.0);
        let own = model.row_size * curvature.squares[c] / mass;
        let of_direction = |((variance, between), share): ((&f64, &f64), &f64)| {
            let diagonal = mass * variance + rest * between + own * share + alpha;
            diagonal.max(1e-300).recip()
        };
        let directions = model.variances.iter().zip(&model.between).zip(&model.row_shares);
        let mut inverse: Vec<f64> = directions.map(of_direction).collect();
        // the intercept has no diagonal of its own; a hundredth of its mass keeps the update regular
        inverse.push(1.0 / rest.max(0.01 * mass));
        let top: Vec<(usize, f64)> =
            heaviest.iter().filter(|&&(_, h)| h > 1e-6 * mass).map(|&(j, h)| (j, h.sqrt())).collect();
        let gram = weighted_gram(model, &top, &inverse);
        let core = match gram.llt(Side::Lower) {
            Ok(factor) => factor.solve(Mat::<f64>::identity(top.len(), top.len())),
            // not reached in exact arithmetic; without its rank-one terms the metric is still one
            Err(_) => Mat::zeros(top.len(), top.len()),
        };
        Self { inverse, top, core }
    }

    /// One class: `v` in the eigenbasis, in place; returns the intercept's entry.
    fn solve(&self, means: &Mat<f32>, v: &mut [f32], intercept: f32, room: &mut Room) -> f32 {
        let Room { u, update } = room;
        let d = v.len();
        let (inverse, last) = (&self.inverse[..d], self.inverse[d]);
        for ((u, &v), i) in u.iter_mut().zip(v.iter()).zip(inverse) {
            *u = f64::from(v) * i;
        }
        let mut intercept = f64::from(intercept) * last;
        let along = |&(j, root): &(usize, f64)| root * (dot_f32_f64(column(means, j), u) + intercept);
        let projected: Vec<f64> = self.top.iter().map(along).collect();
        update.fill(0.0); // M (I + Mᵀ D⁻¹ M)⁻¹ Mᵀ u
        for (a, &(j, root)) in self.top.iter().enumerate() {
            let t = root * projected.iter().enumerate().map(|(b, p)| self.core[(a, b)] * p).sum::<f64>();
            add_multiple(update, t, column(means, j));
            intercept -= t * last;
        }
        for (((v, u), update), i) in v.iter_mut().zip(u.iter()).zip(update.iter()).zip(inverse) {
            *v = (u - update * i) as f32;
        }
        intercept as f32
    }
}

/// I + Mᵀ D⁻¹ M of the rank-one terms `top`, `(J, J)`; the intercept is the last coordinate of D⁻¹, and 1 in M.
fn weighted_gram(model: &ClassModel, top: &[(usize, f64)], inverse: &[f64]) -> Mat<f64> {
    let n = inverse.len();
    let roots: Vec<f64> = inverse.iter().map(|i| i.sqrt()).collect();
    let (roots, last) = roots.split_at(model.n_features());
    // (D^(−1/2) M)ᵀ, each term from the beginning of a cache line: a load across two of them takes twice as long
    let stride = n.next_multiple_of(LINE);
    let mut room = vec![0.0; top.len() * stride + LINE - 1];
    let first = room.as_ptr().align_offset(LINE_BYTES).min(LINE - 1);
    let terms = &mut room[first..];
    for (term, &(j, root)) in terms.chunks_exact_mut(stride).zip(top) {
        multiple_of_product(&mut term[..n - 1], root, column(&model.means, j), roots);
        term[n - 1] = root * last[0];
    }
    let term = |a: usize| &terms[a * stride..(a + 1) * stride];
    let mut gram = Mat::identity(top.len(), top.len());
    for a in 0..top.len() {
        for first in (0..=a).step_by(4) {
            let entries = four_dots(term(a), std::array::from_fn(|q| term((first + q).min(a))));
            for (b, entry) in (first..=a).zip(entries) {
                gram[(a, b)] += entry; // only this triangle is read
            }
        }
    }
    gram
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes whose features 0 and 1 correlate by `r` within classes, of four.
    fn design(r: f64, variances: [f64; 4]) -> Arc<Design> {
        let mut covariance = vec![0.0; 16];
        for (j, v) in variances.into_iter().enumerate() {
            covariance[j * 5] = v;
        }
        covariance[1] = r * (variances[0] * variances[1]).sqrt();
        covariance[4] = covariance[1];
        Arc::new(Design { covariance, ..Design::plain(1000, 4, 2) })
    }

    fn basis(model: &ClassModel) -> &Arc<Mat<f32>> {
        model.basis.as_ref().expect("features correlate")
    }

    #[test]
    fn nearly_the_same_rows_stay_in_the_same_eigenbasis() {
        let first = ClassModel::new(design(0.5, [1.0, 2.0, 3.0, 4.0]), None).unwrap();
        let (near, far) = (design(0.55, [1.1, 2.0, 3.0, 3.9]), design(-0.9, [1.0, 2.0, 3.0, 4.0]));
        let like = ClassModel::new(near.clone(), Some(&first)).unwrap();
        assert!(Arc::ptr_eq(basis(&like), basis(&first)));
        // variances along its axes add up to the trace
        assert!((like.variances.iter().sum::<f64>() - 10.0).abs() < 1e-5);
        let own = ClassModel::new(near, None).unwrap();
        let (mut a, mut b) = (own.variances.clone(), like.variances.clone());
        a.sort_by(f64::total_cmp);
        b.sort_by(f64::total_cmp);
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 0.03 * a), "{a:?} {b:?}");
        let other = ClassModel::new(far, Some(&first)).unwrap();
        assert!(!Arc::ptr_eq(basis(&other), basis(&first)));
        // whatever the unit of features: squares of such variances are no float32
        for scale in [1e-30, 1e25] {
            let scaled = |r| design(r, [1.0, 2.0, 3.0, 4.0].map(|v| v * scale));
            let first = ClassModel::new(scaled(0.5), None).unwrap();
            let of = |r| ClassModel::new(scaled(r), Some(&first)).unwrap();
            assert!(Arc::ptr_eq(basis(&of(0.55)), basis(&first)));
            assert!(!Arc::ptr_eq(basis(&of(-0.9)), basis(&first)));
        }
    }

    #[test]
    fn a_basis_of_other_features_is_left_alone() {
        let first = ClassModel::new(design(0.5, [1.0, 2.0, 3.0, 4.0]), None).unwrap();
        let wider = Design { covariance: vec![1.0, 0.5, 0.5, 1.0], ..Design::plain(1000, 2, 2) };
        let model = ClassModel::new(Arc::new(wider), Some(&first)).unwrap();
        assert_eq!(basis(&model).nrows(), 2);
    }

    /// P_c as the module's documentation says, intercept last.
    fn dense(model: &ClassModel, curvature: &Curvature, alpha: f64, c: usize) -> Mat<f64> {
        let (d, mass) = (model.n_features(), curvature.mass[c]);
        let axes = model.basis.as_ref().expect("features correlate");
        let rest = mass - curvature.heaviest[c].iter().map(|(_, h)| h).sum::<f64>();
        let own = model.row_size * curvature.squares[c] / mass;
        let mut along = Mat::<f64>::zeros(d + 1, d + 1);
        for j in 0..d {
            let row = own * model.row_shares[j];
            along[(j, j)] = mass * model.variances[j] + rest * model.between[j] + row + alpha;
        }
        along[(d, d)] = rest.max(0.01 * mass);
        for &(class, h) in &curvature.heaviest[c] {
            let mean =
                Mat::from_fn(d + 1, 1, |j, _| if j < d { f64::from(model.means[(j, class)]) } else { 1.0 });
            along += faer::Scale(h) * &mean * mean.transpose();
        }
        let turn = Mat::from_fn(d + 1, d + 1, |i, j| match (i < d, j < d) {
            (true, true) => f64::from(axes[(i, j)]),
            (false, false) => 1.0,
            _ => 0.0,
        });
        &turn * along * turn.transpose()
    }

    #[test]
    fn the_metric_is_the_inverse_of_its_definition() {
        let mut of_classes = (*design(0.5, [1.0, 2.0, 3.0, 4.0])).clone();
        of_classes.means = vec![0.3, -0.2, 0.5, 0.1, -0.3, 0.2, -0.5, -0.1];
        let model = ClassModel::new(Arc::new(of_classes), None).unwrap();
        let curvature = Curvature {
            mass: vec![0.2, 0.15],
            squares: vec![0.03, 0.02],
            heaviest: vec![vec![(1, 0.1), (0, 0.06)], vec![(0, 0.05)]],
        };
        let (d, k, alpha) = (4, 2, 1e-3);
        let metric = Metric::new(&model, &curvature, alpha);
        let v: Vec<f32> =
            (0..(d + 1) * k).map(|i| [1.0, -1.2][i % 2] * (1.0 + 0.3 * (i / 2) as f32)).collect();
        let entries = || (0..d + 1).flat_map(|j| (0..k).map(move |c| (j, c)));
        let inverse_times = |v: &dyn Fn(usize, usize) -> f64| {
            let mut solved = Mat::<f64>::zeros(d + 1, k);
            for c in 0..k {
                let own = Mat::from_fn(d + 1, 1, |j, _| v(j, c));
                let block = dense(&model, &curvature, alpha, c).llt(Side::Lower).unwrap().solve(own);
                solved.col_mut(c).copy_from(block.col(0));
            }
            solved
        };
        // float32 numbers are rotated, and divided by what differs by a factor of up to 30 between directions
        const ROUNDING: f64 = 32.0 * f32::EPSILON as f64;
        let of = |j: usize, c: usize| f64::from(v[j * k + c]);
        let solved = inverse_times(&of);
        let largest = entries().map(|at| solved[at].abs()).fold(0.0, f64::max);
        for (j, row) in metric.solve(&v).chunks_exact(k).enumerate() {
            let mean = (0..k).map(|c| solved[(j, c)]).sum::<f64>() / k as f64;
            for (c, &got) in row.iter().enumerate() {
                let want = solved[(j, c)] - mean;
                assert!((f64::from(got) - want).abs() <= ROUNDING * largest, "{j} {c}: {got} {want}");
            }
        }
        let centred = |j: usize, c: usize| of(j, c) - (0..k).map(|b| of(j, b)).sum::<f64>() / k as f64;
        let solved = inverse_times(&centred);
        let want: f64 = entries().map(|(j, c)| centred(j, c) * solved[(j, c)]).sum();
        let got = metric.norm_square(v.clone());
        assert!((got - want).abs() <= ROUNDING * want, "{got} {want}");
    }
}
