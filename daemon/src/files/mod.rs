//! Names to open files, what is worth knowing of an open file, and how files come to their names. Knows no sockets.

mod cache;
pub mod digest;
mod direct;
mod directory;
mod error;
pub mod residency;
mod root;
mod source;
mod spool;
mod stamp;
mod synthetic;
mod unpublished;
pub mod upload;

pub use cache::{CONTENT_BYTES_MAX, FileCache, KnownFile};
pub use directory::{Entry, list};
pub use error::{FileError, SpoolError};
pub use root::{Found, Root};
pub use source::SourceFile;
pub use spool::{Spool, SpoolFile};
pub use synthetic::{SYNTHETIC_BYTES, Synthetic};
