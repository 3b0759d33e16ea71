//! A set of row indexes.

/// Rows out of `0..len`, one bit each.
pub(super) struct Bitmap {
    words: Vec<u64>,
    len: u64,
}

impl Bitmap {
    pub(super) fn new(len: u64) -> Self {
        Self { words: vec![0; len.div_ceil(64) as usize], len }
    }

    /// Whether `row` was not there before. `row < len` is the caller's promise.
    pub(super) fn insert(&mut self, row: u64) -> bool {
        let (word, bit) = ((row / 64) as usize, 1 << (row % 64));
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Add `start..stop`, unless one of them is there: then nothing is added and the result is false.
    /// `start ≤ stop ≤ len` is the caller's promise.
    pub(super) fn insert_range(&mut self, start: u64, stop: u64) -> bool {
        if start == stop {
            return true;
        }
        let (first, last) = ((start / 64) as usize, ((stop - 1) / 64) as usize);
        let mask = |word: usize| {
            let from = if word == first { !0 << (start % 64) } else { !0 };
            let to = if word == last { !0 >> (63 - (stop - 1) % 64) } else { !0 };
            from & to
        };
        let words = &mut self.words[first..=last];
        if words.iter().zip(first..).any(|(word, at)| word & mask(at) != 0) {
            return false;
        }
        for (word, at) in words.iter_mut().zip(first..) {
            *word |= mask(at);
        }
        true
    }

    /// Add up to 64 rows; bit `i` of the result says that `rows[i]` was there already. The same promise as
    /// for [`Self::insert`].
    pub(super) fn insert_each(&mut self, rows: &[u64]) -> u64 {
        let mut there = 0;
        for (&row, i) in rows.iter().zip(0..64) {
            let word = &mut self.words[(row / 64) as usize];
            there |= (*word >> (row % 64) & 1) << i;
            *word |= 1 << (row % 64);
        }
        there
    }

    pub(super) fn remove(&mut self, row: u64) {
        self.words[(row / 64) as usize] &= !(1 << (row % 64));
    }

    /// Rows that are not in the set, ascending.
    pub(super) fn missing(&self) -> Vec<u64> {
        let mut missing = Vec::new();
        for (base, &word) in (0u64..).step_by(64).zip(&self.words) {
            let mut absent = !word;
            while absent != 0 {
                let row = base + u64::from(absent.trailing_zeros());
                if row >= self.len {
                    break;
                }
                missing.push(row);
                absent &= absent - 1;
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_their_rows() {
        for start in [0, 1, 63, 64, 65, 127] {
            for stop in (start..=200).filter(|s| s % 7 == 0 || s % 64 < 2 || s % 64 > 62) {
                let (mut range, mut single) = (Bitmap::new(200), Bitmap::new(200));
                assert!(range.insert_range(start, stop));
                assert!((start..stop).all(|row| single.insert(row)));
                assert_eq!(range.words, single.words);
                let each: Vec<u64> = (start..stop.min(start + 64)).collect();
                let mut set = Bitmap::new(200);
                assert_eq!(set.insert_each(&each[each.len() / 2..]), 0);
                let old = (each.len() / 2..each.len()).fold(0, |mask, i| mask | 1 << i);
                assert_eq!(set.insert_each(&each), old);
                if start < stop {
                    assert!(!range.insert_range(stop - 1, 200) && !range.insert_range(0, start + 1));
                    assert_eq!(range.words, single.words);
                }
            }
        }
    }
}
