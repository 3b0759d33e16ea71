//! Run a core computation without the GIL, so that ^C stops it and Python sees its progress.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::prelude::*;
use ssl_risk_core::{Control, Result};

use crate::error::to_py;

/// How often the main thread looks for signals; short against a person's patience.
const POLL: Duration = Duration::from_millis(50);

/// Run `work` on another thread; this one sleeps, and every [`POLL`] lets Python handle signals and calls
/// `progress(rows visited)` if given. An exception in either cancels the work and is raised after it ended.
pub fn run<T: Send>(
    py: Python<'_>,
    progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&Arc<Control>) -> Result<T> + Send,
) -> PyResult<T> {
    py.detach(|| {
        let control = Arc::new(Control::new());
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let worker = scope.spawn(|| {
                let result = work(&control);
                drop(sender); // wakes the receiver
                result
            });
            let mut raised = None;
            while receiver.recv_timeout(POLL) == Err::<(), _>(RecvTimeoutError::Timeout) {
                if raised.is_some() {
                    continue;
                }
                raised = Python::attach(|py| {
                    py.check_signals()?;
                    if let Some(progress) = progress {
                        progress.call1(py, (control.rows(),))?;
                    }
                    Ok::<_, PyErr>(())
                })
                .err();
                if raised.is_some() {
                    control.cancel();
                }
            }
            let result = match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            match raised {
                Some(error) => Err(error),
                None => result.map_err(to_py),
            }
        })
    })
}
