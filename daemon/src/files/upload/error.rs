//! Errors of uploads.

use rustix::io::Errno;

use super::super::digest::Digests;
use super::super::free_space::{NoRoom, Shortage};
use crate::protocol::digest::Algorithm;

/// Why an upload, or a question about one, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// There is no such upload or file, or the name is reserved.
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
    /// The upload is longer than uploads may be.
    #[error("the upload is longer than {limit} bytes, the most that is taken")]
    TooLarge {
        /// The most bytes that are taken.
        limit: u64,
    },
    /// So many uploads run, or wait to be continued, that no further one may begin.
    #[error("too many uploads are under way")]
    TooMany,
    /// So many uploads go to one mount below the root that no further one to it may begin.
    #[error(
        "too many uploads to this file system are under way: one that is mounted below the root holds half of \
         uploads_max at most"
    )]
    TooManyOfMount,
    /// Another writer has the upload and makes progress.
    #[error("the upload is being written by another request")]
    Busy,
    /// Another writer has taken over, or the upload was removed.
    #[error("the upload was taken over by another request, or removed")]
    TakenOver,
    /// The bytes don't follow those that have come.
    #[error("the upload continues at byte {expected}, not at byte {provided}")]
    WrongOffset {
        /// The number of bytes that have come.
        expected: u64,
        /// The offset at which the request would have continued.
        provided: u64,
    },
    /// A part proves no upload as its own, and others may have begun one of the same name and length.
    #[error(
        "more than one upload of this name and length was begun, so nothing tells whose part this is: send the \
         Upload-Id that the first part was answered with, or with each part the Repr-Digest of the whole file, or \
         begin anew at byte 0"
    )]
    Unproved,
    /// A part names an upload that doesn't exist, or not for this destination.
    #[error(
        "no upload to this name has this Upload-Id: it ended or was given up, or another node has it; begin anew at \
         byte 0"
    )]
    Unknown,
    /// The length isn't the one that was given before, or is shorter than what has come, or more bytes came.
    #[error("the upload has {expected} bytes, not {provided}")]
    LengthConflict {
        /// The length given before, or the bytes that have come.
        expected: u64,
        /// The other length.
        provided: u64,
    },
    /// Bytes are missing; those that have come are kept, where the upload can be continued.
    #[error("the upload has {received} bytes of {expected}")]
    Incomplete {
        /// The number of bytes that have come.
        received: u64,
        /// The number of bytes that are needed.
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
        /// The first algorithm by which the digests differ.
        algorithm: Algorithm,
        /// The computed digests, for comparison with all that was sent; they aren't told to the client.
        computed: Digests,
        /// Whether the digest is of one request's content, not of the whole file.
        is_of_request: bool,
    },
    /// Two requests of one upload name different digests of the whole file.
    #[error(
        "the {algorithm} digest of the whole file is another than the one that came with an earlier part: send that \
         one, or begin anew at byte 0"
    )]
    DigestConflict {
        /// The algorithm by which the digests differ.
        algorithm: Algorithm,
    },
    /// The file system can only be read.
    #[error(
        "the file system is read-only there: mount it to be written to, or name it in ReadWritePaths= of the daemon's \
         unit"
    )]
    ReadOnly,
    /// Something is mounted at the name, or the kernel uses the file (a swap file).
    #[error("the name is in use: something is mounted there; end that, or take another name")]
    InUse,
    /// Descriptors or memory are exhausted; may work in a moment.
    #[error("out of descriptors or memory: {0}")]
    Exhausted(Errno),
    /// The lock by which daemons on one root keep out of each other's way can't be had, or another process holds
    /// it.
    #[error(
        "nothing can be published now: the lock in .streamd-uploads {}",
        .0.map_or("is held by another process; try again".to_owned(), |reason| format!(
            "can't be had ({reason}); the root must lie on a file system that locks files (fcntl(2))"
        ))
    )]
    Unlocked(Option<Errno>),
    /// The disk, or something else of the system, failed.
    #[error("{step}: {reason}")]
    Failed {
        /// The step that failed.
        step: &'static str,
        /// The error of the system.
        reason: Errno,
    },
}

impl UploadError {
    /// Returns `other` where an upload that was known has gone.
    pub(super) fn or_if_gone(self, other: UploadError) -> UploadError {
        if self == UploadError::NotFound { other } else { self }
    }

    /// Translates an errno of a system call on the way to a destination.
    pub(super) fn at(step: &'static str) -> impl Fn(Errno) -> UploadError + Copy {
        move |reason| match reason {
            // XDEV and LOOP from openat2: a symbolic link that leaves the root, a magic link or too many links.
            Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP => UploadError::ParentMissing,
            Errno::ISDIR => UploadError::NotAFile,
            Errno::NAMETOOLONG => UploadError::NameTooLong,
            // PERM stands for an immutable directory too, and for a file that is swapped to (Linux 5.3).
            Errno::ACCESS | Errno::PERM => UploadError::Denied,
            Errno::ROFS => UploadError::ReadOnly,
            Errno::BUSY | Errno::TXTBSY => UploadError::InUse,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => UploadError::Exhausted(reason),
            // FBIG means that the file is longer than this file system's files can be.
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
