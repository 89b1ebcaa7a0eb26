//! Names to open files, and what is worth knowing of an open file. Knows no sockets.

mod cache;
mod directory;
mod error;
pub mod residency;
mod root;
mod source;
mod spool;
mod synthetic;

pub use cache::{CONTENT_BYTES_MAX, FileCache, KnownFile};
pub use directory::{Entry, list};
pub use error::{FileError, SpoolError};
pub use root::{Found, Root};
pub use source::SourceFile;
pub use spool::{Spool, SpoolFile};
pub use synthetic::{SYNTHETIC_BYTES, Synthetic};
