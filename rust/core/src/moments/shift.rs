//! What is taken away from features before their products are summed.

use crate::error::Result;
use crate::rows::Matrix;

/// Rows looked at for the shift; strided, because banks may be sorted by class.
pub const SHIFT_ROWS: usize = 2048;

/// A shift for [`super::Moments::new`]: zero for a feature whose |mean| is at most its standard deviation, else a
/// number within an eighth of a standard deviation of the mean that has no more digits than that takes.
///
/// There `x − c` is exact for float16 features and, by Sterbenz, for float32 features that lie far from the origin;
/// the squares that are summed are then at most twice the variance.
///
/// # Errors
/// [`crate::Error::Parameter`] for a row out of range; what a segment's guard says.
pub fn choose_shift(matrix: &Matrix<'_>, rows: &[u32]) -> Result<Vec<f32>> {
    let d = matrix.n_features();
    matrix.check_in(rows)?;
    let step = rows.len().div_ceil(SHIFT_ROWS).max(1);
    let sample: Vec<u32> = rows.iter().copied().step_by(step).collect();
    let Some(&first) = sample.first() else {
        return Ok(vec![0.0; d]);
    };
    // about the first row: nothing cancels in the variance, and a constant feature is found exactly
    let mut origin = vec![0.0; d];
    matrix.stage(&[first], &mut origin, d)?;
    let (mut mean, mut square) = (vec![0.0_f64; d], vec![0.0_f64; d]);
    let mut x = vec![0.0; d];
    for &row in &sample {
        matrix.stage(&[row], &mut x, d)?;
        for (((m, s), &v), &o) in mean.iter_mut().zip(&mut square).zip(&x).zip(&origin) {
            let v = f64::from(v) - f64::from(o);
            *m += v;
            *s += v * v;
        }
    }
    let n = sample.len() as f64;
    let one = |((&m, &s), &o): ((&f64, &f64), &f32)| {
        let (moved, variance) = (m / n, (s / n - (m / n).powi(2)).max(0.0));
        near(f64::from(o) + moved, variance.sqrt())
    };
    Ok(mean.iter().zip(&square).zip(&origin).map(one).collect())
}

fn near(mean: f64, sd: f64) -> f32 {
    if !mean.is_finite() || mean.abs() <= sd {
        return 0.0; // rows that are not finite are named where they are summed
    }
    let step = if sd > 0.0 { (sd / 4.0).log2().floor().exp2() } else { 0.0 };
    if step > 0.0 { ((mean / step).round() * step) as f32 } else { mean as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Segment, Values};
    use half::f16;

    #[test]
    fn the_shift_is_near_the_mean_and_has_few_digits() {
        for (mean, sd) in [(5.0, 1.0), (-3.0, 2.0), (8192.0, 0.18), (1e4, 1.0), (1e-20, 1e-22), (1e30, 1e25)]
        {
            let c = f64::from(near(mean, sd));
            // float32 rounds what has more digits
            assert!((c - mean).abs() <= sd / 8.0 + mean.abs() * 6e-8, "{mean} {sd}: {c}");
        }
        assert_eq!((near(0.9, 1.0), near(f64::NAN, 1.0), near(0.3, 0.0)), (0.0, 0.0, 0.3));
        assert_eq!(f16::from_f32(near(5.1234, 1.1)).to_f32(), near(5.1234, 1.1));
    }

    #[test]
    fn a_constant_feature_is_shifted_to_zero() {
        let x = [0.3_f32, -7e6, 1e-42].repeat(2100);
        let matrix = Matrix::new(3, vec![Segment { values: Values::F32(&x), guard: None }]).unwrap();
        let rows: Vec<u32> = (0..2100).collect();
        assert_eq!(choose_shift(&matrix, &rows).unwrap(), [0.3, -7e6, 1e-42]);
        assert_eq!(choose_shift(&matrix, &[]).unwrap(), [0.0; 3]);
    }
}
