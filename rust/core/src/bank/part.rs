//! The files of a part, and what they say before anything is mapped.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::bitmap::Bitmap;
use super::journal::Journal;
use super::manifest::Manifest;
use super::npy::{HEADER_LEN, Layout};
use crate::error::{Error, Result};

/// A line is about 60 bytes: ten million blocks. A longer file is not a journal.
const MAX_JOURNAL_BYTES: u64 = 1 << 30;
/// Rows of an index read at a time: they stay in the level-1 or level-2 cache.
const INDEX_CHUNK: usize = 1 << 13;
/// Rows of an index that are taken for a run, or one by one.
const RUN: usize = 64;
const JOURNAL_SUFFIX: &str = ".journal";

/// Where a part's files are.
#[derive(Debug, Clone)]
pub(super) struct PartFiles {
    pub(super) name: String,
    pub(super) payload: PathBuf,
    pub(super) index: PathBuf,
    pub(super) journal: PathBuf,
}

impl PartFiles {
    /// # Errors
    /// [`Error::Parameter`] unless `name` is 1 to 100 letters, digits, `_` or `-`.
    pub(super) fn new(bank: &Path, name: &str) -> Result<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > 100 || !name.bytes().all(allowed) {
            return Err(Error::Parameter(format!(
                "part name {name:?}: use 1 to 100 letters, digits, '_' or '-'"
            )));
        }
        Ok(Self {
            name: name.into(),
            payload: bank.join(format!("{name}.npy")),
            index: bank.join(format!("{name}.rows.npy")),
            journal: bank.join(format!("{name}{JOURNAL_SUFFIX}")),
        })
    }

    /// The parts of a bank, by name.
    pub(super) fn list(bank: &Path) -> Result<Vec<Self>> {
        let (parts, strangers) = Self::find(bank)?;
        match strangers.into_iter().next() {
            Some(path) => Err(Error::CorruptBank {
                path,
                reason: "is not the name of a part; move the file out of the bank".into(),
            }),
            None => Ok(parts),
        }
    }

    /// The parts of a bank, by name, and journals that have no part's name.
    pub(super) fn find(bank: &Path) -> Result<(Vec<Self>, Vec<PathBuf>)> {
        let (mut parts, mut strangers) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(bank).map_err(Error::io(bank))? {
            let name = entry.map_err(Error::io(bank))?.file_name();
            let Some(name) = name.to_string_lossy().strip_suffix(JOURNAL_SUFFIX).map(str::to_owned) else {
                continue;
            };
            match Self::new(bank, &name) {
                Ok(part) => parts.push(part),
                Err(_) => strangers.push(bank.join(format!("{name}{JOURNAL_SUFFIX}"))),
            }
        }
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        strangers.sort();
        Ok((parts, strangers))
    }
}

/// A part whose sizes have been checked: its files hold the rows that its journal names.
pub(super) struct Part {
    pub(super) files: PartFiles,
    pub(super) journal: Journal,
    /// Rows of the payload's `.npy` header: fewer than the journal's after a crash between the two.
    pub(super) header_rows: u64,
    /// Rows of the row index's `.npy` header.
    pub(super) index_header_rows: u64,
    /// Payload, open for reading; `None` when nothing is committed.
    pub(super) payload: Option<File>,
}

impl Part {
    /// Read headers and journal and check every size.
    ///
    /// # Errors
    /// [`Error::CorruptBank`] for whatever contradicts the journal.
    pub(super) fn scan(files: PartFiles, manifest: &Manifest) -> Result<Self> {
        let payload_layout = Layout::Payload(manifest.dtype, manifest.n_features);
        // headers first: they never exceed the journal, and a writer may be at work
        let payload = open_regular(&files.payload)?;
        let index = open_regular(&files.index)?;
        let payload_header = payload.as_ref().map(|f| read_header(f, &files.payload)).transpose()?;
        let index_header = index.as_ref().map(|f| read_header(f, &files.index)).transpose()?;
        let journal = read_journal(&files.journal)?;
        if journal.rows > manifest.n_rows {
            return Err(Error::CorruptBank {
                path: files.journal,
                reason: format!("holds {} rows, the whole bank has {}", journal.rows, manifest.n_rows),
            });
        }
        let check = |layout, file: Option<&File>, header: Option<Vec<u8>>, path: &Path| {
            check_file(layout, file, header.as_deref(), path, journal.rows)
        };
        let header_rows = check(payload_layout, payload.as_ref(), payload_header, &files.payload)?;
        let index_header_rows = check(Layout::Index, index.as_ref(), index_header, &files.index)?;
        let payload = payload.filter(|_| journal.rows > 0);
        Ok(Self { files, journal, header_rows, index_header_rows, payload })
    }

    /// The part's row index; its rows are marked in `seen`.
    ///
    /// # Errors
    /// [`Error::CorruptBank`] for a row beyond the bank or one that is in `seen` already.
    pub(super) fn read_index(&self, n_rows: u64, seen: &mut Bitmap) -> Result<RowIndex> {
        let path = &self.files.index;
        let corrupt = |reason| Error::CorruptBank { path: path.clone(), reason };
        let mut index = RowIndex::Run(0..0);
        if self.journal.rows == 0 {
            return Ok(index);
        }
        let file = File::open(path).map_err(Error::io(path))?;
        let mut chunk = vec![0; INDEX_CHUNK.min(self.journal.rows as usize)];
        let mut reader = DataReader::new(file, path)?;
        let mut left = self.journal.rows as usize;
        while left > 0 {
            let chunk = &mut chunk[..INDEX_CHUNK.min(left)];
            reader.read(bytemuck::cast_slice_mut(chunk))?;
            // most parts are runs of rows: those are checked and marked a word at a time
            for rows in chunk.chunks(RUN) {
                let run = run_of(rows).filter(|r| r.end <= n_rows && seen.insert_run(r.start, r.end));
                if run.is_none() {
                    if let Some(row) = rows.iter().find(|&&row| row >= n_rows) {
                        return Err(corrupt(format!("names row {row}, the bank has {n_rows} rows")));
                    }
                    let there = seen.insert_each(rows);
                    if there != 0 {
                        let row = rows[there.trailing_zeros() as usize];
                        return Err(corrupt(format!(
                            "names row {row}, which is there already, in this part or another: two processes \
                             wrote it. Move one of the parts (three files) out of the bank and extract what is \
                             then missing"
                        )));
                    }
                }
                index.extend(rows, run, self.journal.rows as usize);
            }
            left -= chunk.len();
        }
        Ok(index)
    }
}

/// Rows of the bank that the lines of a part are, in the order of the lines; each fits 32 bits.
pub(super) enum RowIndex {
    /// One after the other.
    Run(Range<u64>),
    /// Any others.
    List(Vec<u32>),
}

impl RowIndex {
    pub(super) fn first(&self) -> Option<u64> {
        match self {
            Self::Run(run) => (!run.is_empty()).then_some(run.start),
            Self::List(rows) => rows.first().map(|&row| row.into()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Run(run) => (run.end - run.start) as usize,
            Self::List(rows) => rows.len(),
        }
    }

    /// Append the checked rows of a chunk, which are `run` if it is there; `capacity` rows follow in all.
    fn extend(&mut self, chunk: &[u64], run: Option<Range<u64>>, capacity: usize) {
        if let (Self::Run(rows), Some(run)) = (&mut *self, run) {
            if rows.is_empty() {
                *rows = run;
                return;
            }
            if rows.end == run.start {
                rows.end = run.end;
                return;
            }
        }
        if let Self::Run(rows) = self {
            let mut list = Vec::with_capacity(capacity); // at most u32::MAX, and on disk
            list.extend(rows.clone().map(|row| row as u32));
            *self = Self::List(list);
        }
        if let Self::List(list) = self {
            list.extend(chunk.iter().map(|&row| row as u32));
        }
    }
}

/// The chunk as a run of consecutive rows, if it is one.
fn run_of(chunk: &[u64]) -> Option<Range<u64>> {
    let start = *chunk.first()?;
    let stop = start.checked_add(chunk.len() as u64)?;
    let differ = chunk.iter().zip(start..).fold(0, |differ, (&row, expected)| differ | (row ^ expected));
    (differ == 0).then_some(start..stop)
}

/// Reads what follows the header, in order; the end of the file is corruption, not a panic.
struct DataReader<'a> {
    file: File,
    path: &'a Path,
}

impl<'a> DataReader<'a> {
    fn new(file: File, path: &'a Path) -> Result<Self> {
        let mut reader = Self { file, path };
        reader.read(&mut [0; HEADER_LEN])?;
        Ok(reader)
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        self.file.read_exact(out).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::CorruptBank {
                path: self.path.into(),
                reason: "became shorter while it was read; it is being overwritten or copied".into(),
            },
            _ => Error::io(self.path)(e),
        })
    }
}

/// Open a file for reading; `None` if it is not there. Opening a pipe would wait forever, hence the check.
pub(super) fn open_regular(path: &Path) -> Result<Option<File>> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => File::open(path).map(Some).map_err(Error::io(path)),
        Ok(_) => Err(Error::CorruptBank { path: path.into(), reason: "is not a regular file".into() }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path)(e)),
    }
}

pub(super) fn read_header(file: &File, path: &Path) -> Result<Vec<u8>> {
    let mut header = Vec::with_capacity(HEADER_LEN);
    file.take(HEADER_LEN as u64).read_to_end(&mut header).map_err(Error::io(path))?;
    Ok(header)
}

pub(super) fn read_journal(path: &Path) -> Result<Journal> {
    let Some(file) = open_regular(path)? else { return Ok(Journal::default()) };
    let mut bytes = Vec::new();
    file.take(MAX_JOURNAL_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    let corrupt = |reason| Error::CorruptBank { path: path.into(), reason };
    if bytes.len() as u64 > MAX_JOURNAL_BYTES {
        return Err(corrupt(format!("is larger than {MAX_JOURNAL_BYTES} bytes; it is no journal")));
    }
    Journal::parse(&bytes).map_err(|reason| {
        corrupt(format!("{reason}; move this part's three files out of the bank and extract its rows again"))
    })
}

/// The rows of the header, after checking it and the file's length against the journal's `rows`.
fn check_file(
    layout: Layout,
    file: Option<&File>,
    header: Option<&[u8]>,
    path: &Path,
    rows: u64,
) -> Result<u64> {
    let header_rows = parse_header(layout, header, path, rows)?;
    let Some(file) = file.filter(|_| rows > 0) else { return Ok(header_rows) };
    let have = file.metadata().map_err(Error::io(path))?.len();
    let need = layout.file_bytes(rows);
    if need.is_none_or(|need| have < need) {
        return Err(Error::CorruptBank {
            path: path.into(),
            reason: format!(
                "is shorter than its journal says ({have} bytes, {rows} rows); copy it again, or move this \
                 part's three files out of the bank and extract its rows again"
            ),
        });
    }
    Ok(header_rows)
}

/// The rows that a header names, after checking it against the journal's `rows`; `None` stands for a file
/// that is not there.
pub(super) fn parse_header(layout: Layout, header: Option<&[u8]>, path: &Path, rows: u64) -> Result<u64> {
    let corrupt = |reason| Error::CorruptBank { path: path.into(), reason };
    let Some(header) = header else {
        return if rows == 0 {
            Ok(0)
        } else {
            Err(corrupt(format!("is missing, its journal holds {rows} rows")))
        };
    };
    let Some(header_rows) = layout.parse(header) else {
        if rows == 0 && (header.len() < HEADER_LEN || header.iter().all(|&b| b == 0)) {
            return Ok(0); // a writer died, or is, between creating the file and its header reaching the disk
        }
        let what = match layout {
            Layout::Payload(dtype, d) => format!("a {} matrix of {d} features", dtype.name()),
            Layout::Index => "a row index".into(),
        };
        return Err(corrupt(format!("does not begin with the header of {what}")));
    };
    if header_rows > rows {
        return Err(corrupt(format!(
            "has {header_rows} rows by its header, the journal confirms {rows}: the journal is damaged or old"
        )));
    }
    Ok(header_rows)
}
