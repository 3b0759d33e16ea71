//! What probes do on rows they are judged on: predicted class, rank of the true class, log loss, margin.

use crate::control::Run;
use crate::error::{Error, Result};
use crate::kernel::parallel::fold_blocks;
use crate::kernel::{Panels, Precision, RowBuffer, Rows, block_rows, choose, forward, padded, row_stride};
use crate::probe::{Linear, check_scores};
use crate::rows::{Matrix, TrainingRows};

/// Outcomes of one probe on rows, each of length `rows.len()`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcomes {
    /// Class with the largest score; the lowest of equals.
    pub predicted: Vec<u32>,
    /// Classes scored above the true one (0: top-1 correct); equals of a lower index count as above.
    pub rank: Vec<u32>,
    /// −log softmax(scores)\[y\].
    pub loss: Vec<f32>,
    /// Score of the true class less the best other one (0 where there is no other).
    pub margin: Vec<f32>,
}

/// A probe's weights as the kernels read them.
struct Packed {
    weights: Panels,
    intercept: Vec<f32>,
}

/// Judge several probes on the same rows in one pass; none, where there are no probes.
///
/// # Errors
/// [`Error::Shape`] if a probe has another number of features or fewer classes than the rows,
/// [`Error::BadValue`] for NaN or infinity, [`Error::Numerical`] for scores that are not finite,
/// [`Error::Interrupted`].
pub fn judge(judged: TrainingRows<'_>, probes: &[&Linear], run: Run<'_>) -> Result<Vec<Outcomes>> {
    for probe in probes {
        if probe.n_classes() < judged.n_classes() {
            let (got, expected) = (probe.n_classes(), judged.n_classes());
            return Err(Error::Shape { what: "number of classes of a probe", got, expected });
        }
    }
    if probes.is_empty() {
        return Ok(Vec::new());
    }
    let runs = each_scores(
        judged.matrix(),
        judged.rows(),
        probes,
        run,
        |out: &mut Vec<Outcomes>, p, id, scores| {
            out.resize(probes.len(), Outcomes::default());
            let label = judged.label(id);
            let own = scores[label];
            let mut best = 0;
            let mut rank = 0;
            let mut other = f32::NEG_INFINITY;
            for (c, &s) in scores.iter().enumerate() {
                if s > scores[best] {
                    best = c;
                }
                if c != label {
                    other = other.max(s);
                }
                rank += u32::from(s > own || (s == own && c < label));
            }
            let max = f64::from(scores[best]);
            let total: f64 = scores.iter().map(|&s| (f64::from(s) - max).exp()).sum();
            out[p].predicted.push(best as u32);
            out[p].rank.push(rank);
            out[p].loss.push((total.ln() + max - f64::from(own)) as f32);
            out[p].margin.push(if other.is_finite() { own - other } else { 0.0 });
        },
    )?;
    let mut all = vec![Outcomes::default(); probes.len()];
    for run in runs {
        for (all, run) in all.iter_mut().zip(run) {
            all.predicted.extend(run.predicted);
            all.rank.extend(run.rank);
            all.loss.extend(run.loss);
            all.margin.extend(run.margin);
        }
    }
    Ok(all)
}

/// Scores of one probe, `(rows, k)` row-major.
///
/// # Errors
/// As [`judge`].
pub fn scores(matrix: &Matrix<'_>, rows: &[u32], probe: &Linear, run: Run<'_>) -> Result<Vec<f32>> {
    matrix.check_in(rows)?;
    let runs = each_scores(matrix, rows, &[probe], run, |out: &mut Vec<f32>, _, _, scores| {
        out.extend_from_slice(scores);
    })?;
    Ok(runs.concat())
}

/// Call `visit(accumulator, probe index, row, scores)` for every probe and row.
fn each_scores<A: Send + Default>(
    matrix: &Matrix<'_>,
    rows: &[u32],
    probes: &[&Linear],
    run: Run<'_>,
    visit: impl Fn(&mut A, usize, u32, &[f32]) + Sync,
) -> Result<Vec<A>> {
    let d = matrix.n_features();
    let kernel = choose(Precision::Exact)?;
    let mut packed = Vec::with_capacity(probes.len());
    for probe in probes {
        matrix.check_features(probe.affine.shift.len())?;
        let values: Vec<f32> = probe.weights.iter().map(|&w| w as f32).collect();
        let mut weights = Panels::default();
        weights.pack(kernel, &values, d, probe.n_classes(), probe.n_classes());
        packed.push(Packed { weights, intercept: probe.intercept.iter().map(|&b| b as f32).collect() });
    }
    let k = probes.iter().map(|p| padded(p.n_classes())).max().unwrap_or(1);
    let stride = row_stride(d);
    let block = block_rows(3 * d + k);
    let runs = fold_blocks(
        rows.len(),
        block,
        run.n_threads,
        || {
            let rows = || vec![0.0; block * stride];
            (A::default(), rows(), rows(), RowBuffer::default(), vec![0.0; block * k])
        },
        |(out, x, scaled, buffer, z), range| {
            let rows = &rows[range];
            run.control.advance(rows.len())?;
            let x = &mut x[..rows.len() * stride];
            // NaN compares below and above nothing: its row would count as judged correctly
            matrix.stage_finite(rows, x, stride)?;
            for (p, (probe, packed)) in probes.iter().zip(&packed).enumerate() {
                let k = probe.n_classes();
                // probes of one design share their coordinates: scale once
                if p == 0 || probe.affine != probes[p - 1].affine {
                    scaled[..x.len()].copy_from_slice(x);
                    probe.affine.apply(&mut scaled[..x.len()], stride);
                }
                let operand = Rows::new(kernel, scaled, rows.len(), d, stride, buffer);
                forward(kernel, &operand, &packed.weights, &packed.intercept, z);
                for (&id, scores) in rows.iter().zip(z.chunks_exact(padded(k))) {
                    check_scores(id, &scores[..k])?;
                    visit(out, p, id, &scores[..k]);
                }
            }
            Ok(())
        },
    )?;
    Ok(runs.into_iter().map(|run| run.0).collect())
}
