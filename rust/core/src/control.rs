//! Cancellation and progress of a long computation, shared between the caller and the workers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Handle on a running computation: workers call [`Control::advance`] for each block of rows, the caller
/// reads [`Control::rows`] and may [`Control::cancel`].
#[derive(Debug, Default)]
pub struct Control {
    cancelled: AtomicBool,
    rows: AtomicU64,
}

impl Control {
    /// A computation that nobody has cancelled.
    pub const fn new() -> Self {
        Self { cancelled: AtomicBool::new(false), rows: AtomicU64::new(0) }
    }

    /// Ask the workers to stop at their next block.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Count `rows` as visited.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after [`Control::cancel`].
    pub fn advance(&self, rows: usize) -> Result<()> {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// Rows visited so far, over all passes.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

/// How a computation runs: on how many threads, and who may stop it.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Threads; the same number gives the same bits.
    pub n_threads: usize,
    /// Asked before each block of rows.
    pub control: &'a Control,
}
