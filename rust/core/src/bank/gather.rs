//! Copying rows out of a bank.
//!
//! Rows are read from the files, not from their maps: where a file has been cut short since the bank was opened,
//! a read ends early, which is an error, while touching the map would end in a signal (SIGBUS). The maps only say
//! which rows wait for a disk, and ask for those many at a time. Solvers, which pass over all rows again and
//! again, use the maps: see [`super::Bank::matrix`].

use std::fs::File;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::Pod;
use half::f16;

use super::manifest::Dtype;
use super::map::PayloadMap;
use crate::control::Control;
use crate::error::Result;
use crate::rows::{Guard, ValuesMut, fill_blocks, too_narrow, widen};

/// Rows that a thread asks of the disk together and then copies, between two looks at the control.
const BLOCK_ROWS: usize = 256;
/// Bytes between rows that are read with them: the disk takes no longer.
const NEAR_BYTES: usize = 1 << 16;
/// Rows of a block whose presence in memory stands for that of all: asking costs a hundredth of copying.
const SAMPLED: usize = 4;
/// Files that one call keeps open; processes may open some hundred, and there may be more parts.
const KEPT_OPEN: usize = 24;
/// Values that are read to be widened at a time: few calls of the system, and they stay in the level-2 cache.
const WIDENED: usize = 1 << 16;

/// The rows of a complete bank, for one call.
pub(super) struct Gather<'a> {
    dtype: Dtype,
    n_features: usize,
    maps: Vec<&'a PayloadMap>,
    /// First storage row of each map, and the total at the end.
    starts: Vec<u64>,
    /// Storage row of each row; `None` where they are the same.
    order: Option<&'a [u32]>,
    /// Files that this call has opened and keeps; `None` in it for a file that has lost its name.
    files: Vec<OnceLock<Option<File>>>,
    kept: AtomicUsize,
}

/// Where a row lies, and where it is to go.
#[derive(Clone, Copy)]
struct Place {
    part: usize,
    row: u64,
    out: usize,
}

impl<'a> Gather<'a> {
    pub(super) fn new(
        dtype: Dtype,
        n_features: usize,
        maps: impl Iterator<Item = (&'a PayloadMap, u64)>,
        order: Option<&'a [u32]>,
    ) -> Self {
        let (mut starts, mut total) = (vec![0], 0);
        let maps: Vec<_> = maps
            .map(|(map, rows)| {
                total += rows;
                starts.push(total);
                map
            })
            .collect();
        let files = maps.iter().map(|_| OnceLock::new()).collect();
        Self { dtype, n_features, maps, starts, order, files, kept: AtomicUsize::new(0) }
    }

    /// Copy `rows`, all of them in the bank, in the order asked for.
    pub(super) fn copy(
        &self,
        rows: &[u64],
        out: ValuesMut<'_>,
        n_threads: usize,
        control: &Control,
    ) -> Result<()> {
        match (self.dtype, out) {
            (Dtype::F32, ValuesMut::F32(out)) => self.blocks(rows, out, n_threads, control, Self::stored),
            (Dtype::F16, ValuesMut::F16(out)) => self.blocks(rows, out, n_threads, control, Self::stored),
            (Dtype::F16, ValuesMut::F32(out)) => self.blocks(rows, out, n_threads, control, Self::widened),
            (Dtype::F32, ValuesMut::F16(_)) => Err(too_narrow()),
        }
    }

    /// `run` copies consecutive rows of a part to where they are to go; its last argument is memory that it may use.
    fn blocks<T: Send>(
        &self,
        rows: &[u64],
        out: &mut [T],
        n_threads: usize,
        control: &Control,
        run: impl Fn(&Self, Source<'_>, u64, &mut [T], &mut Vec<f16>) -> Result<()> + Sync,
    ) -> Result<()> {
        let d = self.n_features;
        fill_blocks(rows, out, d, BLOCK_ROWS, n_threads, control, |rows, out| {
            let mut places: Vec<_> = rows.iter().enumerate().map(|(i, &row)| self.find(row, i)).collect();
            if self.maps.len() > KEPT_OPEN {
                places.sort_by_key(|place| place.part); // a file is opened once at most
            }
            self.prefetch(&places);
            let follows = |a: &Place, b: &Place| a.part == b.part && a.row + 1 == b.row && a.out + 1 == b.out;
            let mut passing = None; // a file that is not kept
            let mut narrow = Vec::new();
            for places in places.chunk_by(follows) {
                let Place { part, row, out: at } = places[0];
                let source = self.source(part, &mut passing)?;
                run(self, source, row, &mut out[at * d..(at + places.len()) * d], &mut narrow)?;
            }
            Ok(())
        })
    }

    /// Rows as they are stored.
    fn stored<T: Pod>(&self, source: Source<'_>, row: u64, out: &mut [T], _: &mut Vec<f16>) -> Result<()> {
        source.read(row * (self.n_features * size_of::<T>()) as u64, bytemuck::cast_slice_mut(out))
    }

    /// float16 rows as float32; `narrow` keeps its memory from run to run.
    fn widened(&self, source: Source<'_>, row: u64, out: &mut [f32], narrow: &mut Vec<f16>) -> Result<()> {
        narrow.resize(narrow.len().max(out.len().min(WIDENED)), f16::ZERO);
        let mut at = row * (self.n_features * size_of::<f16>()) as u64;
        for out in out.chunks_mut(WIDENED) {
            let narrow = &mut narrow[..out.len()];
            source.read(at, bytemuck::cast_slice_mut(narrow))?;
            widen(narrow, out);
            at += size_of_val(narrow) as u64;
        }
        Ok(())
    }

    fn find(&self, row: u64, out: usize) -> Place {
        let row = self.order.map_or(row, |order| order[row as usize].into());
        let part = self.starts.partition_point(|&start| start <= row) - 1;
        Place { part, row: row - self.starts[part], out }
    }

    fn source<'s>(
        &'s self,
        part: usize,
        passing: &'s mut Option<(usize, Option<File>)>,
    ) -> Result<Source<'s>> {
        let map = self.maps[part];
        if let Some(file) = self.files[part].get() {
            return Ok(Source { map, file: file.as_ref() });
        }
        if passing.as_ref().is_none_or(|(of, _)| *of != part) {
            let file = map.open_again()?;
            if self.kept.fetch_add(1, Ordering::Relaxed) < KEPT_OPEN {
                let file = self.files[part].get_or_init(|| file);
                return Ok(Source { map, file: file.as_ref() });
            }
            *passing = Some((part, file));
        }
        Ok(Source { map, file: passing.as_ref().and_then(|(_, file)| file.as_ref()) })
    }

    /// Ask the disk for the rows, unless they seem to be in memory.
    fn prefetch(&self, places: &[Place]) {
        let size = self.n_features * self.dtype.size();
        let step = places.len().div_ceil(SAMPLED).max(1);
        let waits = |place: &Place| !self.maps[place.part].in_memory(place.row as usize * size);
        if !places.iter().step_by(step).any(waits) {
            return;
        }
        // rows near each other are asked for together
        let mut near: Option<(usize, Range<usize>)> = None;
        for place in places {
            let start = place.row as usize * size;
            match &mut near {
                Some((part, bytes))
                    if *part == place.part
                        && start >= bytes.start
                        && start <= bytes.end.saturating_add(NEAR_BYTES) =>
                {
                    bytes.end = bytes.end.max(start + size);
                }
                _ => {
                    if let Some((part, bytes)) = near.replace((place.part, start..start + size)) {
                        self.maps[part].will_need(bytes);
                    }
                }
            }
        }
        if let Some((part, bytes)) = near {
            self.maps[part].will_need(bytes);
        }
    }
}

/// What a part's rows are read from.
#[derive(Clone, Copy)]
struct Source<'a> {
    map: &'a PayloadMap,
    /// `None` for a file that has been removed or replaced: what is mapped then has no name by which anybody
    /// could cut it.
    file: Option<&'a File>,
}

impl Source<'_> {
    /// Read at an offset behind the header.
    fn read(self, offset: u64, out: &mut [u8]) -> Result<()> {
        match self.file {
            Some(file) => self.map.read(file, offset, out),
            None => {
                let start = offset as usize; // within the map: the journal's rows are
                out.copy_from_slice(&self.map.data()[start..start + out.len()]);
                Ok(())
            }
        }
    }
}
