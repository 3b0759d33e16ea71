//! A set of row indexes.

use crate::error::{Error, Result};

/// Words of a page.
const WORDS: usize = 1 << 10;
/// Rows of a page.
const PAGE: u64 = 64 * WORDS as u64;

/// Rows out of `0..len`, one bit each, in pages that are made when a row of theirs is added: memory grows with
/// the rows that are there, whatever a manifest promises (8 bytes a page, or 512 kB, for four billion rows).
pub(super) struct Bitmap {
    pages: Vec<Option<Box<[u64; WORDS]>>>,
    len: u64,
}

impl Bitmap {
    pub(super) fn new(len: u64) -> Self {
        Self { pages: vec![None; len.div_ceil(PAGE) as usize], len }
    }

    /// The word that holds `row`, and its bit there.
    fn word(&mut self, row: u64) -> (&mut u64, u32) {
        let page = self.pages[(row / PAGE) as usize].get_or_insert_with(|| Box::new([0; WORDS]));
        (&mut page[(row % PAGE / 64) as usize], (row % 64) as u32)
    }

    /// Whether `row` was not there before. `row < len` is the caller's promise.
    pub(super) fn insert(&mut self, row: u64) -> bool {
        let (word, bit) = self.word(row);
        let new = *word >> bit & 1 == 0;
        *word |= 1 << bit;
        new
    }

    /// Add `start..stop`, at most 64 rows, unless one of them is there: then nothing is added and the result
    /// is false. `start ≤ stop ≤ len` is the caller's promise.
    pub(super) fn insert_run(&mut self, start: u64, stop: u64) -> bool {
        if start == stop {
            return true;
        }
        let mask = !0_u64 >> (64 - (stop - start)); // one bit for each row
        let low = mask << (start % 64);
        let high = if start.is_multiple_of(64) { 0 } else { mask >> (64 - start % 64) };
        if *self.word(start).0 & low != 0 || (high != 0 && *self.word(stop - 1).0 & high != 0) {
            return false;
        }
        *self.word(start).0 |= low;
        if high != 0 {
            *self.word(stop - 1).0 |= high;
        }
        true
    }

    /// Add up to 64 rows; bit `i` of the result says that `rows[i]` was there already. The same promise as
    /// for [`Self::insert`].
    pub(super) fn insert_each(&mut self, rows: &[u64]) -> u64 {
        let mut there = 0;
        for (&row, i) in rows.iter().zip(0..64) {
            let (word, bit) = self.word(row);
            there |= (*word >> bit & 1) << i;
            *word |= 1 << bit;
        }
        there
    }

    pub(super) fn remove(&mut self, row: u64) {
        let (word, bit) = self.word(row);
        *word &= !(1 << bit);
    }

    /// The `count` rows that are not in the set, ascending.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there is no memory for so many.
    pub(super) fn missing(&self, count: u64) -> Result<Vec<u64>> {
        let mut missing = Vec::new();
        missing.try_reserve_exact(count as usize).map_err(|_| {
            Error::Parameter(format!("there is no memory for a list of {count} missing rows"))
        })?;
        for (first, page) in (0..).step_by(PAGE as usize).zip(&self.pages) {
            let rows = first..(first + PAGE).min(self.len);
            match page {
                None => missing.extend(rows),
                Some(page) => missing.extend(rows.filter(|row| {
                    let at = row - first;
                    page[(at / 64) as usize] >> (at % 64) & 1 == 0
                })),
            }
        }
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(set: &Bitmap, len: u64) -> Vec<u64> {
        let missing = set.missing(len).unwrap();
        (0..len).filter(|row| missing.binary_search(row).is_err()).collect()
    }

    #[test]
    fn runs_are_their_rows() {
        let len = PAGE + 200;
        for start in [0, 1, 63, 64, 65, 127, PAGE - 64, PAGE - 1, PAGE, PAGE + 3] {
            for stop in start..=start + 64 {
                let (mut run, mut single) = (Bitmap::new(len), Bitmap::new(len));
                assert!(run.insert_run(start, stop));
                assert!((start..stop).all(|row| single.insert(row)));
                assert_eq!(rows_of(&run, len), (start..stop).collect::<Vec<_>>());
                assert_eq!(rows_of(&single, len), (start..stop).collect::<Vec<_>>());
                let each: Vec<u64> = (start..stop).collect();
                let mut set = Bitmap::new(len);
                assert_eq!(set.insert_each(&each[each.len() / 2..]), 0);
                let old = (each.len() / 2..each.len()).fold(0, |mask, i| mask | 1 << i);
                assert_eq!(set.insert_each(&each), old);
                if start < stop {
                    assert!(!run.insert_run(stop - 1, stop + 10) && !run.insert_run(start, start + 1));
                    // a run of which only the last row is there, in one word or in the next
                    assert!(!run.insert_run(start.saturating_sub(63), start + 1));
                    assert_eq!(rows_of(&run, len), (start..stop).collect::<Vec<_>>());
                    run.remove(start);
                    assert_eq!(rows_of(&run, len), (start + 1..stop).collect::<Vec<_>>());
                }
            }
        }
    }

    #[test]
    fn four_billion_rows_cost_what_is_there() {
        let mut set = Bitmap::new(u32::MAX.into());
        assert!(set.insert(u64::from(u32::MAX) - 1) && !set.insert(u64::from(u32::MAX) - 1));
        assert_eq!(set.pages.iter().filter(|page| page.is_some()).count(), 1);
        assert!(set.pages.len() <= 1 << 16);
        assert!(matches!(set.missing(u64::MAX >> 4), Err(Error::Parameter(_))));
    }
}
