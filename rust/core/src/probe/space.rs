//! Where the parameters of a logistic fit live, and who goes over its rows: what the descent asks for.
//!
//! The descent, its rules and its certificate are written once, over this trait. [`super::host`] is the CPU's own;
//! another program may keep parameters, gradients and steps on a device and hand over numbers only.

use super::rounding::Rounding;
use crate::error::Result;

/// Classes whose means enter a block of the metric exactly; the others enter through the diagonal of S_b.
pub const HEAVIEST: usize = 16;

/// What an evaluation may collect besides objective and gradient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collect {
    /// Curvature mass by true class, for the metric.
    pub curvature: bool,
    /// A sample of the predictions, for a Newton step on the intercept.
    pub covariance: bool,
}

/// F at a point, means over the rows.
pub struct Evaluation<V, C> {
    /// F(W, b).
    pub objective: f64,
    /// (1/n) Σ H(qᵢ).
    pub entropy: f64,
    /// Share of training rows predicted wrongly.
    pub train_error: f64,
    /// Gradient of F.
    pub gradient: V,
    /// ‖∇_W F‖².
    pub weights_square: f64,
    /// ∇_b F = q̄ − π, `(k′)`.
    pub excess: Vec<f64>,
    /// `None` unless asked for.
    pub curvature: Option<C>,
    /// Predictions q of the rows or a strided sample of them, `(m, k′)`; empty unless asked for.
    pub sample: Vec<f32>,
}

/// An evaluation in a space.
pub type EvaluationIn<S> = Evaluation<<S as Space>::Vector, <S as Space>::Curvature>;

/// Parameters of a fit `(d + 1, k′)` — weights in the coordinates of its design, then the intercept as last row, for the
/// classes that have rows — and what is done with them. Gradients and directions are vectors as well.
///
/// All methods may fail as reading rows does, or with [`crate::Error::Interrupted`].
pub trait Space: Sync {
    /// A vector `(d + 1, k′)`.
    type Vector: Send;
    /// Curvature of the rows at a point, by class and by true class.
    type Curvature: Send;
    /// A metric close to the Hessian at a point.
    type Metric;
    /// Steps and changes of the gradient that were seen; a clone shares them.
    type Memory: Clone + Send;

    /// Rows of the fit.
    fn n_rows(&self) -> usize;

    /// Whether there are faster evaluations that round.
    fn reduces(&self) -> bool;

    /// Whether those round residuals below a size ([`Rounding::Rounded`]).
    fn rounds_residuals(&self) -> bool {
        false
    }

    /// Name of what takes the products of such evaluations, or of exact ones.
    fn kernel(&self, reduced: bool) -> &str;

    /// The linear discriminant ([`super::ClassModel`]), not yet scaled.
    fn discriminant(&self) -> Result<Self::Vector>;

    /// From numbers, row-major.
    fn vector(&self, values: Vec<f64>) -> Result<Self::Vector>;

    /// To numbers, row-major.
    fn values(&self, v: &Self::Vector) -> Result<Vec<f64>>;

    /// ‖W‖² of a point.
    fn weights_square(&self, point: &Self::Vector) -> Result<f64>;

    /// Without the part that is the same for all classes.
    fn centred(&self, v: Self::Vector) -> Result<Self::Vector>;

    /// `point + length · direction`.
    fn step(&self, point: &Self::Vector, length: f64, direction: &Self::Vector) -> Result<Self::Vector>;

    /// `factor · v`.
    fn scaled(&self, factor: f64, v: &Self::Vector) -> Result<Self::Vector>;

    /// Weights 0 and this intercept `(k′)`.
    fn intercept_only(&self, intercept: Vec<f64>) -> Result<Self::Vector>;

    /// aᵀ b.
    fn dot(&self, a: &Self::Vector, b: &Self::Vector) -> Result<f64>;

    /// Mean loss on every `stride`-th row for logits `T · (x W + b)`, for each factor `T`.
    fn losses_by_factor(&self, point: &Self::Vector, factors: &[f64], stride: usize) -> Result<Vec<f64>>;

    /// One pass over the rows. What decides is exact.
    fn evaluate(
        &self,
        point: &Self::Vector,
        alpha: f64,
        collect: Collect,
        rounding: Rounding,
    ) -> Result<EvaluationIn<Self>>;

    /// ‖αV‖² of the certificate ([`super::certificate`]) for a point and its gradient, where q̄ − π is `excess`.
    fn dual_square(
        &self,
        point: &Self::Vector,
        gradient: &Self::Vector,
        excess: &[f64],
        epsilon: f64,
        alpha: f64,
    ) -> Result<f64>;

    /// The metric where the rows have this curvature.
    fn metric(&self, curvature: &Self::Curvature, alpha: f64) -> Result<Self::Metric>;

    /// What a metric of the rows themselves costs, in passes over them; infinite where there is none.
    fn row_metric_cost(&self) -> f64 {
        f64::INFINITY
    }

    /// That metric at a point; `None` where there is none, or not one at this point.
    fn row_metric(&self, _point: &Self::Vector, _alpha: f64) -> Result<Option<Self::Metric>> {
        Ok(None)
    }

    /// Of as many steps as suit the space.
    fn memory(&self) -> Result<Self::Memory>;

    /// Remember the step and the gradient's change from one point to the next; pairs without positive curvature are
    /// dropped.
    fn remember(
        &self,
        memory: &mut Self::Memory,
        points: (&Self::Vector, &Self::Vector),
        gradients: (&Self::Vector, &Self::Vector),
    ) -> Result<()>;

    /// Forget all steps.
    fn forget(&self, memory: &mut Self::Memory) -> Result<()>;

    /// Make the steps those of the same objective with `by` more penalty.
    fn add_penalty(&self, memory: &mut Self::Memory, by: f64) -> Result<()>;

    /// −H g, where H agrees with the remembered steps and is γ P⁻¹ (`metric`) elsewhere.
    fn direction(
        &self,
        memory: &Self::Memory,
        gradient: &Self::Vector,
        metric: &Self::Metric,
    ) -> Result<Self::Vector>;
}
