//! Files: names are resolved to open files, open files are described, and new files get their names. Nothing here
//! knows sockets.

pub mod archive;
mod beneath;
mod cache;
mod description;
pub mod digest;
mod digester;
mod digests;
mod direct;
mod directory;
mod directory_names;
mod error;
mod faults;
mod file_system;
mod free_space;
mod generation;
mod hot_windows;
mod identity;
mod links;
mod mounts;
mod overlay;
mod place;
mod random;
mod records;
pub mod residency;
mod root;
mod source;
mod spool;
mod synthetic;
mod unpublished;
pub mod upload;
mod witnesses;

pub use cache::{CONTENT_BYTES_MAX, FileCache, KnownFile, Term};
pub use description::{Description, Siblings};
pub use digester::Digester;
pub use digests::Digests;
pub use directory::{Beginning, Begun, Entry, Listing, Listings, Next, Subject, Terms};
pub use error::{FileError, SpoolError};
#[cfg(test)]
pub(crate) use faults::fail_by;
pub use free_space::Shortage;
pub use generation::Generation;
pub use hot_windows::{HotWindows, WINDOW_BYTES};
pub use mounts::{MountId, Mounts};
pub use random::Random;
pub use root::{Found, Root, Standing, Step};
pub use source::{FileId, FileState, SourceFile};
pub use spool::{Spool, SpoolFile, SpoolLimits, SpoolUsage};
pub use synthetic::{Synthetic, SyntheticError};
pub use witnesses::Witnesses;
