//! Uncertainty of the five risks from the 0-1 outcomes of the rows they were judged on.
//!
//! The estimand is each risk's expectation over fresh samples of these class counts, encoder fixed. Strata
//! are class × {pooled subsets, rest of the training rows, test rows}; a resample draws n − 1 of the n rows
//! of each. Subset and rest draws together are the training resample, for R_AF, R_ΦF and the control
//! variate alike. [`covariance`] is the closed form; [`bootstrap`] draws, with the control variate's
//! coefficient fitted anew in each resample; each tests the other.

use rand::SeedableRng;
use rand_distr::{Binomial, Distribution};
use rand_pcg::Pcg64Mcg;

use crate::error::{Error, Result};

/// Number of risks.
pub const N_RISKS: usize = 5;
/// Positions in risk vectors.
pub const SUP: usize = 0;
/// See [`SUP`].
pub const AF: usize = 1;
/// See [`SUP`].
pub const AS: usize = 2;
/// See [`SUP`].
pub const CS: usize = 3;
/// See [`SUP`].
pub const US: usize = 4;

/// 0-1 errors of every judged row, one bit each.
#[derive(Debug, Clone)]
pub struct Errors<'a> {
    /// Training rows: bit 0 R_ΦF, bit 1 R_AF, bit 2 the full fit at α\* (control variate), bit 3 R_AS (rows
    /// of a subset only).
    pub train: &'a [u8],
    /// Class of each training row.
    pub train_labels: &'a [u32],
    /// Whether a training row lies in a held-out subset.
    pub in_subset: &'a [bool],
    /// Test rows: bit 0 R_US, bits 1 to m the m complement probes.
    pub test: &'a [u8],
    /// Class of each test row.
    pub test_labels: &'a [u32],
    /// m
    pub n_subsets: usize,
    /// Correct R_AS by the control variate.
    pub control_variate: bool,
}

/// Rows of one stratum by pattern.
type Patterns = [u64; 16];

struct Strata {
    subset: Vec<Patterns>,
    rest: Vec<Patterns>,
    test: Vec<Patterns>,
    n_subsets: usize,
    control_variate: bool,
}

impl Strata {
    fn new(errors: &Errors<'_>) -> Result<Self> {
        let check = |what, got, expected| {
            if got == expected { Ok(()) } else { Err(Error::Shape { what, got, expected }) }
        };
        check("train_labels", errors.train_labels.len(), errors.train.len())?;
        check("in_subset", errors.in_subset.len(), errors.train.len())?;
        check("test_labels", errors.test_labels.len(), errors.test.len())?;
        if errors.n_subsets == 0 || errors.n_subsets > 3 {
            return Err(Error::Parameter(format!(
                "between 1 and 3 held-out subsets, got {}",
                errors.n_subsets
            )));
        }
        if errors.test.is_empty() || !errors.in_subset.contains(&true) {
            return Err(Error::Parameter("no test rows, or no rows in held-out subsets".into()));
        }
        let labels = errors.train_labels.iter().chain(errors.test_labels);
        let k = labels.max().map_or(0, |&l| l as usize + 1);
        let empty = || vec![[0; 16]; k];
        let mut strata = Self {
            subset: empty(),
            rest: empty(),
            test: empty(),
            n_subsets: errors.n_subsets,
            control_variate: errors.control_variate,
        };
        for ((&bits, &label), &held_out) in errors.train.iter().zip(errors.train_labels).zip(errors.in_subset)
        {
            let side = if held_out { &mut strata.subset } else { &mut strata.rest };
            side[label as usize][usize::from(bits & 15)] += 1;
        }
        for (&bits, &label) in errors.test.iter().zip(errors.test_labels) {
            strata.test[label as usize][usize::from(bits & 15)] += 1;
        }
        Ok(strata)
    }

    /// Risks for pattern counts drawn from these strata; the weights of classes stay those of the full rows.
    fn risks(&self, drawn: &Self) -> ([f64; N_RISKS], f64) {
        let n: f64 = self.subset.iter().chain(&self.rest).map(total).sum();
        let n_test: f64 = self.test.iter().map(total).sum();
        let beta = if self.control_variate { drawn.beta() } else { 0.0 };
        let mut risks = [0.0; N_RISKS];
        let present = |c: usize| total(&self.subset[c]) > 0.0;
        // classes too small to be in a subset leave R_AS to the others
        let covered: f64 = (0..self.subset.len())
            .filter(|&c| present(c))
            .map(|c| total(&self.subset[c]) + total(&self.rest[c]))
            .sum();
        for c in 0..self.subset.len() {
            let (ns, nr) = (total(&self.subset[c]), total(&self.rest[c]));
            let mean = |bit| {
                let side = |p: &Patterns, size: f64| if size > 0.0 { size * share(p, bit) } else { 0.0 };
                (side(&drawn.subset[c], ns) + side(&drawn.rest[c], nr)) / n
            };
            risks[SUP] += mean(0);
            risks[AF] += mean(1);
            if ns > 0.0 {
                let weight = (ns + nr) / covered;
                risks[AS] += weight * (share(&drawn.subset[c], 3) - beta * share(&drawn.subset[c], 2));
            }
            risks[AS] += beta * mean(2);
            let nt = total(&self.test[c]);
            if nt > 0.0 {
                risks[US] += nt / n_test * share(&drawn.test[c], 0);
                for j in 1..=self.n_subsets {
                    risks[CS] += nt / n_test * share(&drawn.test[c], j) / self.n_subsets as f64;
                }
            }
        }
        (risks, beta)
    }

    /// Regression of R_AS outcomes on the control variate within the classes of the subset rows.
    fn beta(&self) -> f64 {
        let (mut product, mut square) = (0.0, 0.0);
        for patterns in &self.subset {
            let n = total(patterns);
            if n == 0.0 {
                continue;
            }
            let (e, f) = (share(patterns, 3), share(patterns, 2));
            let both: u64 = (0..16).filter(|p| p & 0b1100 == 0b1100).map(|p| patterns[p]).sum();
            product += both as f64 - n * e * f;
            square += n * f * (1.0 - f);
        }
        if square > 0.0 { product / square } else { 0.0 }
    }

    fn draw(&self, rng: &mut Pcg64Mcg) -> Self {
        let mut draw = |side: &[Patterns]| side.iter().map(|p| resample(p, rng)).collect();
        Self {
            subset: draw(&self.subset),
            rest: draw(&self.rest),
            test: draw(&self.test),
            n_subsets: self.n_subsets,
            control_variate: self.control_variate,
        }
    }
}

fn total(patterns: &Patterns) -> f64 {
    patterns.iter().sum::<u64>() as f64
}

/// Share of rows whose pattern has the bit.
fn share(patterns: &Patterns, bit: usize) -> f64 {
    let hits: u64 = (0..16).filter(|p| p >> bit & 1 == 1).map(|p| patterns[p]).sum();
    hits as f64 / total(patterns).max(1.0)
}

/// n − 1 of n rows with replacement (all of them where n is 1): a multinomial over the patterns.
fn resample(patterns: &Patterns, rng: &mut Pcg64Mcg) -> Patterns {
    let mut rows: u64 = patterns.iter().sum();
    let mut left = if rows > 1 { rows - 1 } else { rows };
    let mut drawn = [0; 16];
    for (count, &size) in drawn.iter_mut().zip(patterns) {
        if left == 0 || size == 0 {
            continue;
        }
        *count = if size == rows {
            left
        } else {
            Binomial::new(left, size as f64 / rows as f64).expect("a share is a probability").sample(rng)
        };
        left -= *count;
        rows -= size;
    }
    drawn
}

/// Risks, their covariance and the control variate's coefficient.
#[derive(Debug, Clone, PartialEq)]
pub struct RiskCovariance {
    /// In the order [`SUP`], [`AF`], [`AS`], [`CS`], [`US`].
    pub risks: [f64; N_RISKS],
    /// Of the risks.
    pub covariance: [[f64; N_RISKS]; N_RISKS],
    /// Of the classes' own risks around the mean, over n: to be added where class counts are random.
    pub between: [[f64; N_RISKS]; N_RISKS],
    /// The control variate's coefficient.
    pub beta: f64,
}

/// Closed-form stratified covariance of the risks: each risk is a sum of row scores, and a stratum of n
/// rows contributes n/(n−1) Σ (v − v̄)(v − v̄)ᵀ.
///
/// # Errors
/// [`Error::Shape`] and [`Error::Parameter`] for outcomes that do not fit together.
pub fn covariance(errors: &Errors<'_>) -> Result<RiskCovariance> {
    let strata = Strata::new(errors)?;
    let (risks, beta) = strata.risks(&strata);
    let k = strata.subset.len();
    let n: f64 = strata.subset.iter().chain(&strata.rest).map(total).sum();
    let n_test: f64 = strata.test.iter().map(total).sum();
    let covered: f64 = (0..k)
        .filter(|&c| total(&strata.subset[c]) > 0.0)
        .map(|c| total(&strata.subset[c]) + total(&strata.rest[c]))
        .sum();
    let bit = |pattern: usize, bit: usize| (pattern >> bit & 1) as f64;
    let mut covariance = [[0.0; N_RISKS]; N_RISKS];
    // moments of the classes' contributions, for the between-class part
    let mut train_classes = Vec::new();
    let mut test_classes = Vec::new();
    for c in 0..k {
        let (ns, nr, nt) = (total(&strata.subset[c]), total(&strata.rest[c]), total(&strata.test[c]));
        let train_score = |p: usize, held_out: bool| {
            let mut v = [0.0; N_RISKS];
            v[SUP] = bit(p, 0) / n;
            v[AF] = bit(p, 1) / n;
            v[AS] = beta * bit(p, 2) / n;
            if held_out {
                v[AS] += (ns + nr) / covered / ns * (bit(p, 3) - beta * bit(p, 2));
            }
            v
        };
        let test_score = |p: usize| {
            let mut v = [0.0; N_RISKS];
            v[US] = bit(p, 0) / n_test;
            v[CS] = (1..=strata.n_subsets).map(|j| bit(p, j)).sum::<f64>() / strata.n_subsets as f64 / n_test;
            v
        };
        let a = add_stratum(&mut covariance, &strata.subset[c], |p| train_score(p, true));
        let b = add_stratum(&mut covariance, &strata.rest[c], |p| train_score(p, false));
        let t = add_stratum(&mut covariance, &strata.test[c], test_score);
        if ns + nr > 0.0 {
            train_classes.push(((ns + nr) / n, std::array::from_fn(|i| (a[i] + b[i]) * n / (ns + nr))));
        }
        if nt > 0.0 {
            test_classes.push((nt / n_test, t.map(|v| v * n_test / nt)));
        }
    }
    let mut between = [[0.0; N_RISKS]; N_RISKS];
    for (classes, n) in [(train_classes, n), (test_classes, n_test)] {
        add_between(&mut between, &classes, n);
    }
    Ok(RiskCovariance { risks, covariance, between, beta })
}

/// Add a stratum's part of the covariance; returns the sum of its scores.
fn add_stratum(
    covariance: &mut [[f64; N_RISKS]; N_RISKS],
    patterns: &Patterns,
    score: impl Fn(usize) -> [f64; N_RISKS],
) -> [f64; N_RISKS] {
    let n = total(patterns);
    let mut sum = [0.0; N_RISKS];
    let occupied: Vec<(f64, [f64; N_RISKS])> =
        (0..16).filter(|&p| patterns[p] > 0).map(|p| (patterns[p] as f64, score(p))).collect();
    for (count, v) in &occupied {
        for i in 0..N_RISKS {
            sum[i] += count * v[i];
        }
    }
    if n > 1.0 {
        for (count, v) in &occupied {
            for i in 0..N_RISKS {
                for j in 0..N_RISKS {
                    covariance[i][j] += n / (n - 1.0) * count * (v[i] - sum[i] / n) * (v[j] - sum[j] / n);
                }
            }
        }
    }
    sum
}

fn add_between(between: &mut [[f64; N_RISKS]; N_RISKS], classes: &[(f64, [f64; N_RISKS])], n: f64) {
    let mean: [f64; N_RISKS] = std::array::from_fn(|i| classes.iter().map(|(w, v)| w * v[i]).sum());
    for (w, v) in classes {
        for i in 0..N_RISKS {
            for j in 0..N_RISKS {
                between[i][j] += w * (v[i] - mean[i]) * (v[j] - mean[j]) / n;
            }
        }
    }
}

/// Risks of `n_resamples` joint resamples.
///
/// # Errors
/// As [`covariance`].
pub fn bootstrap(errors: &Errors<'_>, n_resamples: usize, seed: u64) -> Result<Vec<[f64; N_RISKS]>> {
    let strata = Strata::new(errors)?;
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    Ok((0..n_resamples).map(|_| strata.risks(&strata.draw(&mut rng)).0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn outcomes(n: usize, n_test: usize, seed: u64) -> (Vec<u8>, Vec<u32>, Vec<bool>, Vec<u8>, Vec<u32>) {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut bits = |ps: [f64; 4]| {
            // errors of the probes are correlated: a common uniform half of the time
            let shared: f64 = rng.random();
            ps.iter().enumerate().fold(0, |b, (i, &p)| {
                let own: f64 = if rng.random_bool(0.7) { shared } else { rng.random() };
                b | u8::from(own < p) << i
            })
        };
        let train = (0..n).map(|_| bits([0.02, 0.06, 0.07, 0.2])).collect();
        let test = (0..n_test).map(|_| bits([0.22, 0.23, 0.23, 0.23])).collect();
        (
            train,
            (0..n).map(|i| (i % 5) as u32).collect(),
            (0..n).map(|i| i % 7 == 0).collect(),
            test,
            (0..n_test).map(|i| (i % 5) as u32).collect(),
        )
    }

    #[test]
    fn closed_form_and_bootstrap_agree() {
        let (train, train_labels, in_subset, test, test_labels) = outcomes(2100, 700, 1);
        for control_variate in [false, true] {
            let errors = Errors {
                train: &train,
                train_labels: &train_labels,
                in_subset: &in_subset,
                test: &test,
                test_labels: &test_labels,
                n_subsets: 3,
                control_variate,
            };
            let closed = covariance(&errors).unwrap();
            let n = 4000;
            let draws = bootstrap(&errors, n, 7).unwrap();
            let mean: [f64; 5] = std::array::from_fn(|i| draws.iter().map(|d| d[i]).sum::<f64>() / n as f64);
            for i in 0..5 {
                let se = closed.covariance[i][i].sqrt();
                // the mean of n draws, and the shrink of a resampled β
                assert!((mean[i] - closed.risks[i]).abs() < 5.0 * se / (n as f64).sqrt() + 0.03 * se, "{i}");
                for j in 0..5 {
                    let drawn = draws.iter().map(|d| (d[i] - mean[i]) * (d[j] - mean[j])).sum::<f64>()
                        / (n - 1) as f64;
                    let scale = (closed.covariance[i][i] * closed.covariance[j][j]).sqrt();
                    // 4 standard errors of a covariance over n draws
                    let slack = 4.0 * (2.0 / n as f64).sqrt() * scale;
                    assert!((drawn - closed.covariance[i][j]).abs() < slack, "{control_variate} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn control_variate_narrows_risk_as_and_moves_nothing_else() {
        let (train, train_labels, in_subset, test, test_labels) = outcomes(2100, 700, 3);
        let errors = |control_variate| Errors {
            train: &train,
            train_labels: &train_labels,
            in_subset: &in_subset,
            test: &test,
            test_labels: &test_labels,
            n_subsets: 1,
            control_variate,
        };
        let (plain, controlled) = (covariance(&errors(false)).unwrap(), covariance(&errors(true)).unwrap());
        assert!(controlled.covariance[AS][AS] < plain.covariance[AS][AS]);
        for risk in [SUP, AF, CS, US] {
            assert_eq!(plain.risks[risk], controlled.risks[risk]);
        }
        // without strata a risk is a plain mean
        let want = test.iter().filter(|&&b| b & 1 == 1).count() as f64 / 700.0;
        assert!((plain.risks[US] - want).abs() < 1e-12);
    }

    #[test]
    fn shapes_and_empty_sets_are_refused() {
        let errors = Errors {
            train: &[0],
            train_labels: &[0, 1],
            in_subset: &[true],
            test: &[0],
            test_labels: &[0],
            n_subsets: 1,
            control_variate: true,
        };
        assert!(matches!(covariance(&errors), Err(Error::Shape { .. })));
        assert!(covariance(&Errors { train_labels: &[0], in_subset: &[false], ..errors }).is_err());
    }
}
