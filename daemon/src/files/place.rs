//! The place of a file's bytes, as far as reading them depends on that.

/// Where a file system has its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The bytes are on a disk of this host, and the page cache tells which are hot.
    LocalDisk,
    /// The bytes are in memory, and always hot.
    Memory,
    /// The file system is FUSE, a network's or unknown: every call may ask a server.
    Elsewhere,
}
