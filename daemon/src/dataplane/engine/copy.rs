//! Page cache to user space to socket: for bodies so short that one send with their head costs least, and for
//! hosts where zero copy isn't wanted.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, pread};

use super::super::error::TransferError;
use super::{Transfer, Window};
use crate::files::SourceFile;
use crate::telemetry::EngineLabel;

/// Bytes read and sent at a time: large enough that the calls don't matter, small enough for the L2 cache.
const CHUNK_BYTES: u64 = 256 << 10;

/// Sends a window, its first chunk in one piece with `head`.
pub(super) async fn send_window(
    transfer: &mut Transfer<'_>,
    head: Vec<u8>,
    file: &SourceFile,
    window: Window,
    more: bool,
) -> Result<(), TransferError> {
    let end = window.offset + window.length;
    let mut offset = window.offset;
    let mut buffer = head;
    while offset < end {
        let length = CHUNK_BYTES.min(end - offset);
        buffer = read(transfer, file, buffer, offset, length, window.is_cold).await?;
        offset += length;
        transfer.send_all(&buffer, more || offset < end).await?;
        transfer.sent(EngineLabel::Copy, length).await?;
        buffer.clear();
    }
    Ok(())
}

/// Appends exactly `length` bytes of the file to `buffer`.
async fn read(
    transfer: &Transfer<'_>,
    file: &SourceFile,
    buffer: Vec<u8>,
    offset: u64,
    length: u64,
    is_cold: bool,
) -> Result<Vec<u8>, TransferError> {
    let descriptor = file.descriptor();
    if !is_cold {
        return read_now(&descriptor, buffer, offset, length);
    }
    let result = transfer.worker.disk.run(move || read_now(&descriptor, buffer, offset, length)).await;
    result.map_err(|_| TransferError::Busy)?
}

fn read_now(file: &OwnedFd, mut buffer: Vec<u8>, offset: u64, length: u64) -> Result<Vec<u8>, TransferError> {
    let mut filled = buffer.len();
    buffer.resize(filled + usize::try_from(length).unwrap_or(usize::MAX), 0);
    let mut offset = offset;
    while filled < buffer.len() {
        match pread(file, &mut buffer[filled..], offset) {
            Ok(0) => return Err(TransferError::SourceShrank { offset }),
            Ok(count) => {
                filled += count;
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(TransferError::SourceFailed { offset, errno }),
        }
    }
    Ok(buffer)
}
