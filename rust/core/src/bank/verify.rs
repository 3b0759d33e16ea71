//! Re-hashing every committed block.

use std::fs::File;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::bitmap::Bitmap;
use super::manifest::Manifest;
use super::npy::Layout;
use super::part::{DataReader, Part, PartFiles};
use super::reader::Bank;
use crate::control::Control;
use crate::error::{Error, Result};

/// Bytes hashed between two looks at the control.
const CHUNK: usize = 1 << 20;

/// A block whose bytes are not those that were committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Name of the part.
    pub part: String,
    /// Number of the block in its journal, from 0.
    pub block: usize,
    /// First row of the block in the part's files.
    pub start: u64,
    /// One past its last row there.
    pub stop: u64,
    /// The damaged file.
    pub path: PathBuf,
}

/// What [`Bank::verify`] read, and what it found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Parts.
    pub parts: usize,
    /// Committed blocks.
    pub blocks: usize,
    /// Committed rows.
    pub rows: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Damaged blocks; empty for a sound bank.
    pub damage: Vec<Damage>,
}

impl Bank {
    /// Read the bank from disk again and compare every committed block with the hashes of its journal.
    /// Any changed bit of a payload, a row index or a journal is found.
    ///
    /// # Errors
    /// Those of [`Bank::open`]: damage to a manifest, header or journal is an error at once; damage to
    /// blocks is collected. [`Error::CorruptBank`] also for an `.npy` header that no crash leaves behind.
    pub fn verify(&self, control: &Control) -> Result<Verification> {
        let manifest = Manifest::read(self.path())?;
        if manifest != *self.manifest() {
            return Err(Error::CorruptBank {
                path: self.path().into(),
                reason: "bank.json has changed since the bank was opened; open it again".into(),
            });
        }
        let mut seen = Bitmap::new(manifest.n_rows);
        let mut found = Verification::default();
        for files in PartFiles::list(self.path())? {
            let part = Part::scan(files, &manifest)?;
            // a damaged index may name impossible rows; the hashes below say which block it is
            let index = part.read_index(manifest.n_rows, &mut seen);
            let damaged_before = found.damage.len();
            found.add(&part, &manifest, control)?;
            if found.damage.len() == damaged_before {
                index?;
            }
        }
        Ok(found)
    }
}

impl Verification {
    fn add(&mut self, part: &Part, manifest: &Manifest, control: &Control) -> Result<()> {
        self.parts += 1;
        let blocks = &part.journal.blocks;
        if blocks.is_empty() {
            return Ok(());
        }
        self.blocks += blocks.len();
        self.rows += part.journal.rows;
        let payload = Layout::Payload(manifest.dtype, manifest.n_features);
        self.add_file(part, payload, &part.files.payload, part.header_rows, control)?;
        self.add_file(part, Layout::Index, &part.files.index, part.index_header_rows, control)
    }

    fn add_file(
        &mut self,
        part: &Part,
        layout: Layout,
        path: &Path,
        header_rows: u64,
        control: &Control,
    ) -> Result<()> {
        check_header(part, path, header_rows, layout)?;
        let mut reader = DataReader::new(File::open(path).map_err(Error::io(path))?, path)?;
        for (number, block) in part.journal.blocks.iter().enumerate() {
            let bytes = block.rows * layout.row_bytes(); // within the file's length
            let expected = if layout == Layout::Index { block.index } else { block.payload };
            if hash(&mut reader, bytes, control)? != expected {
                self.damage.push(Damage {
                    part: part.files.name.clone(),
                    block: number,
                    start: block.offset,
                    stop: block.offset + block.rows,
                    path: path.into(),
                });
            }
            self.bytes += bytes;
            control.advance(block.rows as usize)?;
        }
        Ok(())
    }
}

fn hash(reader: &mut DataReader<'_>, bytes: u64, control: &Control) -> Result<u64> {
    let mut state = Xxh3::new();
    let mut chunk = vec![0; CHUNK.min(bytes as usize)];
    let mut left = bytes;
    while left > 0 {
        let chunk = &mut chunk[..(CHUNK as u64).min(left) as usize];
        reader.read(chunk)?;
        state.update(chunk);
        left -= chunk.len() as u64;
        control.advance(0)?;
    }
    Ok(state.digest())
}

/// A header may be one block behind (a writer that died before it wrote the header), or any number while a
/// writer is at work; in every case it names a number of rows at the end of a block.
fn check_header(part: &Part, path: &Path, header_rows: u64, layout: Layout) -> Result<()> {
    let ends_a_block = |rows| rows == 0 || part.journal.blocks.iter().any(|b| b.offset + b.rows == rows);
    if ends_a_block(header_rows) {
        return Ok(());
    }
    let what = if layout == Layout::Index { "row index" } else { "payload" };
    Err(Error::CorruptBank {
        path: path.into(),
        reason: format!(
            "the {what}'s header names {header_rows} rows, where no block of the journal ends; the header is \
             damaged, opening a writer on this part writes it again"
        ),
    })
}
