//! How features are scaled by a few rows, without the products of features that [`super::Moments`] keep.

use multiversion::multiversion;

use crate::error::{Error, Result};
use crate::rows::Matrix;
use crate::scaling::{Affine, Scaling, Spread, mean_variance};

/// The scaling of features by rows, computed in float64 from the rows themselves, in two scans.
#[derive(Debug, Clone)]
pub struct RowScaling {
    /// From raw features to scaled, centred coordinates.
    pub affine: Affine,
    /// Means of raw features, `(d)`.
    pub mean: Vec<f64>,
    /// As [`super::Design::offset`].
    pub offset: Vec<f64>,
    /// As [`super::Design::mean_variance`].
    pub mean_variance: f64,
}

impl RowScaling {
    /// Of these rows.
    ///
    /// # Errors
    /// [`Error::Parameter`] for no rows or one out of range, [`Error::BadValue`] for NaN or infinity, what a segment's
    /// guard says.
    pub fn new(matrix: &Matrix<'_>, rows: &[u32], scaling: Scaling) -> Result<Self> {
        let (n, d) = (rows.len() as f64, matrix.n_features());
        if rows.is_empty() {
            return Err(Error::Parameter("no rows to take scales from".into()));
        }
        matrix.check_in(rows)?;
        let mut x = vec![0.0_f32; d];
        let mut mean = vec![0.0; d];
        let (mut least, mut largest) = (vec![f32::INFINITY; d], vec![f32::NEG_INFINITY; d]);
        for row in rows {
            matrix.stage_finite(std::slice::from_ref(row), &mut x, d)?;
            add_row(&x, &mut mean, &mut least, &mut largest);
        }
        mean.iter_mut().for_each(|m| *m /= n);
        let mut variance = vec![0.0; d];
        for row in rows {
            matrix.stage(std::slice::from_ref(row), &mut x, d)?;
            add_squares(&x, &mean, &mut variance);
        }
        variance.iter_mut().for_each(|s| *s /= n);
        let scale = (0..d)
            .map(|j| {
                let width = f64::from(largest[j]) - f64::from(least[j]);
                scaling.factor(&Spread { mean: mean[j], variance: variance[j], width, noise: 0.0 })
            })
            .collect();
        let (affine, offset) = Affine::centred(mean.iter().copied(), scale);
        let scaled = variance.iter().zip(&affine.scale).map(|(v, &s)| v * f64::from(s).powi(2));
        let mean_variance = mean_variance(scaled, &affine.scale);
        Ok(Self { affine, mean, offset, mean_variance })
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn add_row(x: &[f32], sum: &mut [f64], least: &mut [f32], largest: &mut [f32]) {
    for (((&x, sum), least), largest) in x.iter().zip(sum).zip(least).zip(largest) {
        *sum += f64::from(x);
        *least = least.min(x);
        *largest = largest.max(x);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn add_squares(x: &[f32], mean: &[f64], sum: &mut [f64]) {
    for ((&x, mean), sum) in x.iter().zip(mean).zip(sum) {
        let v = f64::from(x) - mean;
        *sum += v * v;
    }
}
