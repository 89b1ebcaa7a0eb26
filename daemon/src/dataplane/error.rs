//! How a transfer can fail; mapped once to an outcome.

use rustix::io::Errno;

use crate::files::SpoolError;
use crate::telemetry::Outcome;

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
    /// The peer made no progress in time.
    #[error("the peer made no progress in time")]
    TimedOut,
    /// The daemon stops, and the time for what was under way is over.
    #[error("the daemon stopped before the end")]
    Drained,
    /// The file is shorter than it was when the transfer began.
    #[error("the file got shorter: nothing at offset {offset}")]
    SourceShrank {
        /// Where bytes were expected.
        offset: u64,
    },
    /// The file can't be read.
    #[error("the file can't be read at offset {offset}: {errno}")]
    SourceFailed {
        /// Where reading failed.
        offset: u64,
        /// What the system said.
        errno: Errno,
    },
    /// The disk threads have too much to do.
    #[error("too many requests wait for the disk")]
    Busy,
    /// The frame can't be stored.
    #[error(transparent)]
    Sink(#[from] SpoolError),
    /// The source of a stream can't be opened, or the range doesn't fit it; the control plane is told which.
    #[error("the source can't be used")]
    Unusable,
    /// Whoever asked for the stream went away.
    #[error("the client that asked for the stream went away")]
    Cancelled,
}

impl TransferError {
    /// The outcome as metrics and access lines show it.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            TransferError::PeerGone => Outcome::PeerClosed,
            TransferError::TimedOut => Outcome::TimedOut,
            TransferError::Drained => Outcome::Drained,
            TransferError::SourceShrank { .. } | TransferError::SourceFailed { .. } | TransferError::Busy => {
                Outcome::SourceFailed
            }
            TransferError::Sink(_) => Outcome::SinkFailed,
            TransferError::Unusable => Outcome::Refused,
            TransferError::Cancelled => Outcome::Cancelled,
        }
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
