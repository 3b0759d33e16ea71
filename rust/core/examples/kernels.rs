//! What each kernel reaches on this machine, beside what it could at most.
//!
//! ```text
//! cargo run --release -p ssl-risk-core --example kernels -- 65536 2048 1000
//! ```
//!
//! Every kernel this CPU can run, those that are off by default only if asked for (`SSL_RISK_AMX=1`).
//! Prints CSV: seconds and GFLOP/s (2 a product and sum; the Gram's lower triangle only) of the Gram matrix
//! and of one pass of the logistic objective over float16 rows, on one thread and on all; and which share that is of
//! what the registers alone allow, on as many threads at once.

use std::time::Instant;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use ssl_risk_core::kernel::parallel::{default_threads, fold_blocks, install};
use ssl_risk_core::kernel::{
    Columns, Panels, RowBuffer, Rows, Symmetric, backward_add, block_rows, forward, padded, panels_len,
    row_stride, softmax_residual, usable,
};

fn main() {
    let mut sizes = std::env::args().skip(1).map(|a| a.parse::<usize>().expect("a whole number"));
    let n = sizes.next().unwrap_or(65536);
    let d = sizes.next().unwrap_or(2048);
    let k = sizes.next().unwrap_or(1000);
    let x: Vec<f16> =
        (0..n * d).map(|i| f16::from_f32((((i * 2_654_435_761) >> 7) % 1000) as f32 / 500.0 - 1.0)).collect();
    let labels: Vec<u32> = (0..n).map(|i| (i % k) as u32).collect();
    println!("job,kernel,threads,n,d,k,seconds,gflops,of_peak");
    for kernel in usable().iter().filter(|k| !k.name.starts_with("portable")) {
        for threads in [1, default_threads()] {
            let peaks = install(threads, || Ok(rayon::broadcast(|_| kernel.register_peak())));
            let peak = 2.0 * peaks.expect("threads").into_iter().flatten().sum::<f64>();
            // `thread_seconds` of parts are added over the threads
            let report = |job: &str, seconds: f64, flops: f64, thread_seconds: bool| {
                let rate = flops / seconds * if thread_seconds { threads as f64 } else { 1.0 };
                println!(
                    "{job},{},{threads},{n},{d},{k},{seconds:.3},{:.1},{:.3}",
                    kernel.name,
                    rate / 1e9,
                    rate / peak
                );
            };
            let began = Instant::now();
            let mut staging = 0.0;
            install(threads, || {
                let mut gram = Symmetric::new(d);
                let mut blocks: Vec<Panels> = Vec::new();
                for rows in x.chunks(2048 * d) {
                    let clock = Instant::now();
                    blocks.resize_with(rows.len().div_ceil(256 * d), Panels::default);
                    blocks.par_iter_mut().zip(rows.par_chunks(256 * d)).for_each(|(panels, rows)| {
                        let mut staged = vec![0.0; rows.len()];
                        rows.convert_to_f32_slice(&mut staged);
                        panels.pack(kernel, &staged, staged.len() / d, d, d);
                    });
                    staging += clock.elapsed().as_secs_f64();
                    gram.add_gram(kernel, blocks.iter());
                }
                Ok(())
            })
            .expect("threads");
            report("gram stage", staging, 0.0, false);
            report("gram", began.elapsed().as_secs_f64(), n as f64 * d as f64 * (d + 1) as f64, false);

            let mut weights = Panels::default();
            weights.pack(kernel, &vec![0.01; d * k], d, k, k);
            let intercept = vec![0.0; k];
            let block = block_rows(3 * d + 2 * k);
            let began = Instant::now();
            let runs = fold_blocks(
                n,
                block,
                threads,
                || {
                    (
                        vec![0.0_f32; block * row_stride(d)],
                        (RowBuffer::default(), Panels::default(), Panels::default()),
                        vec![0.0; block * padded(k)],
                        vec![0.0; panels_len(d, k)],
                        [0.0; 5],
                    )
                },
                |(staged, (buffer, columns, residual), z, g, times), range| {
                    let m = range.len();
                    let mut clock = Instant::now();
                    let mut lap = |i: usize| {
                        times[i] += clock.elapsed().as_secs_f64();
                        clock = Instant::now();
                    };
                    let stride = row_stride(d);
                    for (staged, row) in
                        staged.chunks_exact_mut(stride).zip(x[range.start * d..].chunks_exact(d)).take(m)
                    {
                        row.convert_to_f32_slice(&mut staged[..d]);
                    }
                    let rows = Rows::new(kernel, staged, m, d, stride, buffer);
                    lap(0);
                    forward(kernel, &rows, &weights, &intercept, z);
                    lap(1);
                    softmax_residual(z, &labels[range], k);
                    lap(2);
                    residual.pack(kernel, z, m, k, padded(k));
                    let columns = Columns::new(kernel, &rows, residual, columns);
                    lap(3);
                    backward_add(kernel, &columns, residual, g);
                    lap(4);
                    Ok(())
                },
            )
            .expect("threads");
            report("pass", began.elapsed().as_secs_f64(), 4.0 * n as f64 * d as f64 * k as f64, false);
            for (i, part) in ["stage", "forward", "softmax", "pack", "backward"].iter().enumerate() {
                let seconds: f64 = runs.iter().map(|run| run.4[i]).sum();
                let flops = if part.ends_with("ward") { 2.0 * n as f64 * d as f64 * k as f64 } else { 0.0 };
                report(part, seconds, flops, true);
            }
        }
    }
}
