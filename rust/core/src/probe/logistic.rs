//! Multinomial logistic probe: streaming L-BFGS in a class-curvature metric, stopped by a certificate.
//!
//! Start ([`super::start`]): linear discriminant at its best scale, a given probe, or where a fit on these rows or some
//! of them ended, with what it learned of the curvature. Each iteration ([`super::descent`]) is one pass over the rows
//! ([`super::pass`]); the metric ([`super::metric`]) is refreshed a few times early on. Passes round until
//! their gains stop ([`super::rounding`]): factors to bfloat16 or, in scores, to whole numbers, where the CPU multiplies those
//! faster, and small residuals; the passes that decide are exact.
//!
//! The fit stops ([`super::stop`]) when the bound of [`super::certificate`] is below the tolerance ("certified"), or,
//! where a weak penalty makes every strict bound loose, when objective and training error stand still ("estimated").

use super::descent::Solver;
use super::host::Host;
use super::lbfgs::Memory;
use super::metric::ClassModel;
use super::pass::KernelPass;
use super::settings::LogisticSettings;
use super::space::Space;
use super::start::{Continuation, Start};
use super::stop::Stop;
use super::{ABSENT_SCORE, Linear, check_alpha, rounding};
use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::parallel::install;
use crate::kernel::{Precision, REDUCED_CLASSES, choose, choose_rounding};
use crate::moments::Design;
use crate::rows::TrainingRows;

/// A fitted logistic probe and how good it is; `M` is the memory of the space it was fitted in.
pub struct Fit<M> {
    /// The probe.
    pub probe: Linear,
    /// Its objective F(W, b).
    pub objective: f64,
    /// Upper bound on `(F − min F) / F`.
    pub gap: f64,
    /// The rule that ended the fit.
    pub stop: Stop,
    /// Passes over the training rows; the search for a start counts as its fraction.
    pub passes: f64,
    /// Those of them that rounded.
    pub reduced_passes: f64,
    /// Kernel of the exact passes.
    pub kernel: String,
    /// Kernel of the others; `None` if there were none.
    pub reduced_kernel: Option<String>,
    /// 0-1 error on the training rows.
    pub train_error: f64,
    /// For further fits on the same rows, or on these and others like them.
    pub continuation: Continuation<M>,
}

impl<M> Fit<M> {
    /// Whether the tolerance was reached, by either rule.
    pub fn converged(&self) -> bool {
        self.stop.converged()
    }
}

/// Fit a probe on the training rows, whose statistics `model` holds.
///
/// # Errors
/// [`Error::Parameter`] for settings out of range or a model of other rows, [`Error::Shape`] for another number of
/// rows, features or classes than its design has, [`Error::Interrupted`], [`Error::Numerical`] if the objective is not
/// finite. Reaching `max_passes` is no error.
pub fn fit_logistic(
    training: TrainingRows<'_>,
    model: &ClassModel,
    start: Start<'_, Memory>,
    settings: LogisticSettings,
    run: Run<'_>,
) -> Result<Fit<Memory>> {
    let design = model.design();
    training.matrix().check_features(design.n_features())?;
    let exact = choose(Precision::Exact)?;
    let may_round = settings.reduced && design.classes.len() >= REDUCED_CLASSES;
    let (scores, reduced) = if may_round { choose_rounding()? } else { (exact, exact) };
    let pass = KernelPass {
        matrix: training.matrix(),
        rows: training.rows(),
        targets: targets(training, design)?,
        design,
        exact,
        reduced,
        scores,
        n_threads: run.n_threads,
        control: run.control,
    };
    let rounds = || pass.rounds_residuals() && rounding::pays(design, settings.tol);
    let reduces = may_round && (scores.precision != Precision::Exact || rounds());
    let space = Host { pass, model, reduces };
    install(run.n_threads, || fit_in(&space, design, start, settings))
}

/// Fit a probe on the rows that a space goes over, those of `design`.
///
/// # Errors
/// Those of [`fit_logistic`] that do not concern rows, and those of the space.
pub fn fit_in<S: Space>(
    space: &S,
    design: &Design,
    start: Start<'_, S::Memory>,
    settings: LogisticSettings,
) -> Result<Fit<S::Memory>> {
    check_alpha(settings.alpha)?;
    if settings.tol.is_nan() || settings.tol <= 0.0 {
        return Err(Error::Parameter(format!("tol must be positive, got {}", settings.tol)));
    }
    if settings.error_tol.is_some_and(|tol| tol.is_nan() || tol <= 0.0) {
        return Err(Error::Parameter("error_tol must be positive".into()));
    }
    if design.n != space.n_rows() {
        return Err(Error::Shape { what: "number of rows", got: space.n_rows(), expected: design.n });
    }
    let reduced = settings.reduced && space.reduces();
    let mut solver = Solver {
        space,
        design,
        settings,
        reduced,
        small: 0.0,
        passes: 0.0,
        reduced_passes: 0.0,
        by_rows: false,
        without_row_metric: false,
    };
    let (point, memory) = start.prepare(&mut solver)?;
    let end = solver.descend(point, memory)?;
    let point = space.values(&end.point)?;
    let split = design.n_features() * design.classes.len();
    Ok(Fit {
        probe: Linear::from_present(design, &point[..split], &point[split..], ABSENT_SCORE),
        objective: end.at.objective,
        gap: end.gap / end.at.objective,
        stop: end.stop,
        passes: solver.passes,
        reduced_passes: solver.reduced_passes,
        kernel: space.kernel(false).into(),
        reduced_kernel: (solver.reduced_passes > 0.0).then(|| space.kernel(true).into()),
        train_error: end.at.train_error,
        continuation: Continuation::new(end.memory, settings.alpha, design),
    })
}

/// Class of each training row among the design's present classes, `(n)`.
///
/// # Errors
/// Those of [`fit_logistic`] for rows that are not the design's.
fn targets(training: TrainingRows<'_>, design: &Design) -> Result<Vec<u32>> {
    if training.n_classes() > design.n_classes {
        let (got, expected) = (training.n_classes(), design.n_classes);
        return Err(Error::Shape { what: "number of classes", got, expected });
    }
    if design.n != training.len() {
        return Err(Error::Shape { what: "number of rows", got: training.len(), expected: design.n });
    }
    let mut present = vec![u32::MAX; design.n_classes];
    for (c, &class) in design.classes.iter().enumerate() {
        present[class] = c as u32;
    }
    let targets: Vec<u32> = training.rows().iter().map(|&row| present[training.label(row)]).collect();
    let mut counts = vec![0_usize; design.classes.len()];
    for &class in &targets {
        if let Some(count) = counts.get_mut(class as usize) {
            *count += 1; // a class that the design lacks leaves the counts short
        }
    }
    let expected = design.priors.iter().map(|&share| (share * design.n as f64).round() as usize);
    if counts.iter().copied().eq(expected) {
        return Ok(targets);
    }
    Err(Error::Parameter("the design is of other rows: their classes differ from those of these".into()))
}
