//! The lock of a part: one writer, in one process.

use std::fs::{OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, Output, Role};
use crate::error::{Error, Result};

/// The process that opened a writer. A fork copies the writer and shares its lock, but may not use it: two
/// processes would write over each other's blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    bank: PathBuf,
    part: String,
    pid: u32,
}

impl Owner {
    pub(super) fn new(bank: &Path, part: &str) -> Self {
        Self { bank: bank.into(), part: part.into(), pid: std::process::id() }
    }

    /// Name of the writer's part.
    pub fn part(&self) -> &str {
        &self.part
    }

    /// # Errors
    /// [`Error::Bank`] in any process but the one that opened the writer.
    pub fn check(&self) -> Result<()> {
        let here = std::process::id();
        if here == self.pid {
            return Ok(());
        }
        Err(Error::Bank {
            path: self.bank.clone(),
            reason: format!(
                "the writer of part {:?} was opened by process {}, and this is process {here}, a fork of it; \
                 open a writer here, it takes another part",
                self.part, self.pid
            ),
        })
    }
}

/// A part's journal, locked. The lock goes when this is dropped by the process that took it, although forks
/// may still have the file open; a fork that drops its copy leaves the lock as it is.
pub(super) struct LockedJournal {
    pub(super) output: Output,
    pub(super) owner: Owner,
}

impl Drop for LockedJournal {
    fn drop(&mut self) {
        if self.owner.check().is_ok() {
            // where the file system has no locks there is none to release
            let _ = self.output.file.unlock();
        }
    }
}

/// What came of asking for a lock.
pub(super) enum Lock {
    Held(LockedJournal),
    /// Another writer has it.
    Busy,
    /// The file system has no locks, and the part exists: nobody can tell whether it has a writer.
    Unknown,
}

/// Ask for the lock of a part, which lies on its journal. Without locks (some network file systems) a part
/// can be written only by the process that makes it: making a file is exclusive everywhere.
pub(super) fn lock(owner: Owner, journal: &Path, disk: Arc<dyn Disk>) -> Result<Lock> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let (file, created) = match options.clone().create_new(true).open(journal) {
        Ok(file) => (file, true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            if !std::fs::metadata(journal).map_err(Error::io(journal))?.is_file() {
                return Err(Error::CorruptBank {
                    path: journal.into(),
                    reason: "is not a regular file".into(),
                });
            }
            (options.open(journal).map_err(Error::io(journal))?, false)
        }
        Err(e) => return Err(Error::io(journal)(e)),
    };
    let tried = file.try_lock();
    let output = Output { role: Role::Journal, file, path: journal.into(), disk };
    match tried {
        Ok(()) => Ok(Lock::Held(LockedJournal { output, owner })),
        Err(TryLockError::WouldBlock) => Ok(Lock::Busy),
        Err(TryLockError::Error(_)) if created => Ok(Lock::Held(LockedJournal { output, owner })),
        Err(TryLockError::Error(_)) => Ok(Lock::Unknown),
    }
}
