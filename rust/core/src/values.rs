//! Numbers in memory, in the types that rows may have.

use std::ops::Range;

use half::f16;

/// The values of a segment, row-major without holes.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// IEEE binary16.
    F16(&'a [f16]),
    /// IEEE binary32.
    F32(&'a [f32]),
}

impl Values<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F16(v) => v.len(),
            Self::F32(v) => v.len(),
        }
    }

    pub(crate) fn address(self) -> *const u8 {
        match self {
            Self::F16(v) => v.as_ptr().cast(),
            Self::F32(v) => v.as_ptr().cast(),
        }
    }
}

impl<'a> Values<'a> {
    pub(crate) fn slice(self, range: Range<usize>) -> Self {
        match self {
            Self::F16(v) => Self::F16(&v[range]),
            Self::F32(v) => Self::F32(&v[range]),
        }
    }
}
