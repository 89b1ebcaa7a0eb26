//! Errors of files.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::free_space::Shortage;
use crate::limits::Full;

/// Why a name gave no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The name leads to no regular file, or outside the root: the two are told apart by nobody.
    #[error("no such file")]
    NotFound,
    /// The daemon's user may not read it.
    #[error("the daemon may not read this file")]
    Denied,
    /// Descriptors or memory are exhausted; may work in a moment.
    #[error("too many files are open: {0}")]
    Exhausted(Errno),
    /// The disk threads have too much of the work that the text names; may work in a moment.
    #[error("the disk is busy: {0}")]
    Busy(&'static str),
    /// The file system mounted at this place below the root doesn't answer.
    #[error("the disk of {0} doesn't answer")]
    Silent(Arc<str>),
    /// Too many bytes wait for this client's readers; may work in a moment.
    #[error("{0}: try again in a moment")]
    NoRoom(Full),
    /// openat2(2) is missing, and without it no name is looked up.
    #[error(
        "openat2(2) is refused: in a systemd unit set RestrictSUIDSGID=no and User= instead of DynamicUser=, elsewhere \
         a seccomp profile that knows it, or Linux 5.6 and newer"
    )]
    NoOpenat2,
    /// A directory of uploads was to be served.
    #[error("it lies in a directory of uploads (.streamd-uploads), which nobody is shown: name another")]
    Reserved,
    /// The system gave any other error.
    #[error("the file can't be opened: {0}")]
    Failed(Errno),
}

impl From<Errno> for FileError {
    fn from(errno: Errno) -> FileError {
        match errno {
            // XDEV is a symbolic link that leaves the root, LOOP a magic link or too many links.
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
        /// The bytes that the frame would take, in whole blocks.
        bytes: u64,
        /// The bytes that are stored or held already.
        used: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The frame is longer than a file of this process, or of this file system, may be.
    #[error(
        "a frame of {bytes} bytes is longer than a file of this process may be (RLIMIT_FSIZE{}) or of the spool's file \
         system: raise LimitFSIZE= (ulimit -f), or lower frame_bytes_max",
        .limit.map_or(String::new(), |limit| format!(", {limit} bytes"))
    )]
    FileTooLong {
        /// The frame's size in bytes.
        bytes: u64,
        /// RLIMIT_FSIZE in bytes, where there is one.
        limit: Option<u64>,
    },
    /// The spool would have more frames than it may.
    #[error(
        "one more frame would pass spool_files_max ({used} of {limit} are there): let the frames be consumed, or raise \
         it"
    )]
    TooMany {
        /// The frames that are stored or on their way in.
        used: u64,
        /// The limit in frames.
        limit: u64,
    },
    /// The sender's frames would take more than one address may.
    #[error(
        "{bytes} more bytes would pass address_spool_bytes_max (this address has {used} of {limit}): let its frames be \
         consumed, or raise it"
    )]
    OverShare {
        /// The bytes that the frame would take, in whole blocks.
        bytes: u64,
        /// The bytes that the address holds already.
        used: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The sender would have more frames than one address may.
    #[error(
        "one more frame would pass address_spool_files_max (this address has {used} of {limit}): let its frames be \
         consumed, or raise it"
    )]
    TooManyOfAddress {
        /// The frames of the address, stored or on their way in.
        used: u64,
        /// The limit in frames.
        limit: u64,
    },
    /// The file system has no room.
    #[error(transparent)]
    NoRoom(#[from] Shortage),
    /// The file system gave an error.
    #[error("{step}: {reason}")]
    Failed {
        /// The step that failed.
        step: &'static str,
        /// The error of the system.
        reason: io::Error,
    },
}

impl SpoolError {
    /// Whether a limit of the spool was reached, and frames that are consumed make room.
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
