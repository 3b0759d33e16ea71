//! Representations as one logical matrix over pieces of memory.
//!
//! A [`Matrix`] is what every solver reads: `n` rows of `d` features in float16 or float32, lying in one or
//! more [`Segment`]s (arrays, or the mapped parts of a bank). Rows are never copied as a whole; a solver
//! stages a block of them in float32 with [`Matrix::stage`].

mod copy;
mod matrix;
mod training;
mod widen;

pub(crate) use copy::{fill_blocks, too_narrow};
pub use matrix::{Guard, Matrix, Segment, ValuesMut};
pub use training::TrainingRows;
pub(crate) use widen::widen;

pub use crate::values::Values;
