//! Page cache to user space to socket: for bodies so short that one send with their head costs least, and for
//! hosts where zero copy isn't wanted.

use rustix::io::Errno;

use super::super::error::TransferError;
use super::kernel::{Kernel, Reader, Source};
use super::transfer::Transfer;
use super::unchanged::check;
use super::window::Window;

/// Bytes read and sent at a time: large enough that the calls don't matter, small enough for the L2 cache.
const CHUNK_BYTES: u64 = 256 << 10;

/// Sends a window, its first chunk in one piece with `head`.
pub(super) async fn send_window<K: Kernel>(
    transfer: &mut Transfer<'_, K>,
    head: Vec<u8>,
    file: &K::File,
    window: Window,
    more: bool,
) -> Result<(), TransferError> {
    let end = window.offset + window.length;
    let mut offset = window.offset;
    let mut buffer = head;
    while offset < end {
        let length = CHUNK_BYTES.min(end - offset);
        let payload_start = transfer.take_text(buffer.len());
        buffer = read(transfer, file, buffer, offset, length).await?;
        offset += length;
        if window.is_last && offset == end {
            // These bytes can't change any more, so this look is the last that is needed.
            check(transfer, file).await?;
        } else {
            transfer.look(file, offset - length, offset);
        }
        let payload = payload_start..buffer.len();
        transfer.send_payload(&buffer, payload, more || offset < end).await?;
        buffer.clear();
    }
    Ok(())
}

/// Appends exactly `length` bytes of the file to `buffer`: what is in memory at once, the rest on a disk thread.
async fn read<K: Kernel>(
    transfer: &Transfer<'_, K>,
    file: &K::File,
    mut buffer: Vec<u8>,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, TransferError> {
    let begin = buffer.len();
    buffer.resize(begin + usize::try_from(length).unwrap_or(usize::MAX), 0);
    let filled = begin + read_at_once(file, &mut buffer[begin..], offset)?;
    if filled == buffer.len() {
        return Ok(buffer);
    }
    transfer.kernel.counters().windows_cold.add(1);
    let (reader, offset) = (file.reader(), offset + (filled - begin) as u64);
    let read = move || read_rest(&reader, buffer, filled, offset);
    transfer.on_disk_thread(file, read).await?
}

/// Reads what is in memory, up to where something isn't, and returns how much that is.
fn read_at_once(file: &impl Source, buffer: &mut [u8], offset: u64) -> Result<usize, TransferError> {
    let mut filled = 0;
    while filled < buffer.len() {
        let offset = offset + filled as u64;
        match file.read_at_once(&mut buffer[filled..], offset) {
            Ok(0) => return Err(TransferError::SourceShrank { offset }),
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            // Told by the read that may wait.
            Err(_) => break,
        }
    }
    Ok(filled)
}

/// Fills the buffer from `filled` on with the bytes from `offset` on.
fn read_rest(
    reader: &impl Reader,
    mut buffer: Vec<u8>,
    mut filled: usize,
    mut offset: u64,
) -> Result<Vec<u8>, TransferError> {
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..], offset) {
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
