//! What can go wrong with uploads.

use rustix::io::Errno;

use super::super::digest::Digests;
use super::super::free_space::{NoRoom, Shortage};
use crate::protocol::digest::Algorithm;

/// Why an upload, or what was asked of one, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// No such upload, no such file, or a reserved name.
    #[error("no such file or upload")]
    NotFound,
    /// The directory that the destination would lie in doesn't exist, isn't a directory or isn't beneath the root: the
    /// three are told apart by nobody.
    #[error("the directory of the destination does not exist")]
    ParentMissing,
    /// The destination is a directory, or something else that isn't replaced by a file.
    #[error("the destination is a directory or no regular file")]
    NotAFile,
    /// The file system can't hold so long a name.
    #[error("the name is too long for the file system")]
    NameTooLong,
    /// The daemon's user may not write there.
    #[error(
        "the daemon's user may not write there: give it the permission, take away the immutable or append-only flag \
         (lsattr), or end swapping to the file"
    )]
    Denied,
    /// The disk, a quota or the reserve is exhausted.
    #[error(transparent)]
    NoSpace(#[from] Shortage),
    /// Longer than uploads may be.
    #[error("the upload is longer than {limit} bytes, the most that is taken")]
    TooLarge {
        /// The most that is taken.
        limit: u64,
    },
    /// So many uploads run, or wait to be continued, that no further one is begun.
    #[error("too many uploads are under way")]
    TooMany,
    /// So many of them go to one mount below the root that no further one to it is begun.
    #[error(
        "too many uploads to this file system are under way: one that is mounted below the root holds half of \
         uploads_max at most"
    )]
    TooManyOfMount,
    /// Another writer is at it and makes progress.
    #[error("the upload is being written by another request")]
    Busy,
    /// Another writer has taken over, or the upload was removed.
    #[error("the upload was taken over by another request, or removed")]
    TakenOver,
    /// The bytes don't follow those that are there.
    #[error("the upload continues at byte {expected}, not at byte {provided}")]
    WrongOffset {
        /// How many bytes are there.
        expected: u64,
        /// Where the request would have continued.
        provided: u64,
    },
    /// A part that proves nothing, where others may have begun the same.
    #[error(
        "more than one upload of this name and length was begun, so nothing tells whose part this is: send the \
         Upload-Id that the first part was answered with, or with each part the Repr-Digest of the whole file, or \
         begin anew at byte 0"
    )]
    Unproved,
    /// A part names an upload that isn't there, or not for this destination.
    #[error(
        "no upload to this name has this Upload-Id: it ended or was given up, or another node has it; begin anew at \
         byte 0"
    )]
    Unknown,
    /// The length isn't the one that was given before, or shorter than what is there, or more bytes came.
    #[error("the upload has {expected} bytes, not {provided}")]
    LengthConflict {
        /// The length given before, or the bytes that are there.
        expected: u64,
        /// The other length.
        provided: u64,
    },
    /// Bytes are missing; what is there stays, where it can be continued.
    #[error("the upload has {received} bytes of {expected}")]
    Incomplete {
        /// How many bytes are there.
        received: u64,
        /// How many there have to be.
        expected: u64,
    },
    /// The upload is published already.
    #[error("the upload is complete")]
    Completed,
    /// The destination isn't in the state that was asked for.
    #[error("the file is not in the state that was asked for")]
    PreconditionFailed,
    /// The content isn't what its sender meant to send.
    #[error("the content does not have the {algorithm} digest that was sent with it")]
    DigestMismatch {
        /// By which it isn't, or the first of several.
        algorithm: Algorithm,
        /// What was found, for comparison with all that was sent; it isn't told to the client.
        computed: Digests,
        /// Whether the content is that of one request, not of the whole file.
        is_of_request: bool,
    },
    /// Two requests of one upload name two digests of the whole.
    #[error(
        "the {algorithm} digest of the whole file is another than the one that came with an earlier part: send that \
         one, or begin anew at byte 0"
    )]
    DigestConflict {
        /// By which they differ.
        algorithm: Algorithm,
    },
    /// The file system can only be read.
    #[error(
        "the file system is read-only there: mount it to be written to, or name it in ReadWritePaths= of the daemon's \
         unit"
    )]
    ReadOnly,
    /// Something is mounted at the name, or the kernel uses the file.
    #[error("the name is in use: something is mounted there; end that, or take another name")]
    InUse,
    /// Out of descriptors or memory; may work in a moment.
    #[error("out of descriptors or memory: {0}")]
    Exhausted(Errno),
    /// No lock can be had by which daemons on one root keep out of each other's way, or another process holds it.
    #[error(
        "nothing can be published now: the lock in .streamd-uploads {}",
        .0.map_or("is held by another process; try again".to_owned(), |reason| format!(
            "can't be had ({reason}); the root must lie on a file system that locks files (fcntl(2))"
        ))
    )]
    Unlocked(Option<Errno>),
    /// Anything else: the disk, or something of its owner's making.
    #[error("{step}: {reason}")]
    Failed {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        reason: Errno,
    },
}

impl UploadError {
    /// `other` where an upload that was known has gone.
    pub(super) fn or_if_gone(self, other: UploadError) -> UploadError {
        if self == UploadError::NotFound { other } else { self }
    }

    /// What an errno means that a system call on the way to a destination gave.
    pub(super) fn at(step: &'static str) -> impl Fn(Errno) -> UploadError + Copy {
        move |reason| match reason {
            // XDEV and LOOP from openat2: a symbolic link that leaves the root, a magic link or too many links.
            Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP => UploadError::ParentMissing,
            Errno::ISDIR => UploadError::NotAFile,
            Errno::NAMETOOLONG => UploadError::NameTooLong,
            // PERM: an immutable directory too, and a file that is swapped to (Linux 5.3).
            Errno::ACCESS | Errno::PERM => UploadError::Denied,
            Errno::ROFS => UploadError::ReadOnly,
            Errno::BUSY | Errno::TXTBSY => UploadError::InUse,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => UploadError::Exhausted(reason),
            // FBIG: longer than this file system's files can be.
            _ => match Shortage::of(reason) {
                Some(shortage) => UploadError::NoSpace(shortage),
                None => UploadError::Failed { step, reason },
            },
        }
    }
}

impl From<NoRoom> for UploadError {
    fn from(reason: NoRoom) -> UploadError {
        match reason {
            NoRoom::Short(shortage) => UploadError::NoSpace(shortage),
            NoRoom::Unknown(errno) => UploadError::at("asking for free space")(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_has_one_meaning() {
        let failed = |reason| UploadError::Failed { step: "trying", reason };
        for (errno, error) in [
            (Errno::NOENT, UploadError::ParentMissing),
            (Errno::NOTDIR, UploadError::ParentMissing),
            (Errno::XDEV, UploadError::ParentMissing),
            (Errno::LOOP, UploadError::ParentMissing),
            (Errno::ISDIR, UploadError::NotAFile),
            (Errno::NAMETOOLONG, UploadError::NameTooLong),
            (Errno::ACCESS, UploadError::Denied),
            (Errno::PERM, UploadError::Denied),
            (Errno::NOSPC, UploadError::NoSpace(Shortage::Disk)),
            (Errno::DQUOT, UploadError::NoSpace(Shortage::Quota)),
            (Errno::FBIG, UploadError::NoSpace(Shortage::FileLength)),
            (Errno::ROFS, UploadError::ReadOnly),
            (Errno::BUSY, UploadError::InUse),
            (Errno::TXTBSY, UploadError::InUse),
            (Errno::MFILE, UploadError::Exhausted(Errno::MFILE)),
            (Errno::NFILE, UploadError::Exhausted(Errno::NFILE)),
            (Errno::IO, failed(Errno::IO)),
            (Errno::STALE, failed(Errno::STALE)),
        ] {
            assert_eq!(UploadError::at("trying")(errno), error);
        }
    }
}
