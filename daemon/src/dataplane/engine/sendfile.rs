//! Page cache to socket by sendfile(2): no byte enters user space.

use rustix::io::Errno;

use super::super::disk_waits::Care;
use super::super::error::TransferError;
use super::choice::Engine;
use super::cold;
use super::kernel::{Kernel, Source};
use super::transfer::{Room, Transfer};
use super::unchanged::check_window;
use super::window::{Found, Window};
use crate::files::Synthetic;

/// Sends a window, and returns the offset that it came to: before the window's end where the rest can't be believed to
/// be in memory any more. A cold window is brought in first, since sendfile waits for the disk even on a non-blocking
/// socket.
pub(super) async fn send_window<K: Kernel>(
    transfer: &mut Transfer<'_, K>,
    file: &K::File,
    window: Window,
) -> Result<u64, TransferError> {
    let care = match window.found {
        Found::Hot(care) => care,
        Found::Cold => {
            Box::pin(cold::warm(transfer, file, window)).await?;
            Care::Most
        }
    };
    let mut asked = transfer.kernel.now();
    let end = window.offset + window.length;
    let mut offset = window.offset;
    // Before anything of a long transfer is out: whatever is appended from then on is known to be that. A short one
    // seldom has to wait, and is looked at when it does.
    if !window.is_last && K::File::are_none(&transfer.witnesses) {
        transfer.look(file, offset, end);
    }
    while offset < end {
        check_window(transfer, file, window).await?;
        if !cold::is_still_hot(transfer, file, &mut asked, offset, end) {
            break;
        }
        let care = transfer.kernel.care(care);
        let piece = Piece::new(transfer, offset, end, care.call_bytes_max());
        if cold::was_dropped(transfer, file, care, offset, piece.bytes as u64) {
            break;
        }
        let send = || transfer.kernel.sendfile(file, offset, piece.bytes);
        let (sent, has_waited) = transfer.kernel.look_at(file, care, offset, piece.bytes as u64, send);
        let look = |transfer: &mut Transfer<'_, K>, end| transfer.look(file, piece.offset, end);
        offset = piece.settle(transfer, sent, look).await?;
        if has_waited {
            break;
        }
    }
    Ok(offset)
}

/// Sends `bytes` random bytes by sending the same memory again and again.
pub(in super::super) async fn send_synthetic<K: Kernel>(
    transfer: &mut Transfer<'_, K>,
    source: &Synthetic,
    bytes: u64,
) -> Result<(), TransferError> {
    let mut rest = bytes;
    while rest > 0 {
        let length = rest.min(source.bytes());
        let mut offset = 0;
        while offset < length {
            let piece = Piece::new(transfer, offset, length, u64::MAX);
            let sent = transfer.kernel.sendfile_synthetic(source, offset, piece.bytes);
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
    /// Makes a piece of the bytes from `offset` to `end`: no more than one turn's worth. The kernel itself stops at
    /// 0x7ffff000 (sendfile(2)).
    fn new<K: Kernel>(transfer: &Transfer<'_, K>, offset: u64, end: u64, bytes_max: u64) -> Piece {
        let bytes = transfer.turn_bytes_max().min(bytes_max).min(end - offset);
        Piece { offset, bytes: usize::try_from(bytes).unwrap_or(usize::MAX) }
    }

    /// Counts what was sent, waits where the socket takes no more, and returns the offset of the next byte.
    /// `before_wait` is told that one before others get their turn.
    async fn settle<K: Kernel>(
        &self,
        transfer: &mut Transfer<'_, K>,
        sent: Result<usize, Errno>,
        before_wait: impl FnOnce(&mut Transfer<'_, K>, u64),
    ) -> Result<u64, TransferError> {
        let offset = self.offset;
        match sent {
            Ok(0) => Err(TransferError::SourceShrank { offset }),
            Ok(sent) => {
                let next = offset + sent as u64;
                // Most likely the socket is full: asking costs less than a call that gives its pages back. Where it
                // isn't, the wait ends at once.
                let room = if sent < self.bytes { Room::UsedUp } else { Room::Left };
                if transfer.waits_after(sent as u64, room) {
                    before_wait(transfer, next);
                }
                transfer.took(Engine::Sendfile, sent as u64, room).await?;
                Ok(next)
            }
            Err(Errno::AGAIN) => transfer.wait_writable().await.map(|()| offset),
            Err(Errno::INTR) => Ok(offset),
            Err(errno) => Err(TransferError::of_two_ends(offset, errno)),
        }
    }
}
