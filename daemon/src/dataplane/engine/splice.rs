//! Page cache to pipe to socket by splice(2). A disk thread can fill the pipe while it waits for the disk, so
//! a cold window is read and handed over without a copy.

use std::sync::Arc;

use rustix::io::Errno;

use super::super::disk_waits::Care;
use super::super::error::TransferError;
use super::choice::Engine;
use super::cold::{self, timed};
use super::kernel::{Conduit, Kernel, Source};
use super::transfer::{Room, Transfer};
use super::unchanged::check_window;
use super::window::{Found, Window};
use super::{copy, sendfile};

/// Bytes that are copied at a time where there is no pipe: so few may wait for their reader without being counted.
const COPIED_BYTES: u64 = 4 << 10;

/// Sends a window, after `head`. That isn't sent before the first bytes behind it are there: where the disk doesn't
/// give them the answer is another.
pub(super) async fn send_window<K: Kernel>(
    transfer: &mut Transfer<'_, K>,
    head: Vec<u8>,
    file: &K::File,
    window: Window,
    more: bool,
) -> Result<(), TransferError> {
    let Some(pipe) = transfer.kernel.take_pipe() else {
        return Box::pin(send_without_pipe(transfer, head, file, window, more)).await;
    };
    let end = window.offset + window.length;
    let (mut offset, mut head) = (window.offset, head);
    while offset < end {
        let held = fill(transfer, file, &pipe, offset, end - offset, window.found).await?;
        if held == 0 {
            return Err(TransferError::SourceShrank { offset });
        }
        offset += held;
        transfer.send_head(std::mem::take(&mut head)).await?;
        empty(transfer, file, &pipe, Held { bytes: held, end: offset, window, more: more || offset < end })
            .await?;
    }
    transfer.kernel.put_back_pipe(pipe);
    if window.found == Found::Cold {
        cold::was_read(transfer, file, window);
    }
    Ok(())
}

/// Sends a window for which there is no pipe. A disk thread brings it into memory for sendfile(2); what isn't believed
/// to be there any more, or never is, is read again or copied.
async fn send_without_pipe<K: Kernel>(
    transfer: &mut Transfer<'_, K>,
    mut head: Vec<u8>,
    file: &K::File,
    window: Window,
    more: bool,
) -> Result<(), TransferError> {
    let mut rest = window;
    while rest.length > 0 {
        if rest.found == Found::Cold {
            cold::warm(transfer, file, rest).await?;
            rest.found = Found::Hot(Care::Most);
        }
        transfer.send_head(std::mem::take(&mut head)).await?;
        let mut end = sendfile::send_window(transfer, file, rest).await?;
        if end == rest.offset {
            let length = COPIED_BYTES.min(rest.length);
            end += length;
            let is_end = length == rest.length;
            let piece = Window { length, is_last: rest.is_last && is_end, ..rest };
            copy::send_window(transfer, Vec::new(), file, piece, more || !is_end).await?;
        }
        rest = rest.from(end);
    }
    Ok(())
}

/// Moves up to `bytes` from the file into the empty pipe and says how many it holds then.
async fn fill<K: Kernel>(
    transfer: &Transfer<'_, K>,
    file: &K::File,
    pipe: &Arc<K::Pipe>,
    offset: u64,
    bytes: u64,
    found: Found,
) -> Result<u64, TransferError> {
    let kernel = &transfer.kernel;
    let count = usize::try_from(bytes).unwrap_or(usize::MAX).min(pipe.capacity());
    let filled = if let Found::Hot(care) = found {
        let care = kernel.care(care);
        let count = count.min(usize::try_from(care.call_bytes_max()).unwrap_or(usize::MAX));
        let fill = || fill_now(&file.reader(), &**pipe, offset, count);
        kernel.look_at(file, care, offset, count as u64, fill).0
    } else {
        transfer.note_wait();
        let (reader, pipe) = (file.reader(), Arc::clone(pipe));
        let fill = move || timed(|| fill_now(&reader, &*pipe, offset, count));
        let (filled, took) = transfer.on_disk_thread(file, fill).await?;
        kernel.note_read(file, took);
        filled
    };
    filled.map_err(|errno| TransferError::SourceFailed { offset, errno })
}

fn fill_now<R>(reader: &R, pipe: &impl Conduit<R>, offset: u64, count: usize) -> Result<u64, Errno> {
    loop {
        match pipe.fill(reader, offset, count) {
            Err(Errno::INTR) => {}
            result => return result.map(|held| held as u64),
        }
    }
}

/// The bytes that a pipe holds.
struct Held {
    bytes: u64,
    /// The file offset behind them.
    end: u64,
    window: Window,
    /// Whether bytes of the same response follow.
    more: bool,
}

/// Moves all that the pipe holds into the socket.
async fn empty<K: Kernel>(
    transfer: &mut Transfer<'_, K>,
    file: &K::File,
    pipe: &K::Pipe,
    held: Held,
) -> Result<(), TransferError> {
    transfer.look(file, held.end - held.bytes, held.end);
    let mut rest = held.bytes;
    while rest > 0 {
        check_window(transfer, file, held.window).await?;
        let count = usize::try_from(transfer.turn_bytes_max().min(rest)).unwrap_or(usize::MAX);
        match transfer.kernel.empty_pipe(pipe, count, held.more) {
            // The pipe holds `rest` bytes, so 0 is no end but a broken pipe.
            Ok(0) => return Err(TransferError::PeerGone),
            Ok(sent) => {
                rest -= sent as u64;
                transfer.took(Engine::Splice, sent as u64, Room::Left).await?;
            }
            // The pipe isn't empty: it is the socket that is full.
            Err(Errno::AGAIN) => transfer.wait_writable().await?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(TransferError::of_two_ends(held.end - rest, errno)),
        }
    }
    Ok(())
}
