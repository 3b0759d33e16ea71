//! Re-hashing every committed block. Hashes come before meaning: only an index whose bytes are those that
//! were committed is asked which rows it names, so that one damaged block puts no blame on a sound one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::bitmap::Bitmap;
use super::blame::{Failed, hash};
use super::journal::{Block, Journal};
use super::manifest::Manifest;
use super::npy::{HEADER_LEN, Layout};
use super::part::{PartFiles, open_regular, parse_header, read_header, read_journal};
use super::reader::Bank;
use crate::control::Control;
use crate::error::{Error, Result};

/// A block, or a whole file, that is not what was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Name of the part.
    pub part: String,
    /// Number of the block in its journal, from 0; `None` if the file as a whole is at fault.
    pub block: Option<usize>,
    /// First row of the block in the part's files.
    pub start: u64,
    /// One past its last row there.
    pub stop: u64,
    /// The damaged file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What [`Verification::of`] read, and what it found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Rows of the complete bank.
    pub n_rows: u64,
    /// Parts.
    pub parts: usize,
    /// Committed blocks.
    pub blocks: usize,
    /// Committed rows.
    pub rows: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Parts whose `.npy` headers name fewer rows than the journal: a writer died, or is at work.
    pub behind: Vec<String>,
    /// What is damaged; empty for a sound bank.
    pub damage: Vec<Damage>,
}

impl Bank {
    /// As [`Verification::of`], for the folder of this bank.
    ///
    /// # Errors
    /// Those of [`Verification::of`]; [`Error::CorruptBank`] if the manifest is another one by now.
    pub fn verify(&self, control: &Control) -> Result<Verification> {
        if Manifest::read(self.path())? != *self.manifest() {
            return Err(Error::CorruptBank {
                path: self.path().into(),
                reason: "bank.json has changed since the bank was opened; open it again".into(),
            });
        }
        Verification::of(self.path(), control)
    }
}

impl Verification {
    /// Read the bank in the folder `bank` and compare every committed block with the hashes of its journal;
    /// also a bank that [`Bank::open`] refuses. Any changed bit of a payload, a row index or a journal is found.
    ///
    /// # Errors
    /// [`Error::Bank`], [`Error::CorruptBank`] for a manifest that cannot be read, which leaves nothing to go
    /// by; [`Error::Interrupted`]. All other damage is collected.
    pub fn of(bank: &Path, control: &Control) -> Result<Self> {
        let manifest = Manifest::read(bank)?;
        let (parts, strangers) = PartFiles::find(bank)?;
        let mut found = Self { n_rows: manifest.n_rows, parts: parts.len(), ..Self::default() };
        for path in strangers {
            let reason = "is not the name of a part; move the file out of the bank".to_owned();
            found.damage.push(Damage { part: String::new(), block: None, start: 0, stop: 0, path, reason });
        }
        let mut claims = Claims { manifest, seen: Bitmap::new(manifest.n_rows), sound: Vec::new() };
        for files in &parts {
            found.add(files, &mut claims, control)?;
        }
        Ok(found)
    }

    fn add(&mut self, files: &PartFiles, claims: &mut Claims, control: &Control) -> Result<()> {
        let manifest = claims.manifest;
        let layouts = [
            (Layout::Payload(manifest.dtype, manifest.n_features), &files.payload),
            (Layout::Index, &files.index),
        ];
        // headers first: they never exceed the journal, and a writer may be at work
        let opened = layouts.map(|(_, path)| {
            let file = open_regular(path)?;
            let header = file.as_ref().map(|f| read_header(f, path)).transpose()?;
            Ok(file.zip(header))
        });
        let journal = match read_journal(&files.journal) {
            Ok(journal) => journal,
            Err(error) => return self.whole(files, &files.journal, 0, error),
        };
        if journal.rows > manifest.n_rows {
            let reason = format!("holds {} rows, the whole bank has {}", journal.rows, manifest.n_rows);
            let path = files.journal.clone();
            self.whole(files, &files.journal, journal.rows, Error::CorruptBank { path, reason })?;
        }
        self.blocks += journal.blocks.len();
        self.rows += journal.rows;
        for ((layout, path), opened) in layouts.into_iter().zip(opened) {
            let checked = opened.and_then(|opened| {
                let header = opened.as_ref().map(|(_, header)| header.as_slice());
                check_header(&journal, layout, path, header).map(|rows| (rows, opened))
            });
            let file = match checked {
                Ok((header_rows, opened)) => {
                    if header_rows < journal.rows && !self.behind.contains(&files.name) {
                        self.behind.push(files.name.clone());
                    }
                    opened.map(|(file, _)| file)
                }
                Err(error) => {
                    self.whole(files, path, journal.rows, error)?;
                    open_regular(path).ok().flatten() // its blocks may be sound
                }
            };
            if let Some(file) = file.filter(|_| !journal.blocks.is_empty()) {
                self.add_blocks(files, &journal, BlockFile { layout, path, file }, claims, control)?;
            }
        }
        Ok(())
    }

    fn add_blocks(
        &mut self,
        files: &PartFiles,
        journal: &Journal,
        BlockFile { layout, path, mut file }: BlockFile<'_>,
        claims: &mut Claims,
        control: &Control,
    ) -> Result<()> {
        let start = file.seek(SeekFrom::Start(HEADER_LEN as u64));
        start.map_err(Error::io(path))?;
        for (number, block) in journal.blocks.iter().enumerate() {
            let bytes = block.rows.saturating_mul(layout.row_bytes());
            let expected = if layout == Layout::Index { block.index } else { block.payload };
            let mut rows = (layout == Layout::Index).then(Vec::new);
            let wrong = match hash(&mut file, bytes, rows.as_mut(), control) {
                Ok(Some(hash)) if hash == expected => {
                    rows.and_then(|rows| claims.claim(files, number, *block, &rows).err())
                }
                Ok(Some(_)) => Some("its bytes are not those that were written".to_owned()),
                Ok(None) => Some("the file ends before the block does".to_owned()),
                Err(Failed::Interrupted) => return Err(Error::Interrupted),
                Err(Failed::Io(error)) => Some(format!("the system cannot read it: {error}")),
            };
            if let Some(reason) = wrong {
                let (start, stop) = (block.offset, block.offset + block.rows);
                let (part, block) = (files.name.clone(), Some(number));
                self.damage.push(Damage { part, block, start, stop, path: path.into(), reason });
            }
            self.bytes = self.bytes.saturating_add(bytes);
            control.advance(block.rows as usize)?;
        }
        Ok(())
    }

    /// Note that a file as a whole is at fault.
    fn whole(&mut self, files: &PartFiles, path: &Path, rows: u64, error: Error) -> Result<()> {
        let reason = match error {
            Error::Interrupted => return Err(error),
            Error::CorruptBank { reason, .. } => reason,
            Error::Io { source, .. } => format!("cannot be read: {source}"),
            other => other.to_string(),
        };
        let part = files.name.clone();
        self.damage.push(Damage { part, block: None, start: 0, stop: rows, path: path.into(), reason });
        Ok(())
    }
}

/// One of the two files of a part that hold its blocks.
struct BlockFile<'a> {
    layout: Layout,
    path: &'a Path,
    file: File,
}

/// Rows that sound blocks name.
struct Claims {
    manifest: Manifest,
    seen: Bitmap,
    /// Where they are named.
    sound: Vec<(PartFiles, usize, Block)>,
}

impl Claims {
    /// # Errors
    /// The first row that the bank does not have, or that is named elsewhere.
    fn claim(
        &mut self,
        files: &PartFiles,
        number: usize,
        block: Block,
        rows: &[u64],
    ) -> std::result::Result<(), String> {
        let n_rows = self.manifest.n_rows;
        let mut wrong = None;
        for (at, &row) in rows.iter().enumerate() {
            if row >= n_rows {
                wrong.get_or_insert_with(|| format!("it names row {row}, the bank has {n_rows} rows"));
            } else if !self.seen.insert(row) {
                wrong.get_or_insert_with(|| match self.find(row) {
                    Some((part, other)) => format!(
                        "it names row {row}, and so does block {other} of part {part:?}; both are as they were \
                         written: two processes wrote the row"
                    ),
                    None => format!("it names row {row} twice, and that is how it was written ({at})"),
                });
            }
        }
        self.sound.push((files.clone(), number, block));
        wrong.map_or(Ok(()), Err)
    }

    /// The block before this one that names the row: its index is read again.
    fn find(&self, row: u64) -> Option<(&str, usize)> {
        self.sound.iter().find_map(|(files, number, block)| {
            let mut file = File::open(&files.index).ok()?;
            file.seek(SeekFrom::Start(HEADER_LEN as u64 + block.offset * Layout::Index.row_bytes())).ok()?;
            let mut bytes = Vec::new();
            file.take(block.rows * Layout::Index.row_bytes()).read_to_end(&mut bytes).ok()?;
            let there = bytes.as_chunks::<8>().0.iter().any(|&bytes| u64::from_le_bytes(bytes) == row);
            there.then_some((files.name.as_str(), *number))
        })
    }
}

/// The rows that a file's header names. It may be one block behind (a writer that died before it wrote the
/// header), or any number while a writer is at work; in every case it names a number of rows at the end of a
/// block.
fn check_header(journal: &Journal, layout: Layout, path: &Path, header: Option<&[u8]>) -> Result<u64> {
    let rows = parse_header(layout, header, path, journal.rows)?;
    if rows == 0 || journal.blocks.iter().any(|b| b.offset + b.rows == rows) {
        return Ok(rows);
    }
    let what = if layout == Layout::Index { "row index" } else { "payload" };
    Err(Error::CorruptBank {
        path: path.into(),
        reason: format!(
            "the {what}'s header names {rows} rows, where no block of the journal ends; the header is \
             damaged, opening a writer on this part writes it again"
        ),
    })
}
