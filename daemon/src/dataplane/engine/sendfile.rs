//! Page cache to socket by sendfile(2): no byte enters user space.

use std::os::fd::AsFd;

use rustix::fs::sendfile;
use rustix::io::Errno;

use super::super::disk_waits::Care;
use super::super::error::TransferError;
use super::choice::Engine;
use super::cold;
use super::transfer::Transfer;
use super::unchanged::check_window;
use super::window::{Found, Window};
use crate::files::{SourceFile, Synthetic};

/// Sends a window, and returns the offset that it came to: before the window's end where the rest can't be believed to
/// be in memory any more. A cold window is brought in first, since sendfile waits for the disk even on a non-blocking
/// socket.
pub(super) async fn send_window(
    transfer: &mut Transfer<'_>,
    file: &SourceFile,
    window: Window,
) -> Result<u64, TransferError> {
    let care = match window.found {
        Found::Hot(care) => care,
        Found::Cold => {
            Box::pin(cold::warm(transfer, file, window)).await?;
            Care::Most
        }
    };
    let worker = transfer.worker;
    let mut asked = worker.clock.now();
    let end = window.offset + window.length;
    let mut offset = window.offset;
    // Before anything of a long transfer is out: whatever is appended from then on is known to be that. A short one
    // seldom has to wait, and is looked at when it does.
    if !window.is_last && transfer.witnesses.are_none() {
        transfer.witnesses.look(file, offset, end);
    }
    while offset < end {
        check_window(transfer, file, window).await?;
        if !cold::is_still_hot(transfer, file, &mut asked, offset, end) {
            break;
        }
        let care = worker.waits.care(care, worker.clock.now());
        let piece = Piece::new(transfer, offset, end, care.call_bytes_max());
        if cold::was_dropped(transfer, file, care, offset, piece.bytes as u64) {
            break;
        }
        let look = worker.waits.begin(care, piece.bytes as u64);
        let sent = piece.send(transfer, file);
        let waited = worker.waits.end(&look, &worker.clock);
        if let Some(waited) = waited {
            worker.waits.add(&worker.clock, file, offset, waited);
        }
        let look = |transfer: &mut Transfer<'_>, end| transfer.witnesses.look(file, piece.offset, end);
        offset = piece.settle(transfer, sent, look).await?;
        if waited.is_some() {
            break;
        }
    }
    Ok(offset)
}

/// Sends `bytes` random bytes by sending the same memory again and again.
pub(in super::super) async fn send_synthetic(
    transfer: &mut Transfer<'_>,
    source: &Synthetic,
    bytes: u64,
) -> Result<(), TransferError> {
    let mut rest = bytes;
    while rest > 0 {
        let length = rest.min(source.bytes());
        let mut offset = 0;
        while offset < length {
            let piece = Piece::new(transfer, offset, length, u64::MAX);
            let sent = piece.send(transfer, source);
            offset = piece.settle(transfer, sent, |_, _| {}).await?;
        }
        rest -= length;
    }
    Ok(())
}

/// Bytes for one call.
#[derive(Clone, Copy)]
struct Piece {
    offset: u64,
    bytes: usize,
}

impl Piece {
    /// Of the bytes from `offset` to `end`: no more than one turn's worth. The kernel itself stops at 0x7ffff000
    /// (sendfile(2)).
    fn new(transfer: &Transfer<'_>, offset: u64, end: u64, bytes_max: u64) -> Piece {
        let bytes = transfer.turn_bytes_max().min(bytes_max).min(end - offset);
        Piece { offset, bytes: usize::try_from(bytes).unwrap_or(usize::MAX) }
    }

    /// Sends what the socket takes of it at once.
    fn send(&self, transfer: &Transfer<'_>, source: &impl AsFd) -> Result<usize, Errno> {
        // The offset is ours, not the file's: one descriptor serves many transfers.
        let mut offset = self.offset;
        sendfile(&transfer.connection.socket, source, Some(&mut offset), self.bytes)
    }

    /// Counts what was sent, waits where the socket takes no more, and returns the offset of the next byte.
    /// `before_wait` is told that one before others get their turn.
    async fn settle(
        &self,
        transfer: &mut Transfer<'_>,
        sent: Result<usize, Errno>,
        before_wait: impl FnOnce(&mut Transfer<'_>, u64),
    ) -> Result<u64, TransferError> {
        let offset = self.offset;
        match sent {
            Ok(0) => Err(TransferError::SourceShrank { offset }),
            Ok(sent) => {
                let next = offset + sent as u64;
                // Most likely the socket is full: asking costs less than a call that gives its pages back. Where it
                // isn't, the wait ends at once.
                if sent < self.bytes {
                    transfer.count(Engine::Sendfile, sent as u64);
                    before_wait(transfer, next);
                    transfer.wait_writable().await?;
                } else {
                    if transfer.ends_turn(sent as u64) {
                        before_wait(transfer, next);
                    }
                    transfer.sent(Engine::Sendfile, sent as u64).await?;
                }
                Ok(next)
            }
            Err(Errno::AGAIN) => transfer.wait_writable().await.map(|()| offset),
            Err(Errno::INTR) => Ok(offset),
            Err(errno) => Err(TransferError::of_two_ends(offset, errno)),
        }
    }
}
