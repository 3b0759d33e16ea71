//! One suite over all kernels: bit-exact on small integers, float64 on everything else.

#[cfg(target_arch = "x86_64")]
use super::self_test::passes_self_test;
use super::*;

/// Kernels to test: those this machine runs, and models of those that it need not have.
fn runnable(names: &mut Vec<&'static str>) -> Vec<&'static Kernel> {
    for (name, _, availability) in list() {
        match availability {
            Availability::Usable => {}
            Availability::Missing => println!("not run: this CPU cannot run {name}"),
            Availability::OffByDefault => println!("not run: {name} is off by default ({AMX_VARIABLE}=1)"),
        }
        names.push(name);
    }
    with_models()
}

pub(super) fn with_models() -> Vec<&'static Kernel> {
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))] // only x86-64 has models of AMX
    let mut kernels = usable().to_vec();
    #[cfg(target_arch = "x86_64")]
    kernels.extend([&model::EXACT, &model::BF16]);
    kernels
}

fn random(n: usize, seed: u32, f: impl Fn(u32) -> f32) -> Vec<f32> {
    let mut s = seed.wrapping_mul(2_654_435_761).max(1);
    (0..n)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 17;
            s ^= s << 5;
            f(s)
        })
        .collect()
}

fn integers(n: usize, seed: u32) -> Vec<f32> {
    random(n, seed, |s| (s % 17) as f32 - 8.0)
}

struct Products {
    z: Vec<f32>,
    g: Vec<f64>,
    gram: Symmetric,
}

/// x (n, d), w (d, k), b (k), r (n, k) → xw + b, xᵀr, xᵀx.
fn products(kernel: &Kernel, x: &[f32], w: &[f32], b: &[f32], r: &[f32], d: usize) -> Products {
    let (n, k) = (x.len() / d, b.len());
    let [mut xs, mut ws, mut rs, mut columns] = std::array::from_fn(|_| Panels::default());
    // twice, so that what a buffer held before would show
    let (more_x, more_r) = (vec![7.0; (n + 16) * d], vec![3.0; (n + 16) * k]);
    for (x, w, r) in [(&more_x[..], &vec![5.0; d * k][..], &more_r[..]), (x, w, r)] {
        let n = x.len() / d;
        xs.pack(kernel, x, n, d, d);
        columns.pack(kernel, x, n, d, d);
        ws.pack(kernel, w, d, k, k);
        rs.pack(kernel, r, n, k, k);
    }
    let stride = row_stride(d);
    let mut staged = vec![f32::NAN; n.next_multiple_of(LANES) * stride];
    for (staged, x) in staged.chunks_exact_mut(stride).zip(x.chunks_exact(d)) {
        staged[..d].copy_from_slice(x);
    }
    let mut buffer = RowBuffer::default();
    let wide = row_stride(d + 40);
    Rows::new(kernel, &vec![f32::NAN; n.next_multiple_of(LANES) * wide], n, d + 40, wide, &mut buffer);
    let rows = Rows::new(kernel, &staged, n, d, stride, &mut buffer);
    let mut z = vec![f32::NAN; n.next_multiple_of(LANES) * padded(k)];
    forward(kernel, &rows, &ws, b, &mut z);
    let mut spread = vec![f32::NAN; z.len()];
    forward_by(Work::Spread, kernel, &rows, &ws, b, &mut spread);
    let mut sum = vec![1.0; panels_len(d, k)];
    backward_add(kernel, &Columns::new(kernel, &rows, &rs, &mut columns), &rs, &mut sum);
    let mut spread_sum = vec![1.0; panels_len(d, k)];
    let columns = Columns::new(kernel, &rows, &rs, &mut columns);
    backward_add_by(Work::Spread, kernel, &columns, &rs, &mut spread_sum);
    let bits = |sum: &[f32]| sum.iter().map(|v| v.to_bits()).collect::<Vec<_>>(); // padding holds NaN
    assert!(bits(&sum) == bits(&spread_sum), "{}", kernel.name);
    let of_rows = |z: &[f32]| -> Vec<f32> {
        z.chunks_exact(padded(k)).take(n).flat_map(|row| row[..k].to_vec()).collect()
    };
    assert!(of_rows(&z) == of_rows(&spread), "{}", kernel.name);
    let mut g = vec![0.0; d * k];
    flush(&mut sum, &mut g, k);
    assert!(sum.iter().all(|&v| v == 0.0));
    let mut gram = Symmetric::new(d);
    gram.add_gram(kernel, std::iter::once(&xs));
    Products { z, g, gram }
}

const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 2),
    (7, 3, 2),
    (16, 16, 16),
    (17, 15, 17),
    (33, 31, 10),
    (64, 65, 33),
    (257, 40, 48),
    (300, 130, 3),
    (513, 520, 20),
];

#[test]
fn every_kernel_is_bit_exact_on_small_integers() {
    let mut names = Vec::new();
    for kernel in runnable(&mut names) {
        for (n, d, k) in SIZES {
            let (x, w, b, r) = (integers(n * d, 1), integers(d * k, 2), integers(k, 3), integers(n * k, 4));
            let p = products(kernel, &x, &w, &b, &r, d);
            let at = |m: &[f32], i: usize, j: usize, ld: usize| f64::from(m[i * ld + j]);
            for i in 0..n {
                for (c, &b) in b.iter().enumerate() {
                    let want: f64 =
                        f64::from(b) + (0..d).map(|j| at(&x, i, j, d) * at(&w, j, c, k)).sum::<f64>();
                    assert_eq!(at(&p.z, i, c, padded(k)), want, "{} forward {n} {d} {k}", kernel.name);
                }
            }
            for j in 0..d {
                for c in 0..k {
                    let want: f64 = 1.0 + (0..n).map(|i| at(&x, i, j, d) * at(&r, i, c, k)).sum::<f64>();
                    assert_eq!(p.g[j * k + c], want, "{} backward {n} {d} {k}", kernel.name);
                }
                for l in 0..d {
                    let want: f64 = (0..n).map(|i| at(&x, i, j, d) * at(&x, i, l, d)).sum::<f64>();
                    assert_eq!(p.gram.get(j, l), want, "{} gram {n} {d} {j} {l}", kernel.name);
                }
            }
        }
    }
    assert!(names.contains(&"portable"));
}

/// Values as features have them, near float16's limits, subnormal and mixed; errors relative to Σ|ab|.
#[test]
fn every_kernel_agrees_with_float64() {
    let unit = |s: u32| (s >> 8) as f32 / (1 << 24) as f32;
    type Values = fn(f32) -> f32;
    let classes: [(&str, Values); 5] = [
        ("post-relu", |u| (u - 0.5).max(0.0) * 3.0),
        ("signed", |u| u - 0.5),
        ("limits", |u| if u < 0.5 { -65504.0 } else { 65504.0 * u }),
        ("subnormal halves", |u| (u - 0.5) * 1e-4),
        ("mixed", |u| {
            if u < 0.3 {
                0.0
            } else if u < 0.6 {
                6e-8
            } else {
                65504.0 * (u - 0.8)
            }
        }),
    ];
    let mut names = Vec::new();
    for kernel in runnable(&mut names) {
        // float32: a rounding for each of the n or d sums, mostly of random sign, or three errors of 2⁻¹⁸ a product
        // where factors are split; bfloat16: two of 2⁻⁹ a product
        let tolerance = match kernel.precision {
            Precision::Exact => 4.0 * f64::from(f32::EPSILON) * 1025.0_f64.sqrt(),
            Precision::Bf16 => 8e-3,
            Precision::Fixed => continue, // rounds to whole numbers: `fixed_tests` has values in their units
        };
        for (class, f) in classes {
            for (n, d, k) in [(97, 65, 10), (600, 33, 37), (1025, 129, 5)] {
                let x: Vec<f32> =
                    random(n * d, 5, unit).into_iter().map(|u| half::f16::from_f32(f(u)).to_f32()).collect();
                let (w, b) = (random(d * k, 6, |s| unit(s) - 0.5), vec![0.0; k]);
                let r = random(n * k, 7, |s| unit(s) - 0.5);
                let p = products(kernel, &x, &w, &b, &r, d);
                let check = |got: f64, pairs: &mut dyn Iterator<Item = (f32, f32)>, what: &str| {
                    let (mut sum, mut size) = (0.0, 0.0);
                    for (a, b) in pairs {
                        let ab = f64::from(a) * f64::from(b);
                        sum += ab;
                        size += ab.abs();
                    }
                    assert!(
                        (got - sum).abs() <= tolerance * size + 1e-37,
                        "{} {what} {class} {n} {d} {k}: {got} {sum} {size}",
                        kernel.name
                    );
                };
                for i in [0, n / 2, n - 1] {
                    for c in 0..k {
                        let mut pairs = (0..d).map(|j| (x[i * d + j], w[j * k + c]));
                        check(f64::from(p.z[i * padded(k) + c]), &mut pairs, "forward");
                    }
                }
                for j in [0, d / 2, d - 1] {
                    for c in 0..k {
                        // g started at 1, one more product
                        let mut pairs = (0..n).map(|i| (x[i * d + j], r[i * k + c])).chain([(1.0, 1.0)]);
                        check(p.g[j * k + c], &mut pairs, "backward");
                    }
                    for l in 0..d {
                        let mut pairs = (0..n).map(|i| (x[i * d + j], x[i * d + l]));
                        check(p.gram.get(j, l), &mut pairs, "gram");
                    }
                }
            }
        }
    }
}

#[test]
fn exact_and_rounded_choices_are_usable() {
    for precision in [Precision::Exact, Precision::Bf16, Precision::Fixed] {
        let kernel = choose(precision).unwrap();
        assert!(usable().iter().any(|k| k.name == kernel.name));
    }
}

/// Values whose low parts are as large and as equal as they get: without the squares of the low parts a split
/// kernel would miss 2⁻¹⁸ of the diagonal. For even n the sums fit into 24 bits, so exact kernels are bit-exact.
#[test]
fn exact_kernels_keep_the_squares_of_low_parts_on_the_diagonal() {
    for kernel in runnable(&mut Vec::new()).into_iter().filter(|k| k.precision == Precision::Exact) {
        for (n, d) in [(64, 1), (64, 40), (38, 600)] {
            let x: Vec<f32> =
                (0..n * d).map(|i| if i % d % 2 == 0 { 1.0 + 1.0 / 512.0 } else { 3.0 }).collect();
            let mut panels = Panels::default();
            panels.pack(kernel, &x, n, d, d);
            let mut gram = Symmetric::new(d);
            gram.add_gram(kernel, [&panels, &panels].into_iter());
            for (j, &v) in x[..d].iter().enumerate() {
                let want = 2.0 * n as f64 * f64::from(v) * f64::from(v);
                assert_eq!(gram.get(j, j), want, "{} {n} {d} {j}", kernel.name);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_self_test_accepts_what_is_right_and_notices_what_is_not() {
    for kernel in [&model::EXACT, &model::BF16] {
        assert!(passes_self_test(kernel), "{}", kernel.name);
        // no product at all; one panel for two; 16 rows for 32
        assert!(!passes_self_test(&Kernel { one: |_| {}, ..like(kernel) }));
        assert!(!passes_self_test(&Kernel { two: kernel.one, ..like(kernel) }));
        assert!(!passes_self_test(&Kernel { four: Some(kernel.two), ..like(kernel) }));
        assert!(passes_self_test(&Kernel { four: None, ..like(kernel) }));
        // products of few classes that do nothing
        let few = super::few::Micro { classes: 2, forward: |_| {}, backward: |_| {} };
        assert!(!passes_self_test(&Kernel { few: Some(few), ..like(kernel) }));
    }
    // one product of the high parts alone is no exact product
    let rounded = Kernel { layout: model::BF16.layout, precision: Precision::Exact, ..like(&model::BF16) };
    assert!(!passes_self_test(&rounded));
}

#[cfg(target_arch = "x86_64")]
fn like(kernel: &'static Kernel) -> Kernel {
    let &Kernel { name, precision, layout, one, two, four, detect, pays, opt_in, .. } = kernel;
    Kernel {
        name,
        precision,
        layout,
        one,
        two,
        four,
        few: None,
        state: None,
        registers: None,
        detect,
        pays,
        opt_in,
    }
}

#[test]
fn a_kernel_that_is_off_by_default_stays_off() {
    let asked = std::env::var_os(AMX_VARIABLE).is_some() || std::env::var_os(FORCE_VARIABLE).is_some();
    for (name, _, availability) in list().into_iter().filter(|&(name, ..)| name == "amx_exact") {
        assert!(asked || availability == Availability::OffByDefault, "{name}");
    }
}

/// What the CPU is decides, and the order of the list; bfloat16 only where it is known to be faster.
#[test]
fn the_choice_follows_from_the_kernels_that_are_there() {
    use super::choice::{KERNELS, choose_among};
    let named = |names: &[&str]| -> Vec<&'static Kernel> {
        KERNELS.iter().filter(|k| names.contains(&k.name)).collect()
    };
    let chosen = |names: &[&str], precision| choose_among(&named(names), precision).name;
    let plain = ["portable", "portable_bf16", "portable_i16"];
    for precision in [Precision::Exact, Precision::Bf16, Precision::Fixed] {
        assert_eq!(chosen(&plain, precision), "portable"); // the others define results, slowly
    }
    #[cfg(target_arch = "x86_64")]
    {
        let xeon = ["amx_bf16", "avx512_f32", "avx512_bf16", "portable", "portable_bf16"];
        assert_eq!(chosen(&xeon, Precision::Exact), "avx512_f32");
        assert_eq!(chosen(&xeon, Precision::Bf16), "amx_bf16");
        assert_eq!(chosen(&xeon, Precision::Fixed), "avx512_f32");
        let laptop = ["avx2_f32", "avx2_vnni_i16", "avx2_i16", "portable"];
        assert_eq!(chosen(&laptop, Precision::Bf16), "avx2_f32");
        assert_eq!(chosen(&laptop, Precision::Fixed), "avx2_vnni_i16");
    }
}
