//! Page cache to pipe to socket by splice(2). A disk thread can fill the pipe while it waits for the disk, so
//! a cold window is read and handed over without a copy.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};

use super::super::error::TransferError;
use super::sendfile::failure;
use super::{Transfer, WINDOW_BYTES, Window};
use crate::files::SourceFile;
use crate::telemetry::EngineLabel;

/// Pipes kept for the next transfer; more at once are made and closed again.
const PIPES_KEPT_MAX: usize = 64;

/// An empty pipe, or one whose content its transfer knows.
struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
    capacity: usize,
}

/// Empty pipes of a worker.
#[derive(Default)]
pub(in super::super) struct PipePool(RefCell<Vec<Arc<Pipe>>>);

impl PipePool {
    fn take(&self) -> Result<Arc<Pipe>, Errno> {
        match self.0.borrow_mut().pop() {
            Some(pipe) => Ok(pipe),
            None => Ok(Arc::new(Pipe::new()?)),
        }
    }

    /// Takes back a pipe that is empty: one that holds bytes would send them to the next peer.
    fn put_back(&self, pipe: Arc<Pipe>) {
        let mut pipes = self.0.borrow_mut();
        if pipes.len() < PIPES_KEPT_MAX {
            pipes.push(pipe);
        }
    }
}

impl Pipe {
    fn new() -> Result<Pipe, Errno> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused to a user over fs.pipe-user-pages-soft, and then the pipe's own size has to do.
        let wanted = usize::try_from(WINDOW_BYTES).unwrap_or(usize::MAX);
        let capacity = fcntl_setpipe_size(&input, wanted).or_else(|_| fcntl_getpipe_size(&input))?;
        Ok(Pipe { output, input, capacity })
    }
}

/// Sends a window.
pub(super) async fn send_window(
    transfer: &mut Transfer<'_>,
    file: &SourceFile,
    window: Window,
    more: bool,
) -> Result<(), TransferError> {
    let failed = |errno| TransferError::SourceFailed { offset: window.offset, errno };
    let pipe = transfer.worker.pipes.take().map_err(failed)?;
    let end = window.offset + window.length;
    let mut offset = window.offset;
    while offset < end {
        let held = fill(transfer, file, &pipe, offset, end - offset, window.is_cold).await?;
        if held == 0 {
            return Err(TransferError::SourceShrank { offset });
        }
        offset += held;
        empty(transfer, &pipe, held, offset, more || offset < end).await?;
    }
    transfer.worker.pipes.put_back(pipe);
    Ok(())
}

/// Moves up to `bytes` from the file into the empty pipe and says how many it holds then.
async fn fill(
    transfer: &Transfer<'_>,
    file: &SourceFile,
    pipe: &Arc<Pipe>,
    offset: u64,
    bytes: u64,
    is_cold: bool,
) -> Result<u64, TransferError> {
    let count = usize::try_from(bytes).unwrap_or(usize::MAX).min(pipe.capacity);
    let filled = if is_cold {
        let (file, pipe) = (file.descriptor(), Arc::clone(pipe));
        let filled = transfer.worker.disk.run(move || fill_now(&file, &pipe, offset, count)).await;
        filled.map_err(|_| TransferError::Busy)?
    } else {
        fill_now(&file.descriptor(), pipe, offset, count)
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

/// Moves all `held` bytes from the pipe into the socket. `end`: the file offset behind them.
async fn empty(
    transfer: &mut Transfer<'_>,
    pipe: &Pipe,
    held: u64,
    end: u64,
    more: bool,
) -> Result<(), TransferError> {
    let more = if more { SpliceFlags::MORE } else { SpliceFlags::empty() };
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK | more;
    let mut rest = held;
    while rest > 0 {
        let count = usize::try_from(transfer.turn_bytes_max().min(rest)).unwrap_or(usize::MAX);
        match splice(&pipe.output, None, &transfer.connection.socket, None, count, flags) {
            // The pipe holds `rest` bytes, so 0 is no end but a broken pipe.
            Ok(0) => return Err(TransferError::PeerGone),
            Ok(sent) => {
                rest -= sent as u64;
                transfer.sent(EngineLabel::Splice, sent as u64).await?;
            }
            // The pipe isn't empty: it is the socket that is full.
            Err(Errno::AGAIN) => transfer.wait_writable().await?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failure(end - rest, errno)),
        }
    }
    Ok(())
}
