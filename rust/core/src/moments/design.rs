//! What a solver needs to know of a training set, from sums over its cells.

use super::Moments;
use super::cell::Cell;
use crate::error::{Error, Result};
use crate::scaling::{Affine, Scaling};

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
}

impl Design {
    /// Number of features.
    pub fn n_features(&self) -> usize {
        self.affine.shift.len()
    }

    /// Mean variance of a feature, the unit of penalties on unscaled features.
    pub fn mean_variance(&self) -> f64 {
        let d = self.n_features();
        (0..d).map(|j| self.covariance[j * d + j]).sum::<f64>() / d as f64
    }
}

impl Moments {
    /// Everything a solver needs about the union of `cells`, in scaled coordinates.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a cell does not exist or is named twice, or fewer than two classes have rows.
    pub fn design(&self, cells: &[usize], scaling: Scaling) -> Result<Design> {
        let (d, k) = (self.n_features, self.n_classes);
        if let Some(bad) = cells.iter().find(|&&c| c >= self.cells.len()) {
            return Err(Error::Parameter(format!("cell {bad} of {}", self.cells.len())));
        }
        if let Some((_, twice)) = cells.iter().enumerate().find(|&(i, c)| cells[..i].contains(c)) {
            return Err(Error::Parameter(format!("cell {twice} is named twice")));
        }
        let mut total = Cell::new(d, k);
        for &c in cells {
            total.add(&self.cells[c]);
        }
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
        let offset: Vec<f64> =
            (0..d).map(|j| classes.iter().map(|&c| total.sum(c, j)).sum::<f64>() * inv_n).collect();
        let mut covariance = vec![0.0; d * d];
        for i in 0..d {
            for j in 0..=i {
                let v = total.gram.get(i, j) * inv_n - offset[i] * offset[j];
                covariance[i * d + j] = v;
                covariance[j * d + i] = v;
            }
        }
        let variance: Vec<f64> = (0..d).map(|j| covariance[j * d + j].max(0.0)).collect();
        let mean = |j: usize| offset[j] + f64::from(self.shift[j]);
        let scale = scaling.factors(&variance, mean, |j| total.width(j));
        for i in 0..d {
            for j in 0..d {
                covariance[i * d + j] *= scale[i] * scale[j];
            }
        }
        let mut means = Vec::with_capacity(classes.len() * d);
        let mut priors = Vec::with_capacity(classes.len());
        for &c in &classes {
            let count = total.counts[c] as f64;
            priors.push(count * inv_n);
            means.extend((0..d).map(|j| (total.sum(c, j) / count - offset[j]) * scale[j]));
        }
        Ok(Design {
            n: n as usize,
            n_classes: k,
            affine: Affine {
                shift: (0..d).map(|j| (offset[j] + f64::from(self.shift[j])) as f32).collect(),
                scale: scale.iter().map(|&s| s as f32).collect(),
            },
            classes,
            priors,
            means,
            covariance,
        })
    }
}
