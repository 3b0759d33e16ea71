//! What a writer asks of the disk, step by step. A trait, so that tests can log each step and let it fail.

use std::fs::{File, OpenOptions};
use std::io::{Result as IoResult, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};

/// Which of a part's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Payload,
    Index,
    Journal,
}

/// Steps that change a file, or wait until changes are on disk.
pub(super) trait Disk: Send + Sync {
    fn write_at(&self, role: Role, file: &File, offset: u64, bytes: &[u8]) -> IoResult<()>;

    /// Cut a file to `len` bytes.
    fn cut(&self, role: Role, file: &File, len: u64) -> IoResult<()>;

    /// Wait until everything written to the file so far is on disk.
    fn sync(&self, role: Role, file: &File) -> IoResult<()>;
}

/// The operating system's files.
pub(super) struct System;

impl Disk for System {
    fn write_at(&self, _: Role, mut file: &File, offset: u64, bytes: &[u8]) -> IoResult<()> {
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn cut(&self, _: Role, file: &File, len: u64) -> IoResult<()> {
        file.set_len(len)
    }

    fn sync(&self, _: Role, file: &File) -> IoResult<()> {
        file.sync_data()
    }
}

/// A file of a part that is open for writing.
pub(super) struct Output {
    pub(super) role: Role,
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
}

impl Output {
    pub(super) fn open(role: Role, path: PathBuf, disk: Arc<dyn Disk>) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        Ok(Self { role, file: file.map_err(Error::io(&path))?, path, disk })
    }

    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.disk.write_at(self.role, &self.file, offset, bytes).map_err(Error::io(&self.path))
    }

    pub(super) fn cut(&self, len: u64) -> Result<()> {
        self.disk.cut(self.role, &self.file, len).map_err(Error::io(&self.path))
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.disk.sync(self.role, &self.file).map_err(Error::io(&self.path))
    }
}

/// Names of new files reach the disk with their folder; elsewhere folders cannot be opened, nor need be.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder))?;
    }
    Ok(())
}
