//! A pass over rows as they lie against one over staged rows.

use half::f16;

use super::pass::{KernelPass, Sums};
use super::rounding::Rounding;
use super::space::Collect;
use crate::control::{Control, Run};
use crate::kernel::{FEW_CLASSES, Few, Kernel, Precision, SparseProduct, choose, usable};
use crate::moments::{Design, Moments, Scaling};
use crate::rows::{Matrix, Segment, TrainingRows, Values};

const D: usize = 37;
/// More than a thread sums before it hands over, and no whole number of blocks or lanes.
const N: usize = 9_001;

fn segments<'a>(halves: &'a [f16], singles: &'a [f32], kind: &str) -> Vec<Segment<'a>> {
    let cut = 4_000 * D;
    let of = |values| Segment { values, guard: None };
    match kind {
        "float16" => vec![of(Values::F16(&halves[..cut])), of(Values::F16(&halves[cut..]))],
        "float32" => vec![of(Values::F32(singles))],
        _ => vec![of(Values::F16(&halves[..cut])), of(Values::F32(&singles[cut..]))],
    }
}

fn sums(
    matrix: &Matrix<'_>,
    design: &Design,
    labels: &[u32],
    (kernel, scores): (&'static Kernel, &'static Kernel),
    threads: usize,
    rounding: Rounding,
) -> Sums {
    let k = design.classes.len();
    let rows: Vec<u32> = (0..matrix.n_rows() as u32).filter(|row| row % 7 != 3).collect();
    let control = Control::new();
    let pass = KernelPass {
        matrix,
        rows: &rows,
        targets: rows.iter().map(|&row| labels[row as usize]).collect(),
        design,
        exact: kernel,
        reduced: kernel,
        scores,
        n_threads: threads,
        control: &control,
    };
    let point: Vec<f64> = (0..(D + 1) * k).map(|i| ((i * 29) % 31) as f64 / 90.0 - 0.17).collect();
    let collect = Collect { curvature: true, covariance: true };
    crate::kernel::parallel::install(threads, || pass.sums(&point, collect, rounding)).unwrap()
}

#[test]
fn rows_as_they_lie_give_the_sums_of_staged_rows() {
    let has_few = |kernel: &&Kernel| Few::new(kernel, &[0.0], &[1.0], 2).is_some();
    let with_few: Vec<_> = usable().iter().copied().filter(has_few).collect();
    if with_few.is_empty() {
        println!("not run: this CPU has no products of few classes");
    }
    let staged = usable().iter().copied().find(|kernel| kernel.name == "portable").unwrap();
    let halves: Vec<f16> =
        (0..N * D).map(|i| f16::from_f32(((i * 7_919 + i / D * 31) % 1_009) as f32 / 300.0 - 1.0)).collect();
    let singles: Vec<f32> = halves.iter().map(|v| v.to_f32()).collect();
    for k in [2, 5, 12, FEW_CLASSES, FEW_CLASSES + 1] {
        let labels: Vec<u32> = (0..N).map(|i| ((i * 11 + i / 10) % k) as u32).collect();
        let control = Control::new();
        let whole = Matrix::new(D, segments(&halves, &singles, "float32")).unwrap();
        let all: Vec<u32> = (0..N as u32).filter(|row| row % 7 != 3).collect();
        let training = TrainingRows::new(&whole, &all, &labels, k).unwrap();
        let mut moments = Moments::new(k, 1, vec![0.0; D]).unwrap();
        moments.update(training, &vec![0; N], Run { n_threads: 1, control: &control }).unwrap();
        let design = moments.design(&[0], Scaling::Standardize).unwrap();
        let want = sums(&whole, &design, &labels, (staged, staged), 1, Rounding::Exact);
        for kind in ["float16", "float32", "both"] {
            let matrix = Matrix::new(D, segments(&halves, &singles, kind)).unwrap();
            assert_eq!(matrix.value_bytes().is_none(), kind == "both");
            for (few, threads) in with_few.iter().flat_map(|few| [(few, 1), (few, 2)]) {
                let got = sums(&matrix, &design, &labels, (few, few), threads, Rounding::Exact);
                assert_eq!(got.errors, want.errors, "{} {k} {kind} {threads}", few.name);
                // float32 sums of 37 features and of up to 4096 rows in another order, next to sums of n terms near 1
                let near = |a: f64, b: f64, size: f64| (a - b).abs() <= 2e-6 * size;
                let n = all.len() as f64;
                assert!(
                    near(got.loss, want.loss, want.loss) && near(got.entropy, want.entropy, want.entropy)
                );
                assert_eq!(got.gradient.len(), (D + 1) * k);
                for (at, (&a, &b)) in got.gradient.iter().zip(&want.gradient).enumerate() {
                    assert!(near(a, b, n), "{} {k} {kind} {threads} {at}: {a} {b}", few.name);
                }
                let (a, b) = (got.curvature.unwrap(), want.curvature.as_ref().unwrap());
                for (a, b) in a.mass.iter().chain(&a.squares).zip(b.mass.iter().chain(&b.squares)) {
                    assert!(near(*a, *b, *b), "{a} {b}");
                }
                for (a, b) in a.heaviest.iter().flatten().zip(b.heaviest.iter().flatten()) {
                    assert!(a.0 == b.0 && near(a.1, b.1, b.1), "{a:?} {b:?}");
                }
                assert_eq!(got.sample.len(), want.sample.len());
                let pairs = got.sample.iter().zip(&want.sample);
                assert!(
                    pairs.clone().all(|(&a, &b)| near(f64::from(a), f64::from(b), 1.0)) && pairs.len() > 0
                );
            }
        }
    }
}

/// What rounds are scores: by half a unit in 4095, of rows and of weights.
#[test]
fn passes_with_scores_in_whole_numbers_are_near_exact_ones() {
    let (k, n_rows) = (40, 20_000);
    with_many_classes(k, n_rows, |matrix, design, labels| {
        let exact = choose(Precision::Exact).unwrap();
        let want = sums(matrix, design, labels, (exact, exact), 1, Rounding::Exact);
        let fixed: Vec<_> = usable().iter().filter(|kernel| kernel.precision == Precision::Fixed).collect();
        assert!(!fixed.is_empty());
        for scores in fixed {
            let of = |rounding, threads| sums(matrix, design, labels, (exact, scores), threads, rounding);
            assert_eq!(of(Rounding::Exact, 1).gradient, want.gradient); // such passes do not round
            for (small, threads) in [(0.0, 1), (0.0, 2), (1.0 / 1024.0, 2)] {
                let got = of(Rounding::Rounded { small }, threads);
                // scores near 1 are off by about 37 random halves of 1/4095, losses of 20,000 rows and gradients by less
                let near = |a: f64, b: f64, size: f64| (a - b).abs() <= 1e-3 * size;
                let n = design.n as f64;
                assert!(
                    near(got.loss, want.loss, n) && near(got.entropy, want.entropy, n),
                    "{}",
                    scores.name
                );
                assert!(near(got.errors as f64, want.errors as f64, n), "{}", scores.name);
                assert!(got.loss != want.loss, "{}: nothing was rounded", scores.name);
                for (&a, &b) in got.gradient.iter().zip(&want.gradient) {
                    assert!(near(a, b, n), "{} {small} {threads}: {a} {b}", scores.name);
                }
            }
        }
    });
}

/// Rows, their design and labels.
fn with_many_classes(k: usize, n_rows: usize, test: impl FnOnce(&Matrix<'_>, &Design, &[u32])) {
    let singles: Vec<f32> =
        (0..n_rows * D).map(|i| ((i * 7_919 + i / D * 31) % 1_009) as f32 / 300.0 - 1.0).collect();
    let labels: Vec<u32> = (0..n_rows).map(|i| ((i * 11 + i / 10) % k) as u32).collect();
    let matrix = Matrix::new(D, vec![Segment { values: Values::F32(&singles), guard: None }]).unwrap();
    let all: Vec<u32> = (0..n_rows as u32).filter(|row| row % 7 != 3).collect();
    let training = TrainingRows::new(&matrix, &all, &labels, k).unwrap();
    let mut moments = Moments::new(k, 1, vec![0.0; D]).unwrap();
    moments.update(training, &vec![0; n_rows], Run { n_threads: 1, control: &Control::new() }).unwrap();
    let design = moments.design(&[0], Scaling::Standardize).unwrap();
    test(&matrix, &design, &labels);
}

/// Only the gradient of the weights is rounded, by as much as the variance of what becomes zero or `small` says.
#[test]
fn passes_that_round_small_residuals_are_right_but_for_their_variance() {
    let (k, n_rows) = (40, 80_000); // each of two threads hands its sums over once before its last rows
    with_many_classes(k, n_rows, |matrix, design, labels| {
        // scores near each other: every residual but the label's is about 1/40
        let small = 0.5;
        for kernel in usable().iter().filter(|kernel| SparseProduct::suits(kernel)) {
            let of = |rounding, threads| sums(matrix, design, labels, (kernel, kernel), threads, rounding);
            let want = of(Rounding::Exact, 1);
            let got = of(Rounding::Rounded { small }, 1);
            let both = of(Rounding::Rounded { small }, 2);
            let n = design.n as f64;
            // the float32 sums of two threads are cut elsewhere
            let pairs = got.gradient.iter().zip(&both.gradient);
            assert!(pairs.clone().all(|(a, b)| (a - b).abs() <= 1e-6 * n), "{}", kernel.name);
            assert_eq!((got.loss, got.entropy, got.errors), (want.loss, want.entropy, want.errors));
            assert_eq!(got.gradient[D * k..], want.gradient[D * k..]);
            assert_eq!(got.curvature.unwrap().mass, want.curvature.unwrap().mass);
            assert_eq!(got.sample, want.sample);
            let errors: Vec<f64> =
                got.gradient.iter().zip(&want.gradient).map(|(a, b)| a - b).take(D * k).collect();
            let mean_square = errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64;
            // n residuals of 1/40 at features of variance 1: n · r (small − r)
            let variance = n / 40.0 * (f64::from(small) - 1.0 / 40.0);
            assert!(
                (0.7..1.4).contains(&(mean_square / variance)),
                "{}: {mean_square} {variance}",
                kernel.name
            );
            let mean = errors.iter().sum::<f64>() / errors.len() as f64;
            assert!(mean.abs() <= 5.0 * (variance / errors.len() as f64).sqrt(), "{}: {mean}", kernel.name);
        }
    });
}
