//! Feature bank: the representations of one encoder on one data set, on disk.
//!
//! A bank is a folder. `bank.json` says how many rows of how many features in which dtype; each *part* is
//! three files written by one process: a `.npy` payload, the `.rows.npy` index that names the row of each of
//! its lines, and a journal with one line for each committed block. The bytes are specified in
//! `docs/bank-format.md`.
//!
//! What it holds to:
//! - **A committed block survives the death of its writer** ([`PartWriter`]): payload and index reach the
//!   disk before the journal line, the journal line before the `.npy` headers.
//! - **A damaged file is an error**, never a panic ([`Bank::open`], [`Bank::read_into`], [`Verification::of`]):
//!   the journal decides how many rows there are, and every size is checked before a file is mapped. Rows that
//!   are copied are read from the files; solvers read the maps, and look at a file's length before each block
//!   (a file that is cut short within a block still ends in a signal there).
//! - **Nothing that may be mapped is ever truncated or rewritten.**
//!
//! Not for data that changes: a row is written once. To replace rows, make another bank.

#[cfg(target_endian = "big")]
compile_error!("banks are little-endian and mapped without conversion");

mod bitmap;
mod blame;
mod disk;
mod gather;
mod journal;
mod lock;
mod manifest;
mod map;
mod npy;
mod part;
mod reader;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub use lock::Owner;
pub use manifest::{Dtype, Manifest};
pub use reader::{Bank, PartInfo};
pub use verify::{Damage, Verification};
pub use writer::PartWriter;
