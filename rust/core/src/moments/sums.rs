//! How products of features are summed, and what that leaves of them.

use super::FLUSH_ROWS;
use super::cell::Cell;
use crate::kernel::Precision;

/// Products of an update that are cheap to sum in float64: a tenth of a second on two cores.
pub const CHEAP_PRODUCTS: usize = 1 << 32;
/// A feature whose largest |x − c| has a binary exponent outside of this is multiplied by a power of two before its
/// products are taken in float32, whose own exponents end at −126 and 127: room for values much smaller than the
/// largest, and for sums.
const EXPONENTS: std::ops::RangeInclusive<i32> = -45..=55;

/// How the products `Σ (x−c)(x−c)ᵀ` are summed. Counts, sums and ranges are the same with all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sums {
    /// In float64, at two to three times the price of [`Self::Float32`].
    Float64,
    /// Blocks of rows in float32, across blocks in float64.
    Float32,
    /// As [`Self::Float32`], of factors that may be rounded to bfloat16: good enough for the metric of a logistic
    /// fit, not for ridge.
    Bfloat16,
}

impl Sums {
    /// Those of an update of `n` rows that does not say which.
    pub(super) fn for_products(n: usize, d: usize) -> Self {
        if n.saturating_mul(d).saturating_mul(d) <= CHEAP_PRODUCTS { Self::Float64 } else { Self::Float32 }
    }

    /// Of the kernel; `None` for none.
    pub(super) fn precision(self) -> Option<Precision> {
        match self {
            Self::Float64 => None,
            Self::Float32 => Some(Precision::Exact),
            Self::Bfloat16 => Some(Precision::Bf16),
        }
    }

    /// The name in files and in Python.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float64 => "float64",
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
        }
    }

    /// The inverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Float64, Self::Float32, Self::Bfloat16].into_iter().find(|sums| sums.name() == name)
    }

    /// Largest relative error of a sum of squares: equal values are rounded in one direction.
    pub(super) fn rounding(self) -> f64 {
        match self {
            Self::Float64 => 1e-12, // 10⁴ additions of one value
            Self::Float32 => FLUSH_ROWS as f64 * f64::from(f32::EPSILON) / 2.0,
            Self::Bfloat16 => 2.0_f64.powi(-7),
        }
    }

    /// Least penalty, in units of the mean variance, whose solution the sums determine.
    pub fn relative_floor(self) -> f64 {
        match self {
            Self::Float64 => 1e-10,
            // a rank-deficient Gram: coefficients 5 % off at 1e-5, useless at 1e-6; predictions 2e-5 and 6e-2
            Self::Float32 => 1e-5,
            Self::Bfloat16 => 1e-2,
        }
    }
}

/// Powers of two that bring each feature's largest |x − c| to 1 ≤ v < 2, for features out of [`EXPONENTS`]; `None` if
/// there are none.
pub(super) fn units(cells: &[Option<Cell>], d: usize) -> Option<Vec<f32>> {
    let mut largest = vec![0.0_f32; d];
    for cell in cells.iter().flatten() {
        for (all, own) in largest.iter_mut().zip(cell.largest(d)) {
            *all = all.max(own);
        }
    }
    let unit = |&v: &f32| {
        let exponent = v.log2().floor();
        if !v.is_normal() || EXPONENTS.contains(&(exponent as i32)) {
            return 1.0; // constant, denormal or infinite: no power helps
        }
        (-exponent).clamp(-126.0, 126.0).exp2()
    };
    let units: Vec<f32> = largest.iter().map(unit).collect();
    units.iter().any(|&unit| unit != 1.0).then_some(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::LANES;

    #[test]
    fn only_features_whose_squares_leave_float32_get_a_unit() {
        let of = |largest: &[f32]| {
            let mut cell = Cell::new(largest.len(), 1);
            for (j, &v) in largest.iter().enumerate() {
                (cell.ranges[j], cell.ranges[j + LANES]) = (0.0, v);
            }
            units(&[None, Some(cell)], largest.len())
        };
        // constant about the shift, denormal, and what squares hold
        assert_eq!(of(&[0.0, 1e-42, 1e-13, 1.0, 5e16]), None);
        let powers = [0.0, 66.0, -83.0, -126.0].map(f32::exp2);
        assert_eq!(of(&[0.0, 1.5e-20, 1.5e25, 3e38]).unwrap(), powers);
    }
}
