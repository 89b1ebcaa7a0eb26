//! Page cache to pipe to socket by splice(2). A disk thread can fill the pipe while it waits for the disk, so
//! a cold window is read and handed over without a copy.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use super::super::disk::Lane;
use super::super::disk_waits::Care;
use super::super::error::TransferError;
use super::super::pipe_pool::Pipe;
use super::choice::Engine;
use super::cold::{self, timed};
use super::transfer::Transfer;
use super::unchanged::check_window;
use super::window::{Found, Window};
use super::{copy, sendfile};
use crate::files::SourceFile;

/// Bytes that are copied at a time where there is no pipe: so few may wait for their reader without being counted.
const COPIED_BYTES: u64 = 4 << 10;

/// Sends a window, after `head`. That isn't sent before the first bytes behind it are there: where the disk doesn't
/// give them the answer is another.
pub(super) async fn send_window(
    transfer: &mut Transfer<'_>,
    head: Vec<u8>,
    file: &SourceFile,
    window: Window,
    more: bool,
) -> Result<(), TransferError> {
    let Some(pipe) = transfer.worker.pipes.take() else {
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
    transfer.worker.pipes.put_back(pipe);
    if window.found == Found::Cold {
        cold::was_read(transfer, file, window);
    }
    Ok(())
}

/// Sends a window for which there is no pipe. A disk thread brings it into memory for sendfile(2); what isn't believed
/// to be there any more, or never is, is read again or copied.
async fn send_without_pipe(
    transfer: &mut Transfer<'_>,
    mut head: Vec<u8>,
    file: &SourceFile,
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
async fn fill(
    transfer: &Transfer<'_>,
    file: &SourceFile,
    pipe: &Arc<Pipe>,
    offset: u64,
    bytes: u64,
    found: Found,
) -> Result<u64, TransferError> {
    let worker = transfer.worker;
    let count = usize::try_from(bytes).unwrap_or(usize::MAX).min(pipe.capacity);
    let filled = if let Found::Hot(care) = found {
        let care = worker.waits.care(care, worker.clock.now());
        let count = count.min(usize::try_from(care.call_bytes_max()).unwrap_or(usize::MAX));
        let look = worker.waits.begin(care, count as u64);
        let filled = fill_now(&file.descriptor(), pipe, offset, count);
        if let Some(waited) = worker.waits.end(&look, &worker.clock) {
            worker.waits.add(&worker.clock, file, offset, waited);
        }
        filled
    } else {
        transfer.note_wait();
        let (descriptor, pipe) = (file.descriptor(), Arc::clone(pipe));
        let fill = move || timed(|| fill_now(&descriptor, &pipe, offset, count));
        let (filled, took) = worker.disk.run(Lane::Read, transfer.owner(file), fill).await?;
        worker.waits.note_read(&worker.clock, file, took);
        filled
    };
    filled.map_err(|errno| TransferError::SourceFailed { offset, errno })
}

fn fill_now(file: &OwnedFd, pipe: &Pipe, mut offset: u64, count: usize) -> Result<u64, Errno> {
    loop {
        match splice(
            file,
            Some(&mut offset),
            &pipe.input,
            None,
            count,
            SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
        ) {
            Err(Errno::INTR) => {}
            result => return result.map(|held| held as u64),
        }
    }
}

/// What a pipe holds.
struct Held {
    bytes: u64,
    /// The file offset behind them.
    end: u64,
    window: Window,
    /// Whether bytes of the same response follow.
    more: bool,
}

/// Moves all that the pipe holds into the socket.
async fn empty(
    transfer: &mut Transfer<'_>,
    file: &SourceFile,
    pipe: &Pipe,
    held: Held,
) -> Result<(), TransferError> {
    let more = if held.more { SpliceFlags::MORE } else { SpliceFlags::empty() };
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK | more;
    transfer.witnesses.look(file, held.end - held.bytes, held.end);
    let mut rest = held.bytes;
    while rest > 0 {
        check_window(transfer, file, held.window).await?;
        let count = usize::try_from(transfer.turn_bytes_max().min(rest)).unwrap_or(usize::MAX);
        match splice(&pipe.output, None, &transfer.connection.socket, None, count, flags) {
            // The pipe holds `rest` bytes, so 0 is no end but a broken pipe.
            Ok(0) => return Err(TransferError::PeerGone),
            Ok(sent) => {
                rest -= sent as u64;
                transfer.sent(Engine::Splice, sent as u64).await?;
            }
            // The pipe isn't empty: it is the socket that is full.
            Err(Errno::AGAIN) => transfer.wait_writable().await?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(TransferError::of_two_ends(held.end - rest, errno)),
        }
    }
    Ok(())
}
