//! Products of few classes against sums in float64.

use half::f16;

use super::few::{FEW_CLASSES, Few, FewRows};
use super::{LANES, panels_len, usable};
use crate::values::Values;

fn value(i: usize, j: usize) -> f32 {
    f16::from_f32(((i * 31 + j * 17) % 101) as f32 / 16.0 - 3.0).to_f32()
}

fn with<'a>(halves: &'a [f16], singles: &'a [f32], is_half: bool, d: usize) -> FewRows<'a> {
    let n = singles.len() / d;
    FewRows::new((0..n).map(|i| {
        let range = i * d..(i + 1) * d;
        if is_half { Values::F16(&halves[range]) } else { Values::F32(&singles[range]) }
    }))
}

/// Rows end where their memory does: a kernel that reads beyond the last feature would read the next row, or nothing.
#[test]
fn products_on_rows_as_they_lie_agree_with_float64() {
    let mut seen = 0;
    for kernel in usable() {
        for (n, d) in [
            (1, 1),
            (3, 15),
            (5, 16),
            (7, 17),
            (33, 31),
            (40, 64),
            (97, 129),
            (18, 200),
            (9, 511),
            (9, 513),
            (10, 1029),
        ] {
            for k in 2..=FEW_CLASSES {
                let shift: Vec<f32> = (0..d).map(|j| (j % 7) as f32 * 0.37).collect();
                let scale: Vec<f32> = (0..d).map(|j| (j % 5) as f32 * 0.8).collect();
                let few = Few::new(kernel, &shift, &scale, k);
                assert_eq!(
                    few.is_some(),
                    kernel.few.is_some_and(|few| k <= few.classes),
                    "{} {k}",
                    kernel.name
                );
                let Some(few) = few else { continue };
                seen += 1;
                let singles: Vec<f32> = (0..n * d).map(|at| value(at / d, at % d)).collect();
                let halves: Vec<f16> = singles.iter().map(|&v| f16::from_f32(v)).collect();
                let weights: Vec<f64> = (0..d * k).map(|at| ((at * 13) % 23) as f64 / 8.0 - 1.3).collect();
                let stride = n.next_multiple_of(LANES);
                let mut residuals = vec![0.0; FEW_CLASSES * stride];
                for c in 0..k {
                    for i in 0..n {
                        residuals[c * stride + i] = ((c * 5 + i * 3) % 11) as f32 / 11.0 - 0.4;
                    }
                }
                for is_half in [true, false] {
                    let rows = with(&halves, &singles, is_half, d);
                    let mut scores = vec![f32::NAN; FEW_CLASSES * stride];
                    few.forward(&rows, &few.pack(&weights), &mut scores, stride);
                    let mut sum = few.zeros();
                    few.backward_add(&rows, &residuals, stride, &mut sum);
                    few.backward_add(&rows, &residuals, stride, &mut sum);
                    let mut panels = vec![1.0; panels_len(d, k)];
                    few.drain(&mut sum, &mut panels);
                    let mut cleared = vec![0.0; panels_len(d, k)];
                    few.drain(&mut sum, &mut cleared);
                    assert!(cleared.iter().all(|&v| v == 0.0));
                    let x = |i: usize, j: usize| f64::from((singles[i * d + j] - shift[j]) * scale[j]);
                    // float32 roundings, one for each term at most
                    let near = |got: f32, want: f64, size: f64, terms: usize| {
                        (f64::from(got) - want).abs()
                            <= f64::from(f32::EPSILON) * size * (2.0 + (terms as f64).sqrt())
                    };
                    for c in 0..k {
                        for i in 0..n {
                            let terms = (0..d).map(|j| x(i, j) * weights[j * k + c]);
                            let (want, size) = terms.fold((0.0, 0.0), |(s, a), t: f64| (s + t, a + t.abs()));
                            let got = scores[c * stride + i];
                            assert!(
                                near(got, want, size, d),
                                "{} {n} {d} {k} {i} {c}: {got} {want}",
                                kernel.name
                            );
                        }
                        for j in 0..d {
                            let terms = (0..n).map(|i| 2.0 * x(i, j) * f64::from(residuals[c * stride + i]));
                            let (want, size) = terms.fold((1.0, 1.0), |(s, a), t: f64| (s + t, a + t.abs()));
                            let got = panels[j * LANES + c];
                            assert!(
                                near(got, want, size, 2 * n),
                                "{} {n} {d} {k} {j} {c}: {got} {want}",
                                kernel.name
                            );
                        }
                    }
                }
            }
            assert!(Few::new(kernel, &[0.0], &[1.0], FEW_CLASSES + 1).is_none());
        }
    }
    let expected =
        usable().iter().any(|kernel| ["avx512_f32", "avx2_f32", "neon_f32"].contains(&kernel.name));
    assert_eq!(seen > 0, expected);
}

#[test]
#[should_panic(expected = "rows of one kind")]
fn rows_of_two_types_are_refused() {
    FewRows::new([Values::F16(&[f16::ONE]), Values::F32(&[1.0])].into_iter());
}
