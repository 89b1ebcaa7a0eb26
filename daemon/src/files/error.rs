//! What can go wrong with files.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::free_space::Shortage;
use crate::limits::Full;

/// Why a name gave no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// The disk threads have too much to do, of what this says; may work in a moment.
    #[error("the disk is busy: {0}")]
    Busy(&'static str),
    /// The file system does nothing of what it is asked for; with its place below the root.
    #[error("the disk of {0} doesn't answer")]
    Silent(Arc<str>),
    /// Too much waits for its readers; may work in a moment.
    #[error("{0}: try again in a moment")]
    NoRoom(Full),
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
    #[error(
        "{bytes} more bytes would pass spool_bytes_max ({used} of {limit} are used): let the frames be consumed, or \
         raise it"
    )]
    Full {
        /// What the frame would take, in whole blocks.
        bytes: u64,
        /// Bytes stored or held already.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// No file of this process may be so long, or none of this file system.
    #[error(
        "a frame of {bytes} bytes is longer than a file of this process may be (RLIMIT_FSIZE{}) or of the spool's file \
         system: raise LimitFSIZE= (ulimit -f), or lower frame_bytes_max",
        .limit.map_or(String::new(), |limit| format!(", {limit} bytes"))
    )]
    FileTooLong {
        /// The frame's size.
        bytes: u64,
        /// RLIMIT_FSIZE, where there is one.
        limit: Option<u64>,
    },
    /// The spool would have more frames than it may.
    #[error(
        "one more frame would pass spool_files_max ({used} of {limit} are there): let the frames be consumed, or raise \
         it"
    )]
    TooMany {
        /// Frames stored or on their way in.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// The sender's frames would take more than one address may.
    #[error(
        "{bytes} more bytes would pass address_spool_bytes_max (this address has {used} of {limit}): let its frames be \
         consumed, or raise it"
    )]
    OverShare {
        /// What the frame would take, in whole blocks.
        bytes: u64,
        /// Bytes that the address holds already.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// The sender would have more frames than one address may.
    #[error(
        "one more frame would pass address_spool_files_max (this address has {used} of {limit}): let its frames be \
         consumed, or raise it"
    )]
    TooManyOfAddress {
        /// Frames of the address, stored or on their way in.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// The file system has no room.
    #[error(transparent)]
    NoRoom(#[from] Shortage),
    /// The file system said no.
    #[error("{step}: {reason}")]
    Failed {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        reason: io::Error,
    },
}

impl SpoolError {
    /// Whether a limit of the spool was reached below which frames that are consumed make room.
    pub(super) fn is_of_limit(&self) -> bool {
        match self {
            SpoolError::Full { bytes, limit, .. } | SpoolError::OverShare { bytes, limit, .. } => {
                bytes <= limit
            }
            SpoolError::TooMany { limit, .. } | SpoolError::TooManyOfAddress { limit, .. } => *limit > 0,
            SpoolError::NoRoom(_) | SpoolError::FileTooLong { .. } | SpoolError::Failed { .. } => false,
        }
    }
}
