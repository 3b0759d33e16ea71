//! Blocks of rows over threads, reproducibly.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::error::{Error, Result};

/// The pools of one process. Threads do not survive a fork, so a child makes pools of its own; those it
/// inherits are never joined, locked or dropped.
struct Pools {
    pid: u32,
    /// Pools of one thread that nobody uses now: each caller takes one for itself, so that callers who ask for one
    /// thread each run side by side.
    lanes: Mutex<Vec<ThreadPool>>,
    /// Larger pools by size; a pool lives as long as the process, so that small fits do not pay for threads.
    by_size: Mutex<HashMap<usize, Arc<ThreadPool>>>,
    /// Those of a child of this process, in the child's copy of the memory.
    child: OnceLock<Box<Pools>>,
}

impl Pools {
    fn new(pid: u32) -> Self {
        Self { pid, lanes: Mutex::default(), by_size: Mutex::default(), child: OnceLock::new() }
    }

    /// Those of this process.
    fn here() -> &'static Self {
        static FIRST: OnceLock<Pools> = OnceLock::new();
        let pid = std::process::id();
        let mut pools = FIRST.get_or_init(|| Self::new(pid));
        while pools.pid != pid {
            pools = pools.child.get_or_init(|| Box::new(Self::new(pid)));
        }
        pools
    }

    fn of_size(&self, n_threads: usize) -> Result<Arc<ThreadPool>> {
        let mut pools = self.by_size.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(pool) = pools.get(&n_threads) {
            return Ok(pool.clone());
        }
        let pool = Arc::new(start(n_threads)?);
        pools.insert(n_threads, pool.clone());
        Ok(pool)
    }

    fn lane(&self) -> Result<Lane<'_>> {
        let idle = self.lanes.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let pool = idle.map_or_else(|| start(1), Ok)?;
        Ok(Lane { pool: Some(pool), of: self })
    }
}

/// A pool of one thread that nobody else uses; given back in the end, after a panic too.
struct Lane<'a> {
    pool: Option<ThreadPool>,
    of: &'a Pools,
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            self.of.lanes.lock().unwrap_or_else(|e| e.into_inner()).push(pool);
        }
    }
}

fn start(n_threads: usize) -> Result<ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(n_threads)
        .thread_name(|i| format!("ssl-risk-{i}"))
        .build()
        .map_err(|e| Error::Parameter(format!("cannot start {n_threads} threads: {e}")))
}

/// The number of threads to use for `None`: all the process may run on.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Run `work` on `n_threads` threads: what it spreads with rayon or faer uses those and no others. Whatever uses
/// either runs inside; outside, both would start a pool of all cores that does not survive a fork.
///
/// # Errors
/// [`Error::Parameter`] if the threads cannot be started; else what `work` gives.
pub fn install<R: Send>(n_threads: usize, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    let n_threads = n_threads.max(1);
    if rayon::current_thread_index().is_some() && rayon::current_num_threads() == n_threads {
        return work(); // already there
    }
    let pools = Pools::here();
    if n_threads > 1 {
        return pools.of_size(n_threads)?.install(work);
    }
    let lane = pools.lane()?;
    lane.pool.as_ref().expect("a lane has its pool until it is dropped").install(work)
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
    if n_threads.min(n.div_ceil(block)) <= 1 {
        return fold_runs(n, block, 1, init, work);
    }
    let (init, work) = (&init, &work);
    install(n_threads, || fold_runs(n, block, n_threads, init, work))
}

/// As [`fold_blocks`], with at most `n_runs` runs on the threads of the current pool.
///
/// # Errors
/// The first error of `work`, by row order.
pub fn fold_runs<A: Send>(
    n: usize,
    block: usize,
    n_runs: usize,
    init: impl Fn() -> A + Sync,
    work: impl Fn(&mut A, Range<usize>) -> Result<()> + Sync,
) -> Result<Vec<A>> {
    let blocks = n.div_ceil(block);
    let runs = n_runs.clamp(1, blocks.max(1));
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
    let results: Vec<Result<A>> = (0..runs).into_par_iter().map(run).collect();
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
    fn work_runs_on_as_many_threads_as_asked_and_callers_of_one_do_not_wait_for_each_other() {
        for n in [1, 2, 3] {
            assert_eq!(install(n, || Ok(rayon::current_num_threads())).unwrap(), n);
            let nested = install(n, || {
                install(n, || Ok(std::thread::current().id())).map(|id| id == std::thread::current().id())
            });
            assert!(nested.unwrap(), "{n}");
        }
        // each waits for the other: on one shared thread they would never meet
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| install(1, || Ok(barrier.wait())).unwrap());
            }
        });
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
