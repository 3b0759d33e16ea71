//! Moments on disk: a safetensors file, so that other tools can read the sums.
//!
//! ```text
//! counts  U64  (cells, k)            rows of each class
//! gram    F64  (cells, d (d + 1)/2)  Σ (x−c)(x−c)ᵀ, lower triangle row by row
//! ranges  F32  (cells, 2, d)         least and largest x − c
//! shift   F32  (d)                   c
//! sums    F64  (cells, k, d)         Σ (x − c) by class
//! ```
//!
//! The metadata hold `format`, `schema_version`, `sums` ([`Sums::name`]; files of earlier releases do not have it and
//! hold float32 sums), `precision` if further rows are to be summed in one ([`Moments::with_sums`]) and `xxh3`: the hash
//! of the tensors' bytes in the order of their names. Nothing in the file depends on how this crate lays sums out in
//! memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize, serialize_to_file};
use xxhash_rust::xxh3::Xxh3;

use super::cell::Cell;
use super::{Moments, Sums};
use crate::error::{Error, Result};
use crate::kernel::{LANES, Symmetric};

const FORMAT: &str = "ssl-risk-moments";
const SCHEMA_VERSION: &str = "1";
/// Names, in the order in which they are hashed.
const TENSORS: [&str; 5] = ["counts", "gram", "ranges", "shift", "sums"];
/// Rows that float64 still counts one by one.
pub(super) const MAX_ROWS: u64 = 1 << 53;

impl Moments {
    /// Write the moments to `path`: beside it, brought to disk, then renamed over what is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors = self.tensors();
        publish(path, |temporary| {
            serialize_to_file(tensors.views(), Some(self.metadata(&tensors)), temporary).map_err(|error| {
                match error {
                    safetensors::SafeTensorError::IoError(source) => Error::io(path)(source),
                    other => Error::Io { path: path.into(), source: std::io::Error::other(other) },
                }
            })
        })
    }

    /// The bytes of the file that [`Self::save`] writes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tensors = self.tensors();
        serialize(tensors.views(), Some(self.metadata(&tensors))).expect("shapes are those of the bytes")
    }

    fn metadata(&self, tensors: &Tensors) -> HashMap<String, String> {
        let mut metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("schema_version".to_owned(), SCHEMA_VERSION.to_owned()),
            ("sums".to_owned(), self.sums.name().to_owned()),
            ("xxh3".to_owned(), hash(tensors.bytes.iter().map(Vec::as_slice))),
        ]);
        metadata.extend(self.wanted.map(|sums| ("precision".to_owned(), sums.name().to_owned())));
        metadata
    }

    fn tensors(&self) -> Tensors {
        let (d, k, cells) = (self.n_features, self.n_classes, self.cells.len());
        let of_cells =
            |values: &dyn Fn(&Cell) -> Vec<u8>| self.cells.iter().flat_map(values).collect::<Vec<u8>>();
        let bytes: [Vec<u8>; 5] = [
            of_cells(&|cell| cell.counts.iter().flat_map(|n| n.to_le_bytes()).collect()),
            of_cells(&|cell| {
                (0..d).flat_map(|i| (0..=i).flat_map(move |j| cell.gram.get(i, j).to_le_bytes())).collect()
            }),
            of_cells(&|cell| {
                (0..2).flat_map(|s| (0..d).flat_map(move |j| cell.bound(s, j).to_le_bytes())).collect()
            }),
            self.shift.iter().flat_map(|c| c.to_le_bytes()).collect(),
            of_cells(&|cell| {
                (0..k).flat_map(|c| (0..d).flat_map(move |j| cell.sum(c, j).to_le_bytes())).collect()
            }),
        ];
        Tensors { shapes: shapes(d, k, cells).expect("the sums are in memory"), bytes }
    }

    /// Read what [`Self::save`] wrote: the same bits.
    ///
    /// # Errors
    /// [`Error::CorruptBank`] naming the file and what is wrong with it, for a file that is not such a one,
    /// truncated, changed, or impossible; [`Error::Io`].
    pub fn load(path: &Path) -> Result<Self> {
        let corrupt = |reason: String| Error::CorruptBank { path: path.into(), reason };
        let mut bytes = Vec::new();
        let mut file = File::open(path).map_err(Error::io(path))?;
        if !file.metadata().map_err(Error::io(path))?.is_file() {
            return Err(corrupt("is not a regular file".into()));
        }
        file.read_to_end(&mut bytes).map_err(Error::io(path))?;
        parse(&bytes).map_err(|reason| corrupt(format!("{reason}; save the moments again")))
    }

    /// The inverse of [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`Error::Parameter`] with what is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        parse(bytes).map_err(|reason| Error::Parameter(format!("the bytes of moments: {reason}")))
    }
}

/// What a file holds, by [`TENSORS`].
struct Tensors {
    shapes: [(Dtype, Vec<usize>); 5],
    bytes: [Vec<u8>; 5],
}

impl Tensors {
    fn views(&self) -> Vec<(&'static str, TensorView<'_>)> {
        let views =
            TENSORS.iter().zip(&self.shapes).zip(&self.bytes).map(|((&name, (dtype, shape)), bytes)| {
                Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?))
            });
        views
            .collect::<std::result::Result<_, safetensors::SafeTensorError>>()
            .expect("shapes are those of the bytes")
    }
}

fn parse(bytes: &[u8]) -> std::result::Result<Moments, String> {
    let damaged = |error| format!("is not a sound file of moments ({error})");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let said = |name: &str| metadata.get(name).map(String::as_str);
    if said("format") != Some(FORMAT) {
        return Err(format!("has format {:?}, expected {FORMAT:?}", said("format").unwrap_or("")));
    }
    if said("schema_version") != Some(SCHEMA_VERSION) {
        return Err(format!(
            "has schema version {:?}, this release reads {SCHEMA_VERSION}",
            said("schema_version").unwrap_or("")
        ));
    }
    let rounding = said("sums").map_or(Some(Sums::Float32), Sums::from_name);
    let rounding = rounding
        .ok_or_else(|| format!("has sums in {:?}, which is none of ours", said("sums").unwrap_or("")))?;
    let wanted = match said("precision") {
        None => None,
        Some(name) => Some(
            Sums::from_name(name).ok_or_else(|| format!("has precision {name:?}, which is none of ours"))?,
        ),
    };
    let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
    if tensors.len() != TENSORS.len() {
        return Err(format!("holds {} tensors, expected {TENSORS:?}", tensors.len()));
    }
    let views = TENSORS.map(|name| tensors.tensor(name));
    let [Ok(counts), Ok(gram), Ok(ranges), Ok(shift), Ok(sums)] = &views else {
        return Err(format!("holds the tensors {:?}, expected {TENSORS:?}", tensors.names()));
    };
    let &[cells, k] = counts.shape() else {
        return Err(format!("has counts of shape {:?}, expected (cells, classes)", counts.shape()));
    };
    let d = shift.shape().first().copied().unwrap_or(0);
    let expected = shapes(d, k, cells).filter(|_| d > 0 && k > 0 && cells > 0);
    let expected = expected.ok_or_else(|| format!("has {cells} cells of {k} classes and {d} features"))?;
    for ((name, view), (dtype, shape)) in
        TENSORS.iter().zip([counts, gram, ranges, shift, sums]).zip(&expected)
    {
        if view.dtype() != *dtype || view.shape() != shape {
            return Err(format!(
                "has {name} as {:?} {:?}, expected {dtype:?} {shape:?}",
                view.dtype(),
                view.shape()
            ));
        }
    }
    let data = [counts, gram, ranges, shift, sums].map(TensorView::data);
    if said("xxh3") != Some(hash(data.into_iter()).as_str()) {
        return Err("has changed since it was written (its hash does not fit its contents)".into());
    }
    let [counts, gram, ranges, shift, sums] = data;
    let shift: Vec<f32> = singles(shift).collect();
    if !shift.iter().all(|c| c.is_finite()) {
        return Err("has a shift that is not finite".into());
    }
    let places = places(d);
    let cells = (0..cells)
        .map(|cell| {
            let part = |bytes: &'_ [u8]| bytes.len() / cells * cell..bytes.len() / cells * (cell + 1);
            Cell::from_parts(
                &counts[part(counts)],
                &gram[part(gram)],
                &ranges[part(ranges)],
                &sums[part(sums)],
                &places,
                (d, k),
            )
            .map_err(|reason| format!("has {reason} in cell {cell}"))
        })
        .collect::<std::result::Result<_, _>>()?;
    Ok(Moments { n_features: d, n_classes: k, shift, wanted, sums: rounding, cells })
}

impl Cell {
    /// Least (0) or largest (1) x − c of feature `j`.
    fn bound(&self, side: usize, j: usize) -> f32 {
        self.ranges[(j / LANES * 2 + side) * LANES + j % LANES]
    }

    /// The inverse of what `save` writes of a cell; the lengths have been checked.
    fn from_parts(
        counts: &[u8],
        gram: &[u8],
        ranges: &[u8],
        sums: &[u8],
        places: &[usize],
        (d, k): (usize, usize),
    ) -> std::result::Result<Self, &'static str> {
        let mut cell = Self::new(d, k);
        for (n, bytes) in cell.counts.iter_mut().zip(counts.as_chunks().0) {
            *n = u64::from_le_bytes(*bytes);
        }
        let rows = cell.counts.iter().try_fold(0_u64, |rows, &n| rows.checked_add(n));
        if rows.is_none_or(|rows| rows > MAX_ROWS) {
            return Err("more rows than can be counted");
        }
        for (at, value) in doubles(sums).enumerate() {
            let (c, j) = (at / d, at % d);
            cell.sums[(j / LANES * k + c) * LANES + j % LANES] = value;
        }
        for (at, value) in singles(ranges).enumerate() {
            let (side, j) = (at / d, at % d);
            cell.ranges[(j / LANES * 2 + side) * LANES + j % LANES] = value;
        }
        let entries = cell.gram.entries_mut();
        for (&at, value) in places.iter().zip(doubles(gram)) {
            entries[at] = value;
        }
        if !cell.sums.iter().all(|v| v.is_finite()) || !cell.gram.entries().iter().all(|v| v.is_finite()) {
            return Err("sums that are not finite");
        }
        let never_any = |j| cell.bound(0, j) == f32::INFINITY && cell.bound(1, j) == f32::NEG_INFINITY;
        let sound = |j| {
            let (least, largest) = (cell.bound(0, j), cell.bound(1, j));
            least.is_finite() && largest.is_finite() && least <= largest
        };
        // rows that were taken away again leave their ranges
        if !(0..d).all(sound) && (rows != Some(0) || !(0..d).all(never_any)) {
            return Err("impossible ranges");
        }
        Ok(cell)
    }
}

/// Where a symmetric matrix keeps the entries of its lower triangle, row by row: the kernels decide that, and a
/// matrix that holds the numbers of its own places tells.
fn places(d: usize) -> Vec<usize> {
    let mut numbers = Symmetric::new(d);
    for (at, number) in numbers.entries_mut().iter_mut().enumerate() {
        *number = at as f64;
    }
    (0..d).flat_map(|i| (0..=i).map(move |j| (i, j))).map(|(i, j)| numbers.get(i, j) as usize).collect()
}

/// Types and shapes of the tensors; `None` if no file is that large.
fn shapes(d: usize, k: usize, cells: usize) -> Option<[(Dtype, Vec<usize>); 5]> {
    let triangle = d.checked_mul(d.checked_add(1)?)? / 2;
    [cells.checked_mul(k)?.checked_mul(d)?, cells.checked_mul(triangle)?]
        .iter()
        .try_fold((), |(), values| {
            values.checked_mul(8).filter(|&bytes| isize::try_from(bytes).is_ok()).map(|_| ())
        })?;
    Some([
        (Dtype::U64, vec![cells, k]),
        (Dtype::F64, vec![cells, triangle]),
        (Dtype::F32, vec![cells, 2, d]),
        (Dtype::F32, vec![d]),
        (Dtype::F64, vec![cells, k, d]),
    ])
}

fn hash<'a>(tensors: impl Iterator<Item = &'a [u8]>) -> String {
    let mut state = Xxh3::new();
    for bytes in tensors {
        state.update(&(bytes.len() as u64).to_le_bytes());
        state.update(bytes);
    }
    format!("{:016x}", state.digest())
}

fn singles(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|v| f32::from_le_bytes(*v))
}

fn doubles(bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.as_chunks().0.iter().map(|v| f64::from_le_bytes(*v))
}

/// Write a file beside `path`, bring it to disk, rename it.
fn publish(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name =
        path.file_name().ok_or_else(|| Error::Parameter(format!("{} names no file", path.display())))?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let temporary =
        path.with_file_name(format!(".{}.{}-{number}.tmp", name.to_string_lossy(), std::process::id()));
    let done = write(&temporary).and_then(|()| {
        File::options()
            .append(true)
            .open(&temporary)
            .and_then(|mut file| file.flush().and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&temporary, path))
            .map_err(Error::io(path))
    });
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary); // it may not be there
        return done;
    }
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Control, Run};
    use crate::moments::Scaling;
    use crate::rows::{Matrix, Segment, TrainingRows, Values};
    use tempfile::TempDir;

    /// Two of three cells with rows, class 2 without; 37 features about a shift.
    fn moments() -> Moments {
        let (n, d) = (90, 37);
        let x: Vec<f32> = (0..n * d).map(|i| ((i * 37 + i / d * 11) % 101) as f32 / 8.0 + 40.0).collect();
        let labels: Vec<u32> = (0..n as u32).map(|i| [0, 1, 3][i as usize % 3]).collect();
        let cells: Vec<u8> = (0..n).map(|i| (i % 2 * 2) as u8).collect();
        let rows: Vec<u32> = (0..n as u32).collect();
        let matrix = Matrix::new(d, vec![Segment { values: Values::F32(&x), guard: None }]).unwrap();
        let mut moments = Moments::new(4, 3, (0..d).map(|j| j as f32 + 30.0).collect()).unwrap();
        let training = TrainingRows::new(&matrix, &rows, &labels, 4).unwrap();
        moments.update(training, &cells, Run { n_threads: 1, control: &Control::new() }).unwrap();
        moments
    }

    /// All that moments say.
    fn facts(m: &Moments) -> (Vec<f32>, Vec<Vec<u64>>, Vec<u64>) {
        let (d, k) = (m.n_features, m.n_classes);
        let values = m.cells.iter().flat_map(|cell| {
            let gram = (0..d * d).map(move |i| cell.gram.get(i / d, i % d).to_bits());
            let sums = (0..k * d).map(move |i| cell.sum(i / d, i % d).to_bits());
            gram.chain(sums).chain((0..2 * d).map(move |i| cell.bound(i / d, i % d).to_bits().into()))
        });
        (m.shift.clone(), m.cells.iter().map(|cell| cell.counts.clone()).collect(), values.collect())
    }

    fn saved() -> (TempDir, std::path::PathBuf, Vec<u8>) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("moments.safetensors");
        moments().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (folder, path, bytes)
    }

    #[test]
    fn what_is_saved_comes_back_and_replaces_what_was_there() {
        let (folder, path, _) = saved();
        let mut twice = moments();
        assert_eq!(facts(&Moments::load(&path).unwrap()), facts(&twice));
        twice.merge(&moments()).unwrap();
        twice.save(&path).unwrap();
        let back = Moments::load(&path).unwrap();
        assert_eq!(facts(&back), facts(&twice));
        let bits = |m: &Moments| m.solve(&[1.0], &[0, 2], Scaling::MinMax).unwrap()[0].weights.clone();
        assert_eq!(bits(&back), bits(&twice));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1); // nothing else is left
        Moments::new(2, 1, vec![0.0]).unwrap().save(&path).unwrap(); // no rows yet
        assert_eq!(Moments::load(&path).unwrap(), Moments::new(2, 1, vec![0.0]).unwrap());
        assert!(matches!(moments().save(&folder.path().join("none/m")), Err(Error::Io { .. })));
        assert!(moments().save(Path::new("/")).is_err());
        assert!(matches!(Moments::load(folder.path()), Err(Error::CorruptBank { .. } | Error::Io { .. })));
        assert!(matches!(Moments::load(&folder.path().join("none")), Err(Error::Io { .. })));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_an_error() {
        let (_folder, path, bytes) = saved();
        let check = |bytes: &[u8], what: &str| {
            std::fs::write(&path, bytes).unwrap();
            match Moments::load(&path) {
                Err(Error::CorruptBank { .. }) => {}
                Err(error) => panic!("{what}: {error}"),
                // white space and the case of an escape in the header mean nothing
                Ok(loaded) => assert!(facts(&loaded) == facts(&moments()), "{what}"),
            }
        };
        for len in (0..bytes.len()).filter(|len| *len < 1200 || len % 997 == 0) {
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(matches!(Moments::load(&path), Err(Error::CorruptBank { .. })), "cut to {len}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        check(&longer, "one byte more");
        for bit in (0..bytes.len() * 8).filter(|bit| *bit < 6400 && bit % 5 == 0 || bit % 1009 == 0) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check(&flipped, &format!("bit {bit}"));
        }
    }

    /// Files whose hash fits, but whose contents no rows give.
    #[test]
    fn impossible_moments_are_errors() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("m");
        let refuse = |change: &dyn Fn(&mut Moments), word: &str| {
            let mut moments = moments();
            change(&mut moments);
            moments.save(&path).unwrap();
            let message = Moments::load(&path).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        };
        refuse(&|m| m.shift[1] = f32::NAN, "shift");
        refuse(&|m| m.cells[0].sums[2] = f64::INFINITY, "sums");
        refuse(&|m| m.cells[2].gram.entries_mut()[0] = f64::NAN, "sums");
        refuse(&|m| m.cells[0].ranges[0] = f32::INFINITY, "ranges");
        refuse(&|m| m.cells[0].ranges.fill(f32::NAN), "ranges");
        refuse(&|m| m.cells[2].counts[1] = u64::MAX, "counted");
        refuse(&|m| m.cells[1].counts[1] = 1, "ranges"); // a row of which nothing was seen
    }

    #[test]
    fn more_rows_than_float64_counts_and_ranges_that_end_before_they_begin_are_errors() {
        for (change, word) in [
            ((|m: &mut Moments| m.cells[2].counts[1] = MAX_ROWS + 1) as fn(&mut Moments), "counted"),
            (|m| (m.cells[0].ranges[0], m.cells[0].ranges[LANES]) = (5.0, -5.0), "ranges"),
        ] {
            let mut moments = moments();
            change(&mut moments);
            let message = Moments::from_bytes(&moments.to_bytes()).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn what_sums_are_in_is_kept_and_files_without_it_hold_float32_sums() {
        let wanted = moments().with_sums(Sums::Float32);
        assert_eq!(Moments::from_bytes(&wanted.to_bytes()).unwrap().wanted, Some(Sums::Float32));
        let tensors = wanted.tensors();
        let mut metadata = wanted.metadata(&tensors);
        metadata.remove("sums");
        let older = serialize(tensors.views(), Some(metadata)).unwrap();
        assert_eq!(wanted.sums(), Sums::Float64);
        assert_eq!(Moments::from_bytes(&older).unwrap().sums(), Sums::Float32);
    }

    #[test]
    fn a_file_that_cannot_be_put_in_its_place_leaves_nothing_beside_it() {
        let folder = TempDir::new().unwrap();
        let taken = folder.path().join("moments");
        std::fs::create_dir_all(taken.join("mine")).unwrap();
        assert!(matches!(moments().save(&taken), Err(Error::Io { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
