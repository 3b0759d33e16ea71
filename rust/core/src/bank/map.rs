//! The one mapping of a file into memory (unsafe site 1).
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap, MmapOptions};

use super::npy::HEADER_LEN;
use crate::error::{Error, Result};
use crate::rows::Guard;

/// The committed rows of a payload file, mapped for reading.
pub(super) struct PayloadMap {
    map: Mmap,
    file: File,
    path: PathBuf,
}

impl PayloadMap {
    /// Map the header and the `data_bytes` that follow it. The file must hold that many: pages beyond its
    /// end raise SIGBUS, hence the check here and, before each block is read, in [`Guard::check`].
    pub(super) fn new(file: File, path: &Path, data_bytes: u64) -> Result<Self> {
        let len = data_bytes
            .checked_add(HEADER_LEN as u64)
            .and_then(|len| usize::try_from(len).ok())
            .filter(|&len| isize::try_from(len).is_ok())
            .ok_or_else(|| too_short(path))?;
        check_length(&file, path, len)?;
        // SAFETY: the length is within the file now. Committed bytes of a payload are never written again
        // and payloads are never truncated (docs/bank-format.md), so the mapped bytes do not change; should
        // a stranger shrink the file, `Guard::check` sees it before the next block is read.
        let map = unsafe { MmapOptions::new().len(len).map(&file) }.map_err(Error::io(path))?;
        Ok(Self { map, file, path: path.into() })
    }

    /// The bytes after the header; they start at a multiple of 64 bytes.
    pub(super) fn data(&self) -> &[u8] {
        &self.map[HEADER_LEN..]
    }
}

impl Guard for PayloadMap {
    fn check(&self) -> Result<()> {
        check_length(&self.file, &self.path, self.map.len())
    }

    fn in_memory(&self, byte: usize) -> bool {
        self.map.get(HEADER_LEN..).and_then(|data| data.get(byte)).is_none_or(is_resident)
    }

    fn will_need(&self, bytes: Range<usize>) {
        let stop = bytes.end.saturating_add(HEADER_LEN).min(self.map.len());
        let start = bytes.start.saturating_add(HEADER_LEN).min(stop);
        // a hint: where it is refused, the rows are read when they are touched
        let _ = self.map.advise_range(Advice::WillNeed, start, stop - start);
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

fn check_length(file: &File, path: &Path, len: usize) -> Result<()> {
    let have = file.metadata().map_err(Error::io(path))?.len();
    if have < len as u64 { Err(too_short(path)) } else { Ok(()) }
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
