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
