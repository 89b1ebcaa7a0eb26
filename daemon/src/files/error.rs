//! What can go wrong with files.

use std::io;

use rustix::io::Errno;

/// Why a name gave no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Nothing regular there, or the name leads outside the root: the two are told apart by nobody.
    #[error("no such file")]
    NotFound,
    /// The daemon's user may not read it.
    #[error("the daemon may not read this file")]
    Denied,
    /// Out of descriptors or memory; may work in a moment.
    #[error("too many files are open: {0}")]
    Exhausted(Errno),
    /// The disk threads have too much to do; may work in a moment.
    #[error("too many requests wait for the disk")]
    Busy,
    /// openat2(2) isn't there, and without it no name is looked up.
    #[error(
        "openat2(2) is refused: in a systemd unit set RestrictSUIDSGID=no and User= instead of DynamicUser=, elsewhere \
         a seccomp profile that knows it, or Linux 5.6 and newer"
    )]
    NoOpenat2,
    /// Anything else.
    #[error("the file can't be opened: {0}")]
    Failed(Errno),
}

impl From<Errno> for FileError {
    fn from(errno: Errno) -> FileError {
        match errno {
            // XDEV: a symbolic link that leaves the root. LOOP: a magic link or too many links.
            Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP | Errno::NAMETOOLONG | Errno::NXIO => {
                FileError::NotFound
            }
            Errno::ACCESS | Errno::PERM => FileError::Denied,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => FileError::Exhausted(errno),
            _ => FileError::Failed(errno),
        }
    }
}

/// Why a frame could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The spool would pass its limit.
    #[error("{bytes} more bytes would pass spool_bytes_max ({used} of {limit} are used)")]
    Full {
        /// The frame's size.
        bytes: u64,
        /// Bytes stored or promised already.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// The file system said no.
    #[error("{step}: {reason}")]
    Failed {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        reason: io::Error,
    },
}
