//! Uploads: bytes on their way to a name below the root.
//!
//! What arrives is appended to a file of its own, the partial, in a reserved directory (`staging`), and gets
//! its name, the destination, in one step when it is whole (`publish`). A partial that is cut short stays, described in
//! an extended attribute (`metadata`), and is continued by its id or by its destination, after a restart too (`adopt`).
//! It has one writer at a time (`writer`, `partial`).
//!
//! Three own what uploads share: `storage` the directories that partials lie in, `partials` who may write to which, and
//! `names` what changes the names of files. [`Uploads`] has them, and above it stands each stage of an upload: `begin`,
//! `parts`, `writer`, `publish`, `whole` for short ones, `adopt` and `sweep` for those that were left.
//!
//! Everything here but [`Uploads::generation`] and [`Uploads::usage`] may wait for the disk. Knows no sockets.

mod acl;
mod admission;
mod admitted;
mod adopt;
mod ahead;
mod begin;
mod buffers;
mod claims;
mod destination;
mod directories;
mod error;
mod ids;
mod index;
mod limits;
mod locks;
mod membership;
mod metadata;
mod names;
mod partial;
mod partials;
mod parts;
mod path;
mod plan;
mod publication;
mod publish;
mod sharing;
mod staging;
mod storage;
mod sweep;
mod uploads;
mod whole;
mod writer;

pub use admission::PlaceGuard;
pub use admitted::Admitted;
pub use buffers::DirectBuffer;
pub use error::UploadError;
pub use limits::UploadLimits;
pub use partials::{PartialStatus, UploadUsage};
pub use parts::{MayRepeat, Part};
pub use plan::Plan;
pub use publication::{Precondition, Publication, Published};
pub use sweep::Swept;
pub use uploads::Uploads;
pub use whole::{AtOnce, KnownDestination, Whole};
pub use writer::{Kept, Writer};

#[cfg(test)]
mod tests;
