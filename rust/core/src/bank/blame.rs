//! The bytes of committed blocks against the hashes of their journal, and who is to blame for row indexes that do
//! not fit each other.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::npy::{HEADER_LEN, Layout};
use super::part::{PartFiles, read_journal};
use crate::control::Control;
use crate::error::Error;

/// Bytes hashed between two looks at the control; a multiple of a row index's 8.
const CHUNK: usize = 1 << 20;

/// The error of a bank whose row indexes do not fit each other: if the bytes of one have changed, that one is
/// to blame, and not the part in which the contradiction showed.
pub(super) fn explain(bank: &Path, error: Error) -> Error {
    if !matches!(error, Error::CorruptBank { .. }) {
        return error;
    }
    let Ok((parts, _)) = PartFiles::find(bank) else { return error };
    parts.iter().find_map(damaged_index).unwrap_or(error)
}

fn damaged_index(files: &PartFiles) -> Option<Error> {
    let journal = read_journal(&files.journal).ok()?;
    let mut file = File::open(&files.index).ok()?;
    file.seek(SeekFrom::Start(HEADER_LEN as u64)).ok()?;
    let control = Control::new();
    for (number, block) in journal.blocks.iter().enumerate() {
        let bytes = block.rows.checked_mul(Layout::Index.row_bytes())?;
        if hash(&mut file, bytes, None, &control).ok()?? != block.index {
            let (start, last) = (block.offset, block.offset + block.rows - 1);
            return Some(Error::CorruptBank {
                path: files.index.clone(),
                reason: format!(
                    "block {number}, lines {start} to {last}: the bytes are not those that were written; copy the \
                     file again, or move this part's three files out of the bank and extract its rows again"
                ),
            });
        }
    }
    None
}

pub(super) enum Failed {
    Interrupted,
    Io(std::io::Error),
}

/// xxh3 of the next `bytes` bytes, which are also kept as `rows` if that is asked for; `None` if the file ends
/// before. Memory grows with what is there, not with what a journal says.
pub(super) fn hash(
    file: &mut File,
    bytes: u64,
    mut rows: Option<&mut Vec<u64>>,
    control: &Control,
) -> std::result::Result<Option<u64>, Failed> {
    let mut state = Xxh3::new();
    let mut chunk = vec![0_u64; CHUNK.min(usize::try_from(bytes).unwrap_or(CHUNK)).div_ceil(8)];
    let mut left = bytes;
    while left > 0 {
        let len = (CHUNK as u64).min(left) as usize;
        match file.read_exact(&mut bytemuck::cast_slice_mut(&mut chunk)[..len]) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(Failed::Io(error)),
        }
        state.update(&bytemuck::cast_slice(&chunk)[..len]);
        if let Some(rows) = &mut rows {
            rows.extend_from_slice(&chunk[..len / 8]);
        }
        left -= len as u64;
        control.advance(0).map_err(|_| Failed::Interrupted)?;
    }
    Ok(Some(state.digest()))
}
