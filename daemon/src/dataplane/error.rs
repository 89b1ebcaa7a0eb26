//! How a transfer can fail; mapped once to an outcome.

use rustix::io::Errno;

use super::disk::DiskError;
use crate::files::archive::ArchiveError;
use crate::files::{Shortage, SpoolError};
use crate::limits::Full;
use crate::telemetry::{Outcome, SpaceRefusal};

/// The connection is no more. Ordinary: never logged above debug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer closed the connection")]
pub(super) struct PeerGone;

/// Why a transfer ended before its last byte.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    /// The peer closed or reset the connection.
    #[error("the peer closed the connection")]
    PeerGone,
    /// The target answered a frame with something else than its acknowledgement.
    #[error("the target's answer is no `done`")]
    NotAcknowledged,
    /// The peer made no progress in time.
    #[error("the peer made no progress in time")]
    TimedOut,
    /// The peer moved less than the minimum of progress.
    #[error("the peer moved fewer than progress_bytes_min bytes a second")]
    TooSlow,
    /// It had to make room.
    #[error("it made room for others: connections_max or uploads_max is reached, or descriptors are used up")]
    Evicted,
    /// The daemon stops, and the time for what was under way is over.
    #[error("the daemon stopped before the end")]
    Drained,
    /// The file is shorter than it was when the transfer began.
    #[error("the file got shorter: nothing at offset {offset}")]
    SourceShrank {
        /// Where bytes were expected.
        offset: u64,
    },
    /// The file isn't what it was when the transfer began.
    #[error("the file was changed while it was sent")]
    SourceChanged,
    /// The file can't be read.
    #[error("the file can't be read at offset {offset}: {errno}")]
    SourceFailed {
        /// Where reading failed.
        offset: u64,
        /// The system's error.
        errno: Errno,
    },
    /// The directory can't be read to its end.
    #[error("the directory can't be read any further: {errno}")]
    ListingFailed {
        /// The system's error.
        errno: Errno,
    },
    /// The directory gives no archive, or not the rest of it.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The disk threads didn't do it.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Too much waits for its readers, and this one doesn't read either.
    #[error(transparent)]
    NoRoom(#[from] Full),
    /// The frame can't be stored.
    #[error(transparent)]
    Sink(#[from] SpoolError),
    /// The source of a stream can't be opened, or the range doesn't fit it; the control plane is told which.
    #[error("the source can't be used")]
    Unusable,
    /// The request or frame can't be taken; its own error says why.
    #[error("refused")]
    Refused,
    /// This host has no free local port for a connection to the target.
    #[error("no free local port for the target")]
    NoLocalPort,
    /// Whoever asked for the stream went away.
    #[error("the client that asked for the stream went away")]
    Cancelled,
}

impl TransferError {
    /// Makes the error of a call that reads a file at `offset` and writes to a socket: the number tells which end
    /// failed.
    pub(super) fn of_two_ends(offset: u64, errno: Errno) -> TransferError {
        match errno {
            // These come from a file that can't be read.
            Errno::IO
            | Errno::INVAL
            | Errno::NOMEM
            | Errno::OVERFLOW
            | Errno::STALE
            | Errno::NXIO
            | Errno::NODEV => TransferError::SourceFailed { offset, errno },
            _ => TransferError::PeerGone,
        }
    }

    /// The outcome as metrics and access lines show it.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            TransferError::PeerGone | TransferError::NotAcknowledged => Outcome::PeerClosed,
            TransferError::TimedOut => Outcome::TimedOut,
            TransferError::TooSlow => Outcome::TooSlow,
            TransferError::Evicted => Outcome::Evicted,
            TransferError::Drained => Outcome::Drained,
            TransferError::SourceShrank { .. }
            | TransferError::SourceChanged
            | TransferError::SourceFailed { .. }
            | TransferError::ListingFailed { .. }
            | TransferError::Archive(_)
            | TransferError::Disk(_) => Outcome::SourceFailed,
            // The sender's own doing.
            TransferError::Sink(SpoolError::OverShare { .. } | SpoolError::TooManyOfAddress { .. }) => {
                Outcome::Refused
            }
            TransferError::Sink(_) => Outcome::SinkFailed,
            TransferError::Unusable | TransferError::Refused | TransferError::NoRoom(_) => Outcome::Refused,
            TransferError::NoLocalPort => Outcome::NoLocalPort,
            TransferError::Cancelled => Outcome::Cancelled,
        }
    }

    /// Why the connection ends, in words for the log.
    pub(super) fn closes_because(&self) -> &'static str {
        match self {
            TransferError::PeerGone => "the peer closed it",
            TransferError::TimedOut => "nothing came or went for too long",
            TransferError::TooSlow => "it moved fewer than progress_bytes_min bytes a second",
            TransferError::Evicted => "it made room for others",
            TransferError::Drained => "the daemon stops",
            _ => "the transfer failed",
        }
    }

    /// Whether a client that has got nothing so far can be told of it.
    pub(super) fn can_be_told(&self) -> bool {
        matches!(
            self,
            TransferError::SourceFailed { .. } | TransferError::Archive(_) | TransferError::Disk(_)
        )
    }

    /// Whether this host is at fault, so that somebody here should look.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.outcome(), Outcome::SourceFailed | Outcome::SinkFailed)
    }
}

impl From<PeerGone> for TransferError {
    fn from(_: PeerGone) -> TransferError {
        TransferError::PeerGone
    }
}

/// For want of which room a frame was refused; None where it was something else.
pub(super) fn spool_refusal(error: &SpoolError) -> Option<SpaceRefusal> {
    match error {
        SpoolError::Full { .. } => Some(SpaceRefusal::SpoolBytes),
        SpoolError::TooMany { .. } => Some(SpaceRefusal::SpoolFiles),
        SpoolError::OverShare { .. } => Some(SpaceRefusal::AddressSpoolBytes),
        SpoolError::TooManyOfAddress { .. } => Some(SpaceRefusal::AddressSpoolFiles),
        SpoolError::NoRoom(shortage) => Some(space_refusal(*shortage)),
        SpoolError::FileTooLong { .. } => Some(SpaceRefusal::FileLength),
        SpoolError::Failed { .. } => None,
    }
}

/// How metrics name what a file system lacked.
pub(super) fn space_refusal(shortage: Shortage) -> SpaceRefusal {
    match shortage {
        Shortage::ReservedBytes => SpaceRefusal::MinFreeBytes,
        Shortage::ReservedInodes => SpaceRefusal::MinFreeInodes,
        Shortage::Disk => SpaceRefusal::Disk,
        Shortage::Quota => SpaceRefusal::Quota,
        Shortage::FileLength => SpaceRefusal::FileLength,
    }
}
