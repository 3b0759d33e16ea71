//! How a logistic fit is asked for.

/// Settings of [`super::fit_logistic`].
#[derive(Debug, Clone, Copy)]
pub struct LogisticSettings {
    /// Penalty on the mean loss.
    pub alpha: f64,
    /// Relative suboptimality to reach, `(F − min F) / F`.
    pub tol: f64,
    /// How far the training error may be from that of the minimum, where nothing else is wanted of the probe: a fit may then
    /// end before `tol` is reached.
    pub error_tol: Option<f64>,
    /// Whether a look is all that is wanted: a fit may end on a pass that rounds, and nothing is then proven of it.
    pub draft: bool,
    /// Passes over the training rows at most; an exact one must follow those that round.
    pub max_passes: usize,
    /// Whether iterations may round their factors and small residuals ([`super::Rounding`]). What is returned rests on
    /// them in a draft only.
    pub reduced: bool,
}
