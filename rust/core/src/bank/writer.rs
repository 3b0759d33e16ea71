//! Appending blocks of rows to a part, so that a committed block survives whatever happens to the writer.

use std::path::Path;
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;
use xxhash_rust::xxh3::xxh3_64;

use super::bitmap::Bitmap;
use super::blame::explain;
use super::disk::{Disk, Output, Role, System, sync_folder};
use super::journal::{Block, Journal};
use super::lock::{Lock, LockedJournal, Owner, lock};
use super::manifest::{Dtype, Manifest};
use super::npy::{HEADER_LEN, Layout};
use super::part::{Part, PartFiles};
use crate::error::{Error, Result};
use crate::rows::Values;

const ADVICE_FINITE: &str = "representations must be finite: look for an overflow in the encoder (encode in float32) or in the \
                             file they come from";
const ADVICE_F16: &str = "float16 ends at 65504: make the bank with dtype float32";

/// The one writer of a part, in the process that opened it. Its lock is released when it is dropped there, or
/// when that process and all its forks have died.
///
/// ```no_run
/// # fn main() -> ssl_risk_core::Result<()> {
/// use ssl_risk_core::{bank::PartWriter, rows::Values};
/// let mut writer = PartWriter::open("banks/3f2a".as_ref(), "gpu0")?;
/// writer.append(&[4, 5], Values::F32(&[0.5; 2 * 768]))?; // on disk when it returns
/// writer.close()
/// # }
/// ```
pub struct PartWriter {
    manifest: Manifest,
    /// Rows of all parts when this one was opened, and those appended since.
    taken: Bitmap,
    committed: u64,
    payload: Output,
    index: Output,
    journal: LockedJournal,
    journal_bytes: u64,
    /// The headers could not be written after the last block; they are written again with the next one.
    headers_behind: bool,
    /// After an error of the operating system nobody knows what is on disk until the part is opened again.
    broken: bool,
}

impl PartWriter {
    /// Open the part `name` of the bank in the folder `bank`, or make it. What a writer that died had
    /// committed is kept, what it had not is overwritten.
    ///
    /// # Errors
    /// [`Error::Bank`] if another writer has the part; [`Error::Parameter`] for a name that is not letters,
    /// digits, `_` and `-`; the errors of [`super::Bank::open`].
    pub fn open(bank: &Path, name: &str) -> Result<Self> {
        Self::open_on(Arc::new(System), bank, name)
    }

    pub(super) fn open_on(disk: Arc<dyn Disk>, bank: &Path, name: &str) -> Result<Self> {
        let manifest = Manifest::read(bank)?;
        let files = PartFiles::new(bank, name)?;
        let reason = match lock(Owner::new(bank, name), &files.journal, disk)? {
            Lock::Held(journal) => return Self::resume(bank, manifest, files, journal),
            Lock::Busy => format!("part {name:?} has a writer already; give this one another part name"),
            Lock::Unknown => format!(
                "part {name:?} exists and this file system has no locks, so nobody can tell whether it has a \
                 writer; give this one another part name"
            ),
        };
        Err(Error::Bank { path: bank.into(), reason })
    }

    /// Open the first of the parts `<prefix>-0`, `<prefix>-1`, … that has no writer.
    ///
    /// # Errors
    /// Those of [`Self::open`], except that a part in use is passed over.
    pub fn open_free(bank: &Path, prefix: &str) -> Result<Self> {
        let manifest = Manifest::read(bank)?;
        for number in 0_u64.. {
            let name = format!("{prefix}-{number}");
            let files = PartFiles::new(bank, &name)?;
            if let Lock::Held(journal) = lock(Owner::new(bank, &name), &files.journal, Arc::new(System))? {
                return Self::resume(bank, manifest, files, journal);
            }
        }
        unreachable!("a bank holds fewer than 2^64 parts")
    }

    fn resume(bank: &Path, manifest: Manifest, files: PartFiles, journal: LockedJournal) -> Result<Self> {
        let mut taken = Bitmap::new(manifest.n_rows);
        let mut this = None;
        for part in PartFiles::list(bank)? {
            let part = Part::scan(part, &manifest)?;
            part.read_index(manifest.n_rows, &mut taken).map_err(|error| explain(bank, error))?;
            if part.files.name == files.name {
                this = Some(part.journal);
            }
        }
        let found = this.ok_or_else(|| Error::CorruptBank {
            path: files.journal.clone(),
            reason: "vanished while its writer opened it".into(),
        })?;
        // the journal is on disk before any header follows it: of two that do not agree, it must not be the
        // older one
        settle(&journal.output, &found)?;
        let disk = Arc::clone(&journal.output.disk);
        let mut writer = Self {
            manifest,
            taken,
            committed: found.rows,
            payload: Output::open(Role::Payload, files.payload, Arc::clone(&disk))?,
            index: Output::open(Role::Index, files.index, disk)?,
            journal,
            journal_bytes: found.valid_bytes,
            headers_behind: false,
            broken: false,
        };
        writer.write_headers()?;
        writer.payload.sync()?;
        writer.index.sync()?;
        sync_folder(bank)?;
        Ok(writer)
    }

    /// Name of the part.
    pub fn part(&self) -> &str {
        self.journal.owner.part()
    }

    /// The process that may use this writer.
    pub fn owner(&self) -> &Owner {
        &self.journal.owner
    }

    /// Shape and type of the bank.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Rows committed in this part.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Commit a block: row `rows[i]` of the bank is line `i` of `values`. When this returns, the block is
    /// on disk. Two waits for the disk: give it a few MB at a time.
    ///
    /// # Shapes
    /// `rows` (m,), `values` (m, n_features) row-major; m = 0 does nothing.
    ///
    /// # Errors
    /// Nothing of the block counts after [`Error::Shape`]; [`Error::Parameter`] for a row beyond the bank or
    /// one that is there already; [`Error::BadValue`] naming the row, for NaN, infinity, or more than float16
    /// holds; [`Error::Io`], after which the part must be opened again.
    ///
    /// [`Error::Bank`] in a process forked from the one that opened the writer, where nothing is written; and
    /// if the journal's line is written but the system cannot bring it to disk: readers on this machine may
    /// see the block, a power failure may take it away. The message says so; the writer then refuses to go on,
    /// and opening the part again settles it: the block is brought to disk, or is missing.
    pub fn append(&mut self, rows: &[u64], values: Values<'_>) -> Result<()> {
        self.owner().check()?;
        if self.broken {
            return Err(Error::Bank {
                path: self.payload.path.clone(),
                reason: "an earlier write failed; open the part again, committed rows are safe".into(),
            });
        }
        let encoded = self.encode(rows, values)?;
        self.claim(rows)?;
        if rows.is_empty() {
            return Ok(());
        }
        self.broken = true;
        self.commit(rows.len() as u64, &encoded, bytemuck::cast_slice(rows))?;
        self.broken = false;
        Ok(())
    }

    /// Wait until the headers are on disk too, and release the part. Dropping the writer loses no rows.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be written: committed rows are safe, `numpy.load` sees fewer of them until
    /// the part is opened again. [`Error::Bank`] in a process forked from the one that opened the writer.
    pub fn close(mut self) -> Result<()> {
        self.owner().check()?;
        if self.headers_behind && !self.broken {
            self.write_headers()?;
        }
        self.payload.sync()?;
        self.index.sync()
    }

    /// The payload bytes of a block, after every check on its shape and values.
    fn encode(&self, rows: &[u64], values: Values<'_>) -> Result<Vec<u8>> {
        let d = self.manifest.n_features as usize;
        let got = match values {
            Values::F16(v) => v.len(),
            Values::F32(v) => v.len(),
        };
        if Some(got) != rows.len().checked_mul(d) {
            return Err(Error::Shape {
                what: "block of features (values in all)",
                got,
                expected: rows.len().saturating_mul(d),
            });
        }
        let limit = match self.manifest.dtype {
            Dtype::F16 => f16::MAX.to_f32(),
            Dtype::F32 => f32::MAX,
        };
        let bad = match values {
            Values::F16(v) => v.iter().position(|v| !v.is_finite()).map(|at| (at, v[at].to_f32())),
            Values::F32(v) => v.iter().position(|v| v.is_nan() || v.abs() > limit).map(|at| (at, v[at])),
        };
        if let Some((at, value)) = bad {
            return Err(Error::BadValue {
                row: rows[at / d] as usize,
                column: at % d,
                value: f64::from(value),
                advice: if value.is_finite() { ADVICE_F16 } else { ADVICE_FINITE },
            });
        }
        Ok(match (values, self.manifest.dtype) {
            (Values::F16(v), Dtype::F16) => bytemuck::cast_slice(v).to_vec(),
            (Values::F32(v), Dtype::F32) => bytemuck::cast_slice(v).to_vec(),
            (Values::F32(v), Dtype::F16) => {
                let mut narrow = vec![f16::ZERO; v.len()];
                narrow.convert_from_f32_slice(v);
                bytemuck::cast_slice(&narrow).to_vec()
            }
            (Values::F16(v), Dtype::F32) => bytemuck::cast_slice(&v.to_f32_vec()).to_vec(),
        })
    }

    /// Mark the rows as taken; on an error none of them is.
    fn claim(&mut self, rows: &[u64]) -> Result<()> {
        let n_rows = self.manifest.n_rows;
        for (at, &row) in rows.iter().enumerate() {
            let reason = if row >= n_rows {
                format!("row {row} is beyond the bank's {n_rows} rows")
            } else if self.taken.insert(row) {
                continue;
            } else {
                format!(
                    "row {row} is in the bank already, or twice in this block; write only its missing_rows"
                )
            };
            rows[..at].iter().for_each(|&row| self.taken.remove(row));
            return Err(Error::Parameter(reason));
        }
        Ok(())
    }

    /// Payload and index, then the journal line, then the headers; each on disk before the next begins.
    /// (The headers may wait, and may fail: the journal decides.)
    fn commit(&mut self, rows: u64, payload: &[u8], index: &[u8]) -> Result<()> {
        let at = self.committed;
        let start = HEADER_LEN as u64;
        self.payload.write_at(start + at * self.payload_layout().row_bytes(), payload)?;
        self.index.write_at(start + at * Layout::Index.row_bytes(), index)?;
        // one wait for both files, and the hashes are taken meanwhile
        let (index_synced, hashes, payload_synced) = std::thread::scope(|scope| {
            let index_synced = scope.spawn(|| self.index.sync());
            let payload_synced = scope.spawn(|| self.payload.sync());
            let hashes = (xxh3_64(payload), xxh3_64(index));
            (index_synced.join(), hashes, payload_synced.join())
        });
        payload_synced.expect("a thread that waits for the disk does not panic")?;
        index_synced.expect("a thread that waits for the disk does not panic")?;
        let block = Block { rows, offset: at, payload: hashes.0, index: hashes.1 };
        let line = block.line();
        // a line that is not whole does not count
        self.journal.output.write_at(self.journal_bytes, line.as_bytes())?;
        self.journal.output.sync().map_err(|error| self.unsettled(rows, &error))?;
        self.journal_bytes += line.len() as u64;
        self.committed += rows;
        self.headers_behind = self.write_headers().is_err();
        Ok(())
    }

    /// The journal's line is written and may be seen, and nobody knows whether it is on disk. It is not taken
    /// back: a reader may have the block mapped, and the next one would be written over it.
    fn unsettled(&self, rows: u64, error: &Error) -> Error {
        Error::Bank {
            path: self.journal.output.path.clone(),
            reason: format!(
                "the journal could not be brought to disk, so it is unknown whether the last block of {rows} rows \
                 counts until the part is opened again; open it, and write the rows that are then missing ({error})"
            ),
        }
    }

    fn write_headers(&mut self) -> Result<()> {
        let payload = self.payload_layout().header(self.committed);
        self.payload.write_at(0, &payload)?;
        self.index.write_at(0, &Layout::Index.header(self.committed))?;
        self.headers_behind = false;
        Ok(())
    }

    fn payload_layout(&self) -> Layout {
        Layout::Payload(self.manifest.dtype, self.manifest.n_features)
    }
}

/// Bring the committed lines of a journal to disk, and cut off its torn tail (journals are read, never mapped).
///
/// The last line is written once more: the system may have failed to bring it to disk before, and then takes
/// its copy in memory for one that is on disk.
fn settle(journal: &Output, found: &Journal) -> Result<()> {
    if let Some(block) = found.blocks.last() {
        let line = block.line();
        journal.write_at(found.valid_bytes - line.len() as u64, line.as_bytes())?;
    }
    journal.cut(found.valid_bytes)?;
    journal.sync()
}
