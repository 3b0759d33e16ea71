//! The `.npy` header of payloads and row indexes: version 1.0, always [`HEADER_LEN`] bytes, so that the
//! number of rows can be rewritten in place while the file grows.

use super::manifest::Dtype;

/// Length of the header; the data start here. A multiple of 64, as NumPy writes it.
pub(super) const HEADER_LEN: usize = 128;

const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";

/// What a file holds in each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `n_features` values.
    Payload(Dtype, u64),
    /// One `u64`.
    Index,
}

impl Layout {
    /// Bytes of a row. Cannot overflow: `Manifest` bounds the number of features.
    pub(super) fn row_bytes(self) -> u64 {
        match self {
            Self::Payload(dtype, n_features) => dtype.size() as u64 * n_features,
            Self::Index => 8,
        }
    }

    /// Bytes of a file that holds `rows` rows; `None` if that is beyond any file.
    pub(super) fn file_bytes(self, rows: u64) -> Option<u64> {
        rows.checked_mul(self.row_bytes())?.checked_add(HEADER_LEN as u64)
    }

    /// The header of a file that holds `rows` rows.
    pub(super) fn header(self, rows: u64) -> [u8; HEADER_LEN] {
        let (prefix, suffix) = self.around_rows();
        let text = format!("{prefix}{rows}{suffix}");
        let mut header = [b' '; HEADER_LEN];
        header[..8].copy_from_slice(MAGIC);
        header[8..10].copy_from_slice(&(HEADER_LEN as u16 - 10).to_le_bytes());
        header[10..10 + text.len()].copy_from_slice(text.as_bytes()); // at most 98 of 117 bytes
        header[HEADER_LEN - 1] = b'\n';
        header
    }

    /// The number of rows a header names; `None` unless it is, byte for byte, one that [`Self::header`] makes.
    pub(super) fn parse(self, header: &[u8]) -> Option<u64> {
        let (prefix, _) = self.around_rows();
        let digits = header.get(10..)?.strip_prefix(prefix.as_bytes())?;
        let end = digits.iter().position(|b| !b.is_ascii_digit())?;
        let rows = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
        (header == self.header(rows)).then_some(rows)
    }

    fn around_rows(self) -> (String, String) {
        let (descr, rest) = match self {
            Self::Payload(dtype, n_features) => (dtype.descr(), format!(", {n_features}")),
            Self::Index => ("<u8", ",".into()),
        };
        (format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ("), format!("{rest}), }}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_has_the_bytes_numpy_writes() {
        let header = Layout::Payload(Dtype::F16, 768).header(1281);
        let text =
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f2', 'fortran_order': False, 'shape': (1281, 768), }";
        assert_eq!(&header[..text.len()], text);
        assert!(header[text.len()..127].iter().all(|&b| b == b' '));
        assert_eq!(header[127], b'\n');
        let index = Layout::Index.header(5);
        assert!(index[10..].starts_with(b"{'descr': '<u8', 'fortran_order': False, 'shape': (5,), }"));
    }

    #[test]
    fn only_canonical_headers_parse() {
        for layout in [Layout::Index, Layout::Payload(Dtype::F32, u64::from(u32::MAX))] {
            for rows in [0, 1, 10, u64::MAX] {
                let header = layout.header(rows);
                assert_eq!(layout.parse(&header), Some(rows));
                assert_eq!(Layout::Payload(Dtype::F16, 3).parse(&header), None);
                for bit in 0..HEADER_LEN * 8 {
                    let mut flipped = header;
                    flipped[bit / 8] ^= 1 << (bit % 8);
                    assert_ne!(layout.parse(&flipped), Some(rows), "bit {bit}");
                }
                for len in 0..HEADER_LEN {
                    assert_eq!(layout.parse(&header[..len]), None);
                }
            }
        }
        let mut padded = Layout::Index.header(7);
        padded.copy_within(61..100, 62);
        padded[61] = b'0'; // 07: the same number, not the same bytes
        assert_eq!(Layout::Index.parse(&padded), None);
    }
}
