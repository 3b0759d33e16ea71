//! What a solver needs to know of a training set, from sums over its cells.
//!
//! ```text
//! m = c + Σ(x−c)/n        C = D (G/n − (m−c)(m−c)ᵀ) D        μ_k = D (Σ_k(x−c)/n_k − (m−c))        x ↦ D (x − m)
//! ```
//!
//! with G = Σ (x−c)(x−c)ᵀ over the cells and D the scaling ([`crate::scaling`]): 0 for features that are constant.

use rayon::prelude::*;

use super::{Moments, Sums};
use crate::error::{Error, Result};
use crate::kernel::LANES;
use crate::scaling::{Affine, Scaling, Spread, mean_variance};

/// The statistics of a training set in scaled, centred coordinates.
#[derive(Debug, Clone)]
pub struct Design {
    /// Rows.
    pub n: usize,
    /// Classes of the task, those without training rows included.
    pub n_classes: usize,
    /// From raw features to these coordinates.
    pub affine: Affine,
    /// Classes that have training rows, ascending, `(k′)`.
    pub classes: Vec<usize>,
    /// Their shares, `(k′)`.
    pub priors: Vec<f64>,
    /// Their means, `(k′, d)`.
    pub means: Vec<f64>,
    /// Covariance (divided by n), `(d, d)`, both triangles.
    pub covariance: Vec<f64>,
    /// Where the mean of the rows lies in the coordinates of `affine`, `(d)`: next to 0, since float32 rounds the
    /// shift. A solver that takes rows to be centred owes its intercept `−offsetᵀ W`.
    pub offset: Vec<f64>,
    /// How the products behind `covariance` were summed.
    pub sums: Sums,
}

impl Design {
    /// Number of features.
    pub fn n_features(&self) -> usize {
        self.affine.shift.len()
    }

    /// Mean variance of the scaled features that vary, the unit of penalties: 1 if standardized, 0 if all features are
    /// constant, else positive.
    pub fn mean_variance(&self) -> f64 {
        let d = self.n_features();
        mean_variance((0..d).map(|j| self.covariance[j * d + j]), &self.affine.scale)
    }

    /// Entropy of the class shares in nats: the loss of the best intercept without weights.
    pub fn prior_entropy(&self) -> f64 {
        -self.priors.iter().map(|&share| if share > 0.0 { share * share.ln() } else { 0.0 }).sum::<f64>()
    }

    /// Deviation of each feature, and 3 % of what is common on top: one is rounded by what its variance is rounded by, and one
    /// of zero is no unit. Positive.
    pub fn deviations(&self) -> impl Iterator<Item = f64> {
        let d = self.n_features();
        let least = 0.03 * self.mean_variance().max(f64::from(f32::MIN_POSITIVE)).sqrt();
        (0..d).map(move |j| self.covariance[j * d + j].max(0.0).sqrt() + least)
    }
}

#[cfg(test)]
impl Design {
    /// Of `k` equally frequent classes with the same mean, and features of variance 1 that do not correlate.
    pub(crate) fn plain(n: usize, d: usize, k: usize) -> Self {
        let mut covariance = vec![0.0; d * d];
        covariance.iter_mut().step_by(d + 1).for_each(|variance| *variance = 1.0);
        Self {
            n,
            n_classes: k,
            affine: Affine { shift: vec![0.0; d], scale: vec![1.0; d] },
            classes: (0..k).collect(),
            priors: vec![1.0 / k as f64; k],
            means: vec![0.0; k * d],
            covariance,
            offset: vec![0.0; d],
            sums: Sums::Float64,
        }
    }
}

impl Moments {
    /// Everything a solver needs about the union of `cells`, in scaled coordinates; on the threads of the current pool.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a cell does not exist or is named twice, or fewer than two classes have rows.
    pub fn design(&self, cells: &[usize], scaling: Scaling) -> Result<Design> {
        let (d, k) = (self.n_features, self.n_classes);
        let total = self.union(cells)?;
        let classes: Vec<usize> = (0..k).filter(|&c| total.counts[c] > 0).collect();
        if classes.len() < 2 {
            return Err(Error::Parameter(format!(
                "a probe needs rows of at least two classes, its training rows have {} of {k}",
                classes.len()
            )));
        }
        let n: u64 = total.counts.iter().sum();
        let inv_n = 1.0 / n as f64;
        // mean − shift
        let offset: Vec<f64> = (0..d.div_ceil(LANES))
            .into_par_iter()
            .flat_map_iter(|panel| {
                let mut sums = [0.0; LANES];
                for &c in &classes {
                    sums.iter_mut().zip(total.panel(panel, c)).for_each(|(sum, v)| *sum += v);
                }
                sums.map(|sum| sum * inv_n).into_iter().take(d - panel * LANES)
            })
            .collect();
        let variance = |i: usize, j: usize, product: f64| product * inv_n - offset[i] * offset[j];
        let mean = |j: usize| offset[j] + f64::from(self.shift[j]);
        let scale: Vec<f32> = (0..d)
            .map(|j| {
                let square = total.gram.get(j, j);
                scaling.factor(&Spread {
                    mean: mean(j),
                    variance: variance(j, j, square),
                    width: total.width(j),
                    noise: self.sums.rounding() * square * inv_n,
                })
            })
            .collect();
        let (affine, rest) = Affine::centred((0..d).map(mean), scale);
        let scale: Vec<f64> = affine.scale.iter().map(|&s| f64::from(s)).collect();
        let covariance = total.gram.map_full(|i, j, v| variance(i, j, v) * (scale[i] * scale[j]));
        let priors: Vec<f64> = classes.iter().map(|&c| total.counts[c] as f64 * inv_n).collect();
        let mut means = vec![0.0; classes.len() * d];
        means.par_chunks_exact_mut(d).zip(&classes).for_each(|(means, &c)| {
            let count = total.counts[c] as f64;
            for (panel, means) in means.chunks_mut(LANES).enumerate() {
                for (at, (mean, sum)) in means.iter_mut().zip(total.panel(panel, c)).enumerate() {
                    let j = panel * LANES + at;
                    *mean = (sum / count - offset[j]) * scale[j];
                }
            }
        });
        Ok(Design {
            n: n as usize,
            n_classes: k,
            affine,
            classes,
            priors,
            means,
            covariance,
            offset: rest,
            sums: self.sums,
        })
    }
}
