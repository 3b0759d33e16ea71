//! `bank.json`: what the core needs of it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Name of the manifest in the bank's folder.
pub(super) const FILE: &str = "bank.json";
const FORMAT: &str = "ssl-risk-bank";
const SCHEMA_VERSION: u64 = 1;
/// Rows are numbered in 32 bits wherever many of them are held.
const MAX_ROWS: u64 = u32::MAX as u64;
/// Far above any representation, and small enough that no product of sizes here overflows.
const MAX_FEATURES: u64 = 1 << 28;
/// A manifest is class names and a few facts; more than this is not one.
const MAX_BYTES: u64 = 64 << 20;

/// Type of the stored features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dtype {
    /// IEEE binary16.
    #[serde(rename = "float16")]
    F16,
    /// IEEE binary32.
    #[serde(rename = "float32")]
    F32,
}

impl Dtype {
    /// Bytes of a value.
    pub const fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// NumPy's name: `float16` or `float32`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::F32 => "float32",
        }
    }

    pub(super) const fn descr(self) -> &'static str {
        match self {
            Self::F16 => "<f2",
            Self::F32 => "<f4",
        }
    }
}

/// Shape and type of a bank's matrix, from its `bank.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    /// Rows of the complete bank.
    pub n_rows: u64,
    /// Features of each row.
    pub n_features: u64,
    /// Type of the stored features.
    pub dtype: Dtype,
}

/// The fields of `bank.json` that concern the core; others are kept for the reader in Python.
#[derive(Serialize, Deserialize)]
struct Document {
    format: String,
    schema_version: u64,
    n_rows: u64,
    n_features: u64,
    dtype: Dtype,
}

impl Manifest {
    /// Read and check `bank.json` in the folder `bank`.
    ///
    /// # Errors
    /// [`Error::Bank`] if there is none, [`Error::CorruptBank`] if it is not what the format says.
    pub fn read(bank: &Path) -> Result<Self> {
        let path = bank.join(FILE);
        let mut text = Vec::new();
        match std::fs::metadata(&path) {
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                return Err(Error::Bank {
                    path: bank.into(),
                    reason: "is no feature bank (it has no bank.json); `ssl-risk-rs store ls` lists those there are"
                        .into(),
                });
            }
            Err(e) => return Err(Error::io(path)(e)),
            Ok(metadata) if !metadata.is_file() => {
                return Err(Error::CorruptBank { path, reason: "is not a regular file".into() });
            }
            Ok(_) => {}
        }
        let file = File::open(&path).map_err(Error::io(&path))?;
        file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(Error::io(&path))?;
        let corrupt = |reason: String| Error::CorruptBank { path: path.clone(), reason };
        if text.len() as u64 > MAX_BYTES {
            return Err(corrupt(format!("is larger than {MAX_BYTES} bytes")));
        }
        // what the core skips is read in Python, and by others
        if let Err(error) = std::str::from_utf8(&text) {
            return Err(corrupt(format!("is no UTF-8 text ({error}); copy the bank again, or make it anew")));
        }
        let document: Document = serde_json::from_slice(&text)
            .map_err(|e| corrupt(format!("is not the manifest of a feature bank ({e})")))?;
        if document.format != FORMAT {
            return Err(corrupt(format!("has format {:?}, expected {FORMAT:?}", document.format)));
        }
        if document.schema_version != SCHEMA_VERSION {
            return Err(corrupt(format!(
                "has schema version {}, this release reads {SCHEMA_VERSION}; install the release that wrote it",
                document.schema_version
            )));
        }
        let Document { n_rows, n_features, dtype, .. } = document;
        Self { n_rows, n_features, dtype }.checked().map_err(corrupt)
    }

    /// Write a minimal `bank.json` into the new folder `bank`: enough for the core, for tests and
    /// benchmarks. Banks of encoders are made by `ssl_risk_rs.FeatureBank.create`, with `samples.parquet`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a shape that a bank cannot have, [`Error::Io`] if `bank` exists.
    pub fn create(self, bank: &Path) -> Result<()> {
        let Self { n_rows, n_features, dtype } = self.checked().map_err(Error::Parameter)?;
        let document =
            Document { format: FORMAT.into(), schema_version: SCHEMA_VERSION, n_rows, n_features, dtype };
        std::fs::create_dir(bank).map_err(Error::io(bank))?;
        let path = bank.join(FILE);
        let text = serde_json::to_vec_pretty(&document).expect("numbers and strings serialize");
        File::create_new(&path).and_then(|mut f| f.write_all(&text)).map_err(Error::io(&path))
    }

    fn checked(self) -> std::result::Result<Self, String> {
        if self.n_rows > MAX_ROWS {
            return Err(format!("says {} rows, the format allows {MAX_ROWS}", self.n_rows));
        }
        if self.n_features == 0 || self.n_features > MAX_FEATURES {
            return Err(format!("says {} features, the format allows 1 to {MAX_FEATURES}", self.n_features));
        }
        Ok(self)
    }
}
