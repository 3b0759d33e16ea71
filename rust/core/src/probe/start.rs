//! Where a fit begins, and what it hands to the next.

use super::Linear;
use super::descent::Solver;
use super::space::Space;
use crate::error::Result;
use crate::moments::Design;
use crate::scaling::Affine;

/// Where a fit begins, in a space whose memory is `M`.
pub enum Start<'a, M> {
    /// The linear discriminant of the training rows.
    Discriminant,
    /// A probe fitted on a subset of the training rows.
    Probe(&'a Linear),
    /// Where a fit ended, on these rows at another penalty or on a subset of them.
    Continue(&'a Linear, &'a Continuation<M>),
}

/// What a fit learned of the objective's curvature; for further fits on the same rows, or on these and others like
/// them. They share its memory.
pub struct Continuation<M> {
    pub(super) memory: M,
    pub(super) alpha: f64,
    /// Where it learned it.
    coordinates: Coordinates,
}

impl<M> Continuation<M> {
    pub(super) fn new(memory: M, alpha: f64, design: &Design) -> Self {
        Self { memory, alpha, coordinates: Coordinates::of(design) }
    }
}

/// What weights are multiplied with, and the classes that they tell apart.
struct Coordinates {
    affine: Affine,
    classes: Vec<usize>,
    priors: Vec<f64>,
}

/// How far, in root mean square over what they are of, scales and class shares may differ by their ratio, and means in
/// deviations, where steps and changes of the gradient still say what they said: a fold and all rows differ by less, other
/// features by more.
const ALIKE: f64 = 0.1;

impl Coordinates {
    fn of(design: &Design) -> Self {
        let Design { affine, classes, priors, .. } = design;
        Self { affine: affine.clone(), classes: classes.clone(), priors: priors.clone() }
    }

    /// Whether steps in these coordinates mean nearly the same in those of `design`.
    fn are_like(&self, design: &Design) -> bool {
        let (scale, shift) = (&self.affine.scale, &self.affine.shift);
        if self.classes != design.classes || scale.len() != design.n_features() {
            return false;
        }
        // a feature that varied and is constant now would get weights; one that was constant has none
        if scale.iter().zip(&design.affine.scale).any(|(&was, &is)| was != 0.0 && is == 0.0) {
            return false;
        }
        let ratio = |was: f64, is: f64| was / is - 1.0;
        let scales = scale.iter().zip(&design.affine.scale).filter(|(was, _)| **was != 0.0);
        let shares = self.priors.iter().zip(&design.priors);
        let moved = shift.iter().zip(&design.affine.shift).map(|(was, is)| f64::from(was - is));
        let moved = moved.zip(design.deviations()).zip(&design.affine.scale);
        root_mean_square(scales.map(|(&was, &is)| ratio(f64::from(was), f64::from(is)))) <= ALIKE
            && root_mean_square(shares.map(|(&was, &is)| ratio(was, is))) <= ALIKE
            && root_mean_square(moved.map(|((by, deviation), &scale)| by * f64::from(scale) / deviation))
                <= ALIKE
    }
}

fn root_mean_square(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.fold((0.0, 0.0), |(n, sum), v| (n + 1.0, sum + v * v));
    if n == 0.0 { 0.0 } else { f64::sqrt(sum / n) }
}

/// Rows on which the scale of the starting discriminant is searched, and from how many on such a sample costs next to
/// nothing.
const START_ROWS: usize = 4096;
const SAMPLED_ROWS: usize = 16 * START_ROWS;

impl<M: Clone> Start<'_, M> {
    /// The first point and what is known of the curvature.
    pub(super) fn prepare<S: Space<Memory = M>>(self, solver: &mut Solver<'_, S>) -> Result<(S::Vector, M)> {
        let (space, design) = (solver.space, solver.design);
        let (point, memory) = match self {
            Self::Discriminant => (scaled_discriminant(solver)?, space.memory()?),
            Self::Probe(probe) => (given(solver, probe)?, space.memory()?),
            Self::Continue(probe, from) => {
                let alike = from.coordinates.are_like(design);
                let mut memory = if alike { from.memory.clone() } else { space.memory()? };
                space.add_penalty(&mut memory, solver.settings.alpha - from.alpha)?;
                (given(solver, probe)?, memory)
            }
        };
        // softmax does not see it, the penalty does, and the metric has no steps there
        Ok((space.centred(point)?, memory))
    }
}

/// The discriminant times the factor that fits a sample of the rows best, loss and penalty together.
fn scaled_discriminant<S: Space>(solver: &mut Solver<'_, S>) -> Result<S::Vector> {
    let point = solver.space.discriminant()?;
    let factors: Vec<f64> = (0..12).map(|i| 2.0_f64.powi(1 - i)).collect();
    let values = objectives_by_factor(solver, &point, &factors)?;
    let best = (0..values.len())
        .min_by(|&a, &b| values[a].total_cmp(&values[b]))
        .expect("an objective for each factor");
    // F bounds the gap; it is half of F and more where features tell classes apart
    solver.round_at(values[best], values[best]);
    solver.space.scaled(factors[best], &point)
}

/// A given probe; what its first pass may round follows from the objective on a sample that costs next to nothing.
fn given<S: Space>(solver: &mut Solver<'_, S>, probe: &Linear) -> Result<S::Vector> {
    let space = solver.space;
    let point = space.vector(probe.for_design(solver.design)?)?;
    if solver.reduced && space.rounds_residuals() && space.n_rows() >= SAMPLED_ROWS {
        let values = objectives_by_factor(solver, &point, &[1.0])?;
        solver.round_at(values[0], 0.0);
    }
    Ok(point)
}

/// F on a sample of the rows at `T · point`, for each factor `T`.
fn objectives_by_factor<S: Space>(
    solver: &mut Solver<'_, S>,
    point: &S::Vector,
    factors: &[f64],
) -> Result<Vec<f64>> {
    let space = solver.space;
    let stride = (space.n_rows() / START_ROWS).max(1);
    let losses = space.losses_by_factor(point, factors, stride)?;
    let penalty = 0.5 * solver.settings.alpha * space.weights_square(point)?;
    solver.passes += 0.5 / stride as f64;
    Ok(losses.iter().zip(factors).map(|(loss, factor)| loss + penalty * factor * factor).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four features, five classes.
    fn changed(change: impl FnOnce(&mut Design)) -> Design {
        let mut design = Design::plain(1000, 4, 5);
        change(&mut design);
        design
    }

    #[test]
    fn steps_mean_the_same_only_where_classes_shares_scales_and_means_nearly_are() {
        let of = Coordinates::of(&changed(|_| ()));
        let alike = |change: fn(&mut Design)| of.are_like(&changed(change));
        assert!(alike(|_| ()));
        // root mean squares of 0.05 and 0.2 over the features, of 0.09 and 0.13 over the shares
        assert!(alike(|d| d.affine.scale[0] = 1.0 / 1.1));
        assert!(!alike(|d| d.affine.scale[0] = 1.0 / 1.4));
        assert!(alike(|d| d.affine.shift[1] = 0.1));
        assert!(!alike(|d| d.affine.shift[1] = -0.4));
        assert!(alike(|d| d.priors[2] = 0.2 / 1.2));
        assert!(!alike(|d| d.priors[2] = 0.2 / 1.3));
        // other classes, or features
        assert!(!alike(|d| d.classes[4] = 7));
        assert!(!alike(|d| *d = Design::plain(1000, 4, 4)));
        assert!(!alike(|d| *d = Design::plain(1000, 3, 5)));
    }

    #[test]
    fn a_feature_may_begin_to_vary_and_not_cease_to() {
        let (varies, constant) = (changed(|_| ()), changed(|d| d.affine.scale[3] = 0.0));
        assert!(Coordinates::of(&constant).are_like(&varies));
        assert!(!Coordinates::of(&varies).are_like(&constant));
    }
}
