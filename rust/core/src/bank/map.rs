//! The one mapping of a file into memory (unsafe site 1).
#![allow(unsafe_code)]

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};

use super::npy::HEADER_LEN;
use crate::error::{Error, Result};
use crate::rows::Guard;

/// The committed rows of a payload file, mapped for reading. The file is not kept open: a bank may have more
/// parts than a process may have open files.
pub(super) struct PayloadMap {
    map: Mmap,
    identity: Identity,
    /// Absolute, so that it leads to the file from another working folder too.
    path: PathBuf,
}

impl PayloadMap {
    /// Map the header and the `data_bytes` that follow it. The file must hold that many: pages beyond its
    /// end raise SIGBUS, hence the check here and, before each block is read, in [`Guard::check`].
    pub(super) fn new(file: &File, path: &Path, data_bytes: u64) -> Result<Self> {
        let len = data_bytes
            .checked_add(HEADER_LEN as u64)
            .and_then(|len| usize::try_from(len).ok())
            .filter(|&len| isize::try_from(len).is_ok())
            .ok_or_else(|| too_short(path))?;
        let metadata = file.metadata().map_err(Error::io(path))?;
        if metadata.len() < len as u64 {
            return Err(too_short(path));
        }
        // SAFETY: the length is within the file now. Committed bytes of a payload are never written again
        // and payloads are never truncated (docs/bank-format.md), so the mapped bytes do not change; should
        // a stranger shrink the file, `Guard::check` sees it before the next block is read.
        let map = unsafe { MmapOptions::new().len(len).map(file) }.map_err(Error::io(path))?;
        let path = std::path::absolute(path).map_err(Error::io(path))?;
        Ok(Self { map, identity: Identity::of(&metadata), path })
    }

    /// The bytes after the header; they start at a multiple of 64 bytes.
    pub(super) fn data(&self) -> &[u8] {
        &self.map[HEADER_LEN..]
    }

    /// The file that is mapped, opened for [`Self::read`]; `None` if its name is gone, or is another file's by
    /// now.
    ///
    /// # Errors
    /// [`Error::CorruptBank`] if it has been cut short.
    pub(super) fn open_again(&self) -> Result<Option<File>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(&self.path)(e)),
        };
        let metadata = file.metadata().map_err(Error::io(&self.path))?;
        if Identity::of(&metadata) != self.identity {
            return Ok(None);
        }
        if metadata.len() < self.map.len() as u64 {
            return Err(too_short(&self.path)); // whichever rows are asked for
        }
        Ok(Some(file))
    }

    /// Fill `out` from what follows the header, at `offset`.
    ///
    /// # Errors
    /// [`Error::CorruptBank`] if the file ends before.
    pub(super) fn read(&self, file: &File, offset: u64, out: &mut [u8]) -> Result<()> {
        read_exact_at(file, out, HEADER_LEN as u64 + offset).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => too_short(&self.path),
            _ => Error::io(&self.path)(error),
        })
    }
}

/// What tells a file from another that has taken its name, where the system says so.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Identity {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    #[cfg(not(unix))]
    fn of(_: &Metadata) -> Self {
        Self {}
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !out.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_read(file, out, offset)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        out = &mut out[n..];
        offset += n as u64;
    }
    Ok(())
}

impl Guard for PayloadMap {
    fn check(&self) -> Result<()> {
        match std::fs::metadata(&self.path) {
            Ok(metadata)
                if Identity::of(&metadata) == self.identity && metadata.len() < self.map.len() as u64 =>
            {
                Err(too_short(&self.path))
            }
            // removed or replaced: what is mapped has no name by which anybody could cut it
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(&self.path)(e)),
        }
    }

    fn in_memory(&self, byte: usize) -> bool {
        self.map.get(HEADER_LEN..).and_then(|data| data.get(byte)).is_none_or(is_resident)
    }

    fn will_need(&self, bytes: Range<usize>) {
        let stop = bytes.end.saturating_add(HEADER_LEN).min(self.map.len());
        let start = bytes.start.saturating_add(HEADER_LEN).min(stop);
        // a hint: where it is refused, or there is none, the rows are read when they are touched
        #[cfg(unix)]
        let _ = self.map.advise_range(memmap2::Advice::WillNeed, start, stop - start);
        #[cfg(not(unix))]
        let _ = start..stop;
    }
}

/// Whether the page of `byte`, which is in a map, can be read without waiting for the disk. True where the
/// system does not tell (Linux tells the owner of a file and who may write it).
#[cfg(target_os = "linux")]
fn is_resident(byte: &u8) -> bool {
    // SAFETY: sysconf reads a constant of the system.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let start = std::ptr::from_ref(byte).map_addr(|at| at / page * page).cast_mut();
    let mut state = 1_u8;
    // SAFETY: `start` is the start of a page of this process, since `byte` lies on it; mincore does not touch
    // the page and writes one byte for the one page asked about.
    let told = unsafe { libc::mincore(start.cast(), 1, &raw mut state) } == 0;
    !told || state & 1 == 1
}

#[cfg(not(target_os = "linux"))]
fn is_resident(_byte: &u8) -> bool {
    true
}

fn too_short(path: &Path) -> Error {
    Error::CorruptBank {
        path: path.into(),
        reason:
            "is shorter than its journal says: it was truncated or copied incompletely; copy it again, or \
                 remove this part's three files and extract the missing rows"
                .into(),
    }
}
