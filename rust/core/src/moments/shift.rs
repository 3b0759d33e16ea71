//! What is taken away from features before their products are summed.

use half::f16;

use crate::error::Result;
use crate::rows::Matrix;

/// Rows looked at for the shift; strided, because banks may be sorted by class.
const SHIFT_ROWS: usize = 2048;
/// A feature is shifted when its mean is this many standard deviations from zero.
const SHIFT_RATIO: f64 = 8.0;

/// A shift for [`Moments::new`]: zero, or a float16 value near the mean where |mean| ≫ sd, so that `x − c`
/// is exact for float16 features (Sterbenz).
///
/// # Errors
/// [`Error::Parameter`] for a row out of range; what a segment's guard says.
pub fn choose_shift(matrix: &Matrix<'_>, rows: &[u32]) -> Result<Vec<f32>> {
    let d = matrix.n_features();
    matrix.check_in(rows)?;
    let step = rows.len().div_ceil(SHIFT_ROWS).max(1);
    let sample: Vec<u32> = rows.iter().copied().step_by(step).collect();
    let (mut mean, mut square) = (vec![0.0_f64; d], vec![0.0_f64; d]);
    let mut x = vec![0.0; d];
    for &row in &sample {
        matrix.stage(&[row], &mut x, matrix.n_features())?;
        for ((m, s), &v) in mean.iter_mut().zip(&mut square).zip(&x) {
            *m += f64::from(v);
            *s += f64::from(v) * f64::from(v);
        }
    }
    let n = sample.len().max(1) as f64;
    Ok(mean
        .iter()
        .zip(&square)
        .map(|(&m, &s)| {
            let mean = m / n;
            let sd = (s / n - mean * mean).max(0.0).sqrt();
            let near = f16::from_f64(mean);
            if mean.abs() > SHIFT_RATIO * sd && near.is_finite() {
                near.to_f32()
            } else if mean.abs() > SHIFT_RATIO * sd {
                mean as f32
            } else {
                0.0
            }
        })
        .collect())
}
