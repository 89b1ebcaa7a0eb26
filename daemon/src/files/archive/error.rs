//! The reasons why there is no archive, or not the rest of one.

use rustix::io::Errno;

use crate::files::FileError;
use crate::protocol::name::escape_for_log;

/// The reasons why a directory gives no archive. An archive that lacks a file would look whole, so whatever can't be
/// read is named, before the first byte where that can be known by then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The directory fails as any file does.
    #[error(transparent)]
    File(#[from] FileError),
    /// The daemon's user may not read a part of it.
    #[error("the daemon may not read `{name}`, without which the archive would not be whole")]
    Denied {
        /// Its path from the directory on, escaped for logs.
        name: Box<str>,
    },
    /// It has more files than the plan of an archive may.
    #[error(
        "the directory has more than {members_max} files and directories, the most that an archive may have"
    )]
    TooMany {
        /// The limit.
        members_max: usize,
    },
    /// It isn't what it was a moment ago.
    #[error("`{name}` was changed while it was read for an archive")]
    Changed {
        /// Its path from the directory on, escaped for logs.
        name: Box<str>,
    },
    /// A part of it can't be read.
    #[error("`{name}` can't be read for an archive: {errno}")]
    Failed {
        /// Its path from the directory on, escaped for logs.
        name: Box<str>,
        /// What the system said.
        errno: Errno,
    },
}

impl ArchiveError {
    /// Returns the error that names what was changed.
    pub(super) fn changed(path: &[u8]) -> ArchiveError {
        ArchiveError::Changed { name: escape_for_log(path).into() }
    }

    /// Returns the error for a call that failed for the file or directory at `path`, which was there before.
    pub(super) fn of(path: &[u8], errno: Errno) -> ArchiveError {
        let name = escape_for_log(path).into();
        match errno {
            // LOOP: it is a link now.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => ArchiveError::Changed { name },
            Errno::ACCESS | Errno::PERM => ArchiveError::Denied { name },
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => {
                ArchiveError::File(FileError::Exhausted(errno))
            }
            _ => ArchiveError::Failed { name, errno },
        }
    }
}
