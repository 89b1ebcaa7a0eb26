//! Digests of contents: computed over bytes as they pass or over a whole file.

mod computation;
mod hashing;

pub use super::digests::{Algorithms, Digests};
pub(super) use computation::compute_paced;
pub use computation::{Computation, Record, Step};
pub use hashing::Hashers;
pub(super) use hashing::{BUFFER_BYTES, of_file};

#[cfg(test)]
mod tests;
