//! Opening a bank and reading its rows.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytemuck::PodCastError;

use super::bitmap::Bitmap;
use super::blame::explain;
use super::gather::Gather;
use super::manifest::{Dtype, Manifest};
use super::map::PayloadMap;
use super::part::{Part, PartFiles, RowIndex};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::kernel::parallel::default_threads;
use crate::rows::{Matrix, Segment, Values, ValuesMut};

/// A bank as it was when it was opened; rows committed later are not seen.
///
/// ```no_run
/// # fn main() -> ssl_risk_core::Result<()> {
/// let bank = ssl_risk_core::bank::Bank::open("banks/3f2a".as_ref())?;
/// let matrix = bank.matrix()?; // an error that says what to do if rows are missing
/// # Ok(()) }
/// ```
pub struct Bank {
    path: PathBuf,
    manifest: Manifest,
    parts: Vec<OpenPart>,
    committed: u64,
    seen: Bitmap,
    /// Storage row of each row, once it is needed; `None` in it if they are the same.
    order: OnceLock<Option<Vec<u32>>>,
}

struct OpenPart {
    info: PartInfo,
    rows: RowIndex,
    map: Option<PayloadMap>,
}

/// A part of a bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartInfo {
    /// Its name; the files are `<name>.npy`, `<name>.rows.npy`, `<name>.journal`.
    pub name: String,
    /// Committed rows, those of the journal.
    pub rows: u64,
    /// Committed blocks.
    pub blocks: usize,
    /// Whether an `.npy` header shows fewer rows than the journal: its writer died between the two, or is
    /// at work. `numpy.load` then sees fewer rows; the next writer of the part repairs it.
    pub header_behind: bool,
}

impl Bank {
    /// Open the bank in the folder `path`: read its manifest, journals and row indexes, check every size,
    /// map the payloads. Reads 8 bytes for each row; payloads are not touched.
    ///
    /// # Errors
    /// [`Error::Bank`] if there is no bank, [`Error::CorruptBank`] naming the file that is damaged, or the
    /// row that is there twice; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let manifest = Manifest::read(path)?;
        let mut seen = Bitmap::new(manifest.n_rows);
        let mut parts = Vec::new();
        for files in PartFiles::list(path)? {
            let part = Part::scan(files, &manifest)?;
            let rows = part.read_index(manifest.n_rows, &mut seen).map_err(|error| explain(path, error))?;
            parts.push(OpenPart::new(part, rows, &manifest)?); // which closes its files
        }
        // parts that lie one behind the other need no order
        parts.sort_by_key(|part| part.rows.first());
        let committed = parts.iter().map(|part| part.info.rows).sum();
        Ok(Self { path: path.into(), manifest, parts, committed, seen, order: OnceLock::new() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Shape and type.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Rows of the complete bank.
    pub fn n_rows(&self) -> usize {
        self.manifest.n_rows as usize
    }

    /// Features of each row.
    pub fn n_features(&self) -> usize {
        self.manifest.n_features as usize
    }

    /// Type of the stored features.
    pub fn dtype(&self) -> Dtype {
        self.manifest.dtype
    }

    /// Whether every row is there.
    pub fn is_complete(&self) -> bool {
        self.committed == self.manifest.n_rows
    }

    /// Number of rows that are not committed.
    pub fn n_missing(&self) -> u64 {
        self.manifest.n_rows - self.committed // every row is there once at most
    }

    /// Rows that are not committed, ascending: 8 bytes for each, however many a manifest promises.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no memory for the list.
    pub fn missing_rows(&self) -> Result<Vec<u64>> {
        if self.is_complete() { Ok(Vec::new()) } else { self.seen.missing(self.n_missing()) }
    }

    /// The parts, in storage order.
    pub fn parts(&self) -> impl Iterator<Item = &PartInfo> {
        self.parts.iter().map(|part| &part.info)
    }

    /// All rows as one matrix over the mapped files, in the order of their row index, for passes over many rows.
    /// Each block checks the files' lengths first. Should a file be cut short between that and the end of the
    /// block, the system answers with a signal (SIGBUS): [`Self::read_into`] has no such moment.
    ///
    /// # Errors
    /// [`Error::Bank`] if rows are missing.
    pub fn matrix(&self) -> Result<Matrix<'_>> {
        self.check_complete()?;
        let mut segments = Vec::new();
        for map in self.parts.iter().filter_map(|part| part.map.as_ref()) {
            let values = match self.manifest.dtype {
                Dtype::F16 => bytemuck::try_cast_slice(map.data()).map(Values::F16),
                Dtype::F32 => bytemuck::try_cast_slice(map.data()).map(Values::F32),
            };
            let values = values.map_err(|e: PodCastError| Error::CorruptBank {
                path: self.path.clone(),
                reason: format!("payload cannot be read as {}: {e}", self.manifest.dtype.name()),
            })?;
            segments.push(Segment { values, guard: Some(map) });
        }
        let matrix = Matrix::new(self.n_features(), segments)?;
        match self.order() {
            Some(order) => matrix.with_order(order),
            None => Ok(matrix),
        }
    }

    /// The given rows as float32, row-major `(rows.len(), n_features)`.
    ///
    /// # Errors
    /// Those of [`Self::read_into`].
    pub fn read(&self, rows: &[u64], control: &Control) -> Result<Vec<f32>> {
        let len = rows.len().checked_mul(self.n_features()).filter(|&len| len <= isize::MAX as usize / 4);
        let len = len.ok_or_else(|| Error::Parameter(format!("{} rows at once; read fewer", rows.len())))?;
        let mut out = vec![0.0; len];
        self.read_into(rows, ValuesMut::F32(&mut out), default_threads(), control)?;
        Ok(out)
    }

    /// Copy the given rows, in the order asked for, into `out`, row-major `(rows.len(), n_features)`. Rows
    /// that are not in memory are asked of the disk many at a time. They are read from the files, so that one
    /// that is cut short meanwhile is an error.
    ///
    /// # Errors
    /// Those of [`Self::matrix`]; [`Error::Parameter`] for a row beyond the bank, or float16 of a float32
    /// bank; [`Error::Shape`] for a buffer of another length; [`Error::CorruptBank`] if a file has shrunk;
    /// [`Error::Interrupted`].
    pub fn read_into(
        &self,
        rows: &[u64],
        out: ValuesMut<'_>,
        n_threads: usize,
        control: &Control,
    ) -> Result<()> {
        self.check_complete()?;
        let n_rows = self.manifest.n_rows;
        if let Some(row) = rows.iter().find(|&&row| row >= n_rows) {
            return Err(Error::Parameter(format!("row {row} asked for, the bank has {n_rows}")));
        }
        let maps = self.parts.iter().filter_map(|part| part.map.as_ref().map(|map| (map, part.info.rows)));
        let gather = Gather::new(self.manifest.dtype, self.n_features(), maps, self.order());
        gather.copy(rows, out, n_threads, control)
    }

    fn order(&self) -> Option<&[u32]> {
        self.order.get_or_init(|| order(self.parts.iter().map(|part| &part.rows))).as_deref()
    }

    fn check_complete(&self) -> Result<()> {
        if self.is_complete() {
            return Ok(());
        }
        let (missing, n_rows) = (self.n_missing(), self.manifest.n_rows);
        Err(Error::Bank {
            path: self.path.clone(),
            reason: format!(
                "{missing} of {n_rows} rows are missing; run the extraction again, it encodes only those"
            ),
        })
    }
}

/// Storage row of each row of a complete bank; `None` if they are the same.
fn order<'a>(parts: impl Iterator<Item = &'a RowIndex> + Clone) -> Option<Vec<u32>> {
    let mut stop = 0;
    let in_order = parts.clone().all(|rows| match rows {
        RowIndex::Run(run) => run.is_empty() || std::mem::replace(&mut stop, run.end) == run.start,
        RowIndex::List(_) => false,
    });
    if in_order {
        return None;
    }
    let total = parts.clone().map(RowIndex::len).sum();
    let mut order = vec![0; total];
    let mut at = 0;
    for rows in parts {
        match rows {
            RowIndex::Run(run) => {
                for (slot, at) in order[run.start as usize..run.end as usize].iter_mut().zip(at..) {
                    *slot = at;
                }
            }
            RowIndex::List(list) => {
                for (&row, at) in list.iter().zip(at..) {
                    order[row as usize] = at;
                }
            }
        }
        at += rows.len() as u32;
    }
    Some(order)
}

impl OpenPart {
    fn new(part: Part, rows: RowIndex, manifest: &Manifest) -> Result<Self> {
        let committed = part.journal.rows;
        let info = PartInfo {
            rows: committed,
            blocks: part.journal.blocks.len(),
            header_behind: part.header_rows.min(part.index_header_rows) < committed,
            name: part.files.name,
        };
        // `scan` has found the product within the file's length
        let data_bytes = committed * manifest.n_features * manifest.dtype.size() as u64;
        let map =
            part.payload.map(|file| PayloadMap::new(&file, &part.files.payload, data_bytes)).transpose()?;
        Ok(Self { info, rows, map })
    }
}
