//! What tells one state of a file from another without reading it.

use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use super::digest::Digests;

/// A file's size and modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    /// Times before 1970 count as 1970: HTTP dates can't tell them.
    pub(super) modified_s: u64,
    pub(super) modified_ns: u32,
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Stamp {
        Stamp {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_s: u64::try_from(stat.st_mtime).unwrap_or(0),
            modified_ns: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        }
    }

    /// When the file was last written, to the second, as HTTP dates are.
    pub(super) fn modified(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.modified_s)
    }

    /// A strong entity tag (RFC 9110 8.8.3), with its quotes: of the content where its digest is recorded, else of
    /// size and modification time.
    pub(super) fn etag(self, recorded: &Digests) -> String {
        recorded
            .etag()
            .unwrap_or_else(|| format!("\"{:x}-{:x}.{:x}\"", self.size, self.modified_s, self.modified_ns))
    }
}
