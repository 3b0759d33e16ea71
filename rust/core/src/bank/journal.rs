//! The journal of a part: one line for each committed block. It alone decides how many rows there are.
//!
//! ```text
//! rows offset payload index check\n
//! ```
//!
//! `rows` and `offset` (first row of the block in the part) in decimal, then three xxh3-64 hashes of 16
//! lower-case hexadecimal digits: of the block's payload bytes, of its index bytes, and of the line itself
//! up to, and without, the space before `check`.

use xxhash_rust::xxh3::xxh3_64;

/// A committed block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) rows: u64,
    /// First row, in the part.
    pub(super) offset: u64,
    /// xxh3-64 of the payload bytes.
    pub(super) payload: u64,
    /// xxh3-64 of the row-index bytes.
    pub(super) index: u64,
}

impl Block {
    /// The journal line, newline included.
    pub(super) fn line(&self) -> String {
        let Self { rows, offset, payload, index } = self;
        let body = format!("{rows} {offset} {payload:016x} {index:016x}");
        let check = xxh3_64(body.as_bytes());
        format!("{body} {check:016x}\n")
    }

    /// The inverse of [`Self::line`], byte for byte, without the newline; `None` for anything else.
    fn parse(line: &[u8]) -> Option<Self> {
        let (body, check) = line.split_at_checked(line.len().checked_sub(17)?)?;
        if hexadecimal(check.strip_prefix(b" ")?)? != xxh3_64(body) {
            return None;
        }
        let mut fields = body.split(|&b| b == b' ');
        let block = Self {
            rows: decimal(fields.next()?)?,
            offset: decimal(fields.next()?)?,
            payload: hexadecimal(fields.next()?)?,
            index: hexadecimal(fields.next()?)?,
        };
        fields.next().is_none().then_some(block)
    }
}

/// A number without leading zeros.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// 16 lower-case digits.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let digits: &[u8; 16] = digits.try_into().ok()?;
    digits.iter().try_fold(0, |value, &b| {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

/// What a journal says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Journal {
    pub(super) blocks: Vec<Block>,
    /// Rows of all blocks.
    pub(super) rows: u64,
    /// Bytes of the valid lines; what follows is the torn tail of a writer that died, or its next line.
    pub(super) valid_bytes: u64,
}

impl Journal {
    /// Read the committed blocks. Only the last line may be unreadable: it then counts as not committed.
    ///
    /// # Errors
    /// What is wrong with which line, if there is a later line, or if the line is sound but impossible.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut journal = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let number = journal.blocks.len() + 1;
            let (line, after) = match rest.iter().position(|&b| b == b'\n') {
                Some(end) => (&rest[..end], &rest[end + 1..]),
                None => (rest, &rest[rest.len()..]),
            };
            let terminated = line.len() < rest.len();
            match Block::parse(line).filter(|_| terminated) {
                Some(block) => {
                    if block.offset != journal.rows || block.rows == 0 {
                        return Err(format!(
                            "line {number} places {} rows at {}, expected some at {}",
                            block.rows, block.offset, journal.rows
                        ));
                    }
                    journal.rows = block
                        .rows
                        .checked_add(journal.rows)
                        .ok_or_else(|| format!("line {number} has {} rows", block.rows))?;
                    journal.valid_bytes += line.len() as u64 + 1;
                    journal.blocks.push(block);
                }
                None if after.is_empty() => break,
                None => return Err(format!("line {number} is damaged")),
            }
            rest = after;
        }
        Ok(journal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: [Block; 3] = [
        Block { rows: 5, offset: 0, payload: 1, index: 2 },
        Block { rows: 1, offset: 5, payload: u64::MAX, index: 0 },
        Block { rows: 70, offset: 6, payload: 3, index: 4 },
    ];

    fn text() -> Vec<u8> {
        BLOCKS.iter().flat_map(|b| b.line().into_bytes()).collect()
    }

    #[test]
    fn line_has_these_bytes() {
        // 2d06800538d394c2 is the published xxh3-64 of the empty input
        let block = Block { rows: 4096, offset: 8192, payload: xxh3_64(b""), index: 0xab };
        let body = "4096 8192 2d06800538d394c2 00000000000000ab";
        assert_eq!(block.line(), format!("{body} {:016x}\n", xxh3_64(body.as_bytes())));
    }

    #[test]
    fn every_prefix_is_the_blocks_it_holds_whole() {
        let text = text();
        let mut ends = vec![0];
        for block in BLOCKS {
            ends.push(ends[ends.len() - 1] + block.line().len());
        }
        for len in 0..=text.len() {
            let whole = ends.iter().filter(|&&end| end <= len).count() - 1;
            let journal = Journal::parse(&text[..len]).unwrap();
            assert_eq!(journal.blocks, BLOCKS[..whole]);
            assert_eq!(journal.valid_bytes, ends[whole] as u64);
            assert_eq!(journal.rows, BLOCKS[..whole].iter().map(|b| b.rows).sum::<u64>());
        }
    }

    #[test]
    fn every_flipped_bit_loses_a_block_or_is_an_error() {
        let text = text();
        let last = text.len() - BLOCKS[2].line().len();
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match Journal::parse(&flipped) {
                Err(_) => assert!(bit / 8 < last),
                // in the last line, or the newline before it: uncommitted, which the npy headers contradict
                Ok(journal) => {
                    let kept = if bit / 8 >= last { 2 } else { 1 };
                    assert!(bit / 8 + 1 >= last && journal.blocks == BLOCKS[..kept]);
                }
            }
        }
    }

    #[test]
    fn only_canonical_lines_parse() {
        let good = "12 340 00000000000000ff fedcba9876543210";
        let line = |body: &str| format!("{body} {:016x}", xxh3_64(body.as_bytes()));
        let block = Block { rows: 12, offset: 340, payload: 0xff, index: 0xfedc_ba98_7654_3210 };
        assert_eq!(Block::parse(line(good).as_bytes()), Some(block));
        for (from, to) in [
            ("12", "012"),
            ("12", "+12"),
            ("12", ""),
            ("12", "1_2"),
            ("12", "18446744073709551616"),
            ("340", "00"),
            ("00ff", "00FF"),
            ("00ff", "ff"),
            ("00ff", "+0ff"),
            (" ", "  "),
            ("3210", "3210 "),
            ("3210", "3210 5"),
            (" fedcba9876543210", ""),
        ] {
            let body = good.replacen(from, to, 1);
            assert_eq!(Block::parse(line(&body).as_bytes()), None, "{body}");
        }
        for len in 0..20 {
            assert_eq!(Block::parse(&b"1 2 3 4 5 6 7 8 9 10"[..len]), None);
        }
    }

    #[test]
    fn impossible_lines_are_errors() {
        let refuse = |blocks: &[Block]| {
            let text: Vec<u8> = blocks.iter().flat_map(|b| b.line().into_bytes()).collect();
            assert!(Journal::parse(&text).is_err(), "{blocks:?}");
        };
        refuse(&[Block { rows: 0, ..BLOCKS[0] }]);
        refuse(&[BLOCKS[0], BLOCKS[2]]);
        refuse(&[BLOCKS[0], BLOCKS[0]]);
        refuse(&[BLOCKS[0], Block { rows: u64::MAX, ..BLOCKS[1] }]);
        assert!(Journal::parse(b"\n\n").is_err());
        assert_eq!(Journal::parse(b"\n").unwrap(), Journal::default());
    }
}
