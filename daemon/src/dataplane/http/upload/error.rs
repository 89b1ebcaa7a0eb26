//! The ways in which the body of an upload fails to become whole. `answer` maps each once.

use super::super::super::disk::DiskError;
use super::super::super::error::TransferError;
use crate::files::upload::UploadError;
use crate::protocol::http1::chunked::ChunkError;

/// Why a body didn't become whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The peer closed or reset the connection.
    #[error("the client closed the connection")]
    PeerGone,
    /// Nothing came for too long.
    #[error("the body did not come in time")]
    TimedOut,
    /// It came with less than the minimum of progress.
    #[error("the body came with fewer than progress_bytes_min bytes a second")]
    TooSlow,
    /// It had to make room.
    #[error("the upload made room for another address's: uploads_max or connections_max is reached")]
    Evicted,
    /// The daemon stops.
    #[error("the daemon stops")]
    Drained,
    /// The disk threads took the writer along, or take no work.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The chunks can't be told apart.
    #[error(transparent)]
    Malformed(#[from] ChunkError),
    /// The partial can't take it.
    #[error(transparent)]
    Upload(#[from] UploadError),
}

impl BodyError {
    /// The error of a wait for more of a body.
    pub(super) fn of_wait(error: &TransferError) -> BodyError {
        match error {
            TransferError::Drained => BodyError::Drained,
            TransferError::TooSlow => BodyError::TooSlow,
            TransferError::Evicted => BodyError::Evicted,
            _ => BodyError::PeerGone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyError, TransferError};

    #[test]
    fn a_wait_that_the_daemon_ended_is_told_from_a_client_that_left() {
        assert!(matches!(BodyError::of_wait(&TransferError::Drained), BodyError::Drained));
        assert!(matches!(BodyError::of_wait(&TransferError::TooSlow), BodyError::TooSlow));
        assert!(matches!(BodyError::of_wait(&TransferError::Evicted), BodyError::Evicted));
        assert!(matches!(BodyError::of_wait(&TransferError::PeerGone), BodyError::PeerGone));
    }
}
