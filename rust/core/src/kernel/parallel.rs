//! Blocks of rows over threads, reproducibly.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Pools by size; a pool lives as long as the process, so that small fits do not pay for threads.
static POOLS: OnceLock<Mutex<HashMap<usize, Arc<rayon::ThreadPool>>>> = OnceLock::new();

fn pool(n_threads: usize) -> Result<Arc<rayon::ThreadPool>> {
    let mut pools = POOLS.get_or_init(Mutex::default).lock().unwrap_or_else(|e| e.into_inner());
    if let Some(pool) = pools.get(&n_threads) {
        return Ok(pool.clone());
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(n_threads)
        .thread_name(|i| format!("ssl-risk-{i}"))
        .build()
        .map_err(|e| Error::Parameter(format!("cannot start {n_threads} threads: {e}")))?;
    Ok(pools.entry(n_threads).or_insert(Arc::new(pool)).clone())
}

/// The number of threads to use for `None`: all the process may run on.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Run `work` on a pool of `n_threads`: what it spreads with rayon uses those threads.
///
/// # Errors
/// [`Error::Parameter`] if the threads cannot be started; else what `work` gives.
pub fn install<R: Send>(n_threads: usize, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    pool(n_threads.max(1))?.install(work)
}

/// Cut `0..n` into at most `n_threads` runs of whole blocks, give each run an accumulator, and call `work`
/// for each of its blocks in order. The accumulators come back in row order: combined in that order, the
/// result has the same bits whenever `n_threads` is the same.
///
/// # Errors
/// The first error of `work`, by row order.
pub fn fold_blocks<A: Send>(
    n: usize,
    block: usize,
    n_threads: usize,
    init: impl Fn() -> A + Sync,
    work: impl Fn(&mut A, Range<usize>) -> Result<()> + Sync,
) -> Result<Vec<A>> {
    let blocks = n.div_ceil(block);
    let runs = n_threads.clamp(1, blocks.max(1));
    let run = |t: usize| {
        let mut acc = init();
        for b in blocks * t / runs..blocks * (t + 1) / runs {
            work(&mut acc, b * block..((b + 1) * block).min(n))?;
        }
        Ok(acc)
    };
    if runs == 1 {
        return Ok(vec![run(0)?]);
    }
    let results: Vec<Result<A>> = pool(n_threads)?.install(|| (0..runs).into_par_iter().map(run).collect());
    results.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_once_in_order_for_any_thread_count() {
        for n in [0, 1, 15, 16, 17, 1000] {
            for threads in [1, 2, 3, 64] {
                let parts = fold_blocks(n, 16, threads, Vec::new, |acc: &mut Vec<usize>, rows| {
                    acc.extend(rows);
                    Ok(())
                })
                .unwrap();
                assert_eq!(parts.concat(), (0..n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn an_error_comes_back() {
        let result = fold_blocks(
            100,
            10,
            4,
            || (),
            |(), rows| {
                if rows.start == 50 { Err(Error::Interrupted) } else { Ok(()) }
            },
        );
        assert!(matches!(result, Err(Error::Interrupted)));
    }
}
