//! Products of residuals with few entries, and what rounding leaves of the others.

use super::*;

/// Kernels and models of those that this machine need not have, whose rows suit.
fn kernels() -> impl Iterator<Item = &'static Kernel> {
    tests::with_models().into_iter().filter(|kernel| SparseProduct::suits(kernel))
}

/// A residual of row i and class c: none for most of them.
fn residual(i: usize, c: usize) -> f32 {
    if (i * 31 + c * 17).is_multiple_of(41) { ((i + 3 * c) % 9) as f32 - 4.0 } else { 0.0 }
}

fn integer(i: usize, j: usize) -> f32 {
    ((i * 7 + j * 13 + i * j) % 17) as f32 - 8.0
}

/// Residuals `(n, k)` as a pass has them.
fn residuals(n: usize, k: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut z = vec![0.0; n.next_multiple_of(LANES) * padded(k)];
    for (i, row) in z.chunks_exact_mut(padded(k)).enumerate().take(n) {
        row[..k].iter_mut().enumerate().for_each(|(c, v)| *v = value(i, c));
    }
    z
}

#[test]
fn entries_give_the_product_of_all_bit_for_bit_on_small_integers() {
    for kernel in kernels() {
        for (n, d, k) in
            [(300_usize, 130_usize, 70_usize), (256, 64, 33), (17, 200, 40), (33, 31, 50), (1, 1, 80)]
        {
            let numbers: Vec<u32> = (0..n as u32).map(|i| 5 * i + 2).collect();
            let stride = row_stride(d);
            let mut x = vec![f32::NAN; n.next_multiple_of(LANES) * stride];
            for (i, row) in x.chunks_exact_mut(stride).enumerate() {
                row[..d].iter_mut().enumerate().for_each(|(j, v)| *v = integer(i, j));
            }
            let mut buffer = RowBuffer::default();
            let rows = Rows::new(kernel, &x, n, d, stride, &mut buffer);
            let mut sparse = SparseProduct::new(kernel, d, k);
            for _ in 0..2 {
                assert!(sparse.round(&residuals(n, k, residual), &numbers, 0.0), "{}", kernel.name);
                sparse.add(&rows);
            }
            let mut sum = vec![1.0; panels_len(d, k)];
            sparse.drain(&mut sum);
            sparse.drain(&mut sum); // which is zero by now
            let mut total = vec![0.0; d * k];
            flush(&mut sum, &mut total, k);
            for (at, &got) in total.iter().enumerate() {
                let (j, c) = (at / k, at % k);
                let want: f32 = (0..n).map(|i| integer(i, j) * residual(i, c)).sum();
                assert_eq!(got, f64::from(1.0 + 2.0 * want), "{} {n} {d} {k} {j} {c}", kernel.name);
            }
        }
    }
}

#[test]
fn small_residuals_are_right_on_average_and_large_ones_stay() {
    let kernel = choose(Precision::Exact).unwrap();
    let (n, k, small) = (512, 48, 1.0 / 128.0);
    let mut sparse = SparseProduct::new(kernel, 1, k);
    // of each size one class in sixteen; three are negative
    let sizes = [0.0, 0.1, 0.35, 0.9, 1.0, 20.0].map(|v| v * small);
    let value =
        |_: usize, c: usize| if c % 16 < 6 { sizes[c % 16] * if c > 32 { -1.0 } else { 1.0 } } else { 0.0 };
    let blocks = 100;
    let mut sums = vec![0.0; k];
    let mut first = Vec::new();
    for block in 0..blocks {
        let numbers: Vec<u32> = (block * n..(block + 1) * n).map(|i| i as u32).collect();
        let mut entries = || {
            assert!(sparse.round(&residuals(n, k, value), &numbers, small));
            sparse.by_class().map(|(c, entries)| (c, entries.to_vec())).collect::<Vec<_>>()
        };
        let found = entries();
        assert_eq!(found, entries()); // a row's number decides
        for (c, entries) in &found {
            for &(_, r) in entries {
                let size = r.abs();
                assert!(size == small || size == sizes[5]);
                sums[*c] += f64::from(r);
            }
        }
        if block == 0 {
            first = found;
        } else {
            assert!(found != first);
        }
    }
    let rows = (blocks * n) as f64;
    for (c, sum) in sums.iter().enumerate() {
        let (want, small) = (f64::from(value(0, c)), f64::from(small));
        let deviation = (want.abs() * (small - want.abs()).max(0.0) / rows).sqrt();
        assert!((sum / rows - want).abs() <= 5.0 * deviation + 1e-9, "{c}: {} {want}", sum / rows);
    }
}

#[test]
fn residuals_that_are_not_sparse_are_refused() {
    let numbers: Vec<u32> = (0..64).collect();
    for kernel in kernels() {
        let mut sparse = SparseProduct::new(kernel, 3, 40);
        assert!(!sparse.round(&residuals(64, 40, |_, _| 0.5), &numbers, 0.01), "{}", kernel.name);
    }
}

/// What comes of values at the edges: nothing of zeros and of what is no number, themselves from `small` on, else a chance.
#[test]
fn values_at_the_edges_keep_their_place_and_sign() {
    let small = 1.0 / 128.0;
    let values = [0.0, -0.0, f32::NAN, small, -small, f32::INFINITY, -1.0, 1e-40, -1e-40];
    let (n, k) = (64, 64); // one value in each row: few enough
    let at = |i: usize| (i * 37 % k, values[i % values.len()]);
    let z = residuals(n, k, |i, c| if at(i).0 == c { at(i).1 } else { 0.0 });
    let mut sparse = SparseProduct::new(choose(Precision::Exact).unwrap(), 1, k);
    assert!(sparse.round(&z, &(0..n as u32).collect::<Vec<_>>(), small));
    let mut found = vec![None; n];
    for (c, entries) in sparse.by_class() {
        for &(i, r) in entries {
            assert_eq!(at(i as usize).0, c);
            assert_eq!(found[i as usize].replace(r), None);
        }
    }
    for (i, found) in found.into_iter().enumerate() {
        let value = at(i).1;
        match value.abs() {
            size if size >= small => assert_eq!(found, Some(value)),
            // a chance of 1e-38: only the row whose hash begins with 24 zeros has it
            size if size > 0.0 => assert!(found.is_none_or(|r| r == small.copysign(value)), "{i}: {found:?}"),
            _ => assert_eq!(found, None, "{value}"),
        }
    }
}
