//! Page cache to socket by sendfile(2): no byte enters user space.

use std::os::fd::AsFd;

use rustix::fs::sendfile;
use rustix::io::Errno;

use super::super::error::TransferError;
use super::{Transfer, Window, cold};
use crate::files::{SYNTHETIC_BYTES, SourceFile, Synthetic};
use crate::telemetry::EngineLabel;

/// Sends a window; a cold one is brought in first, since sendfile waits for the disk even on a non-blocking
/// socket.
pub(super) async fn send_window(
    transfer: &mut Transfer<'_>,
    file: &SourceFile,
    window: Window,
) -> Result<(), TransferError> {
    if window.is_cold {
        cold::warm(transfer, file, window).await?;
    }
    send(transfer, file, window.offset, window.length).await
}

/// Sends `bytes` random bytes by sending the same memory again and again.
pub(in super::super) async fn send_synthetic(
    transfer: &mut Transfer<'_>,
    source: &Synthetic,
    bytes: u64,
) -> Result<(), TransferError> {
    let mut rest = bytes;
    while rest > 0 {
        let length = rest.min(SYNTHETIC_BYTES);
        send(transfer, source, 0, length).await?;
        rest -= length;
    }
    Ok(())
}

async fn send(
    transfer: &mut Transfer<'_>,
    source: &impl AsFd,
    mut offset: u64,
    length: u64,
) -> Result<(), TransferError> {
    let end = offset + length;
    while offset < end {
        // One turn's worth. The kernel itself stops at 0x7ffff000 (sendfile(2)).
        let count = usize::try_from(transfer.turn_bytes_max().min(end - offset)).unwrap_or(usize::MAX);
        // The offset is ours, not the file's: one descriptor serves many transfers.
        match sendfile(&transfer.connection.socket, source, Some(&mut offset), count) {
            Ok(0) => return Err(TransferError::SourceShrank { offset }),
            // Most likely the socket is full: asking costs less than a call that gives its pages back. Where it isn't,
            // the wait ends at once.
            Ok(sent) if sent < count => {
                transfer.count(EngineLabel::Sendfile, sent as u64);
                transfer.wait_writable().await?;
            }
            Ok(sent) => transfer.sent(EngineLabel::Sendfile, sent as u64).await?,
            Err(Errno::AGAIN) => transfer.wait_writable().await?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failure(offset, errno)),
        }
    }
    Ok(())
}

/// Whose fault an error of a call with two ends is.
pub(super) fn failure(offset: u64, errno: Errno) -> TransferError {
    match errno {
        // What a file answers when it can't be read.
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
