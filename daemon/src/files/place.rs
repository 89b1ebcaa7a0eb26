//! Where the bytes of a file are, as far as reading them depends on that.

/// Where a file system has its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A disk of this host; the page cache tells what is hot.
    LocalDisk,
    /// Memory: always hot.
    Memory,
    /// FUSE, a network, or unknown: every call may ask a server.
    Elsewhere,
}
