//! What isn't in memory: found out per window, and read on a disk thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{Errno, pread};

use super::super::error::TransferError;
use super::{Transfer, WINDOW_BYTES, Window};
use crate::files::SourceFile;
use crate::files::residency::{Residency, probe};

/// Bytes that a warming read copies at a time; they are thrown away, the page cache is what counts.
const WARM_READ_BYTES: usize = 128 << 10;

/// Where a window is; never [`Residency::Unknown`].
pub(super) fn residency(transfer: &Transfer<'_>, file: &SourceFile, offset: u64, length: u64) -> Residency {
    let worker = transfer.worker;
    let (number, now) = (offset / WINDOW_BYTES, worker.clock.ticks());
    // Ranges may begin anywhere, and then their windows are no one else's.
    let is_aligned = offset.is_multiple_of(WINDOW_BYTES);
    if is_aligned && file.is_known_hot(number, now) {
        return Residency::Hot;
    }
    let residency = match probe(file, offset, length) {
        Residency::Unknown if file.lives_in_memory() => Residency::Hot,
        Residency::Unknown => Residency::Cold,
        known => known,
    };
    if residency == Residency::Hot && is_aligned && (length == WINDOW_BYTES || length == file.size() - offset)
    {
        let valid_ms = worker.live().settings.cache_valid_ms;
        file.note_hot(number, now, now + worker.clock.ticks_within(valid_ms));
    }
    if residency == Residency::Cold {
        worker.counters.windows_cold.add(1);
    }
    residency
}

/// Reads a window, on a disk thread, so that it is in the page cache afterwards.
pub(super) async fn warm(
    transfer: &Transfer<'_>,
    file: &SourceFile,
    window: Window,
) -> Result<(), TransferError> {
    let descriptor = file.descriptor();
    let result = transfer.worker.disk.run(move || read_through(&descriptor, window)).await;
    result.map_err(|_| TransferError::Busy)?
}

fn read_through(file: &Arc<OwnedFd>, window: Window) -> Result<(), TransferError> {
    let mut buffer = vec![0; WARM_READ_BYTES];
    let end = window.offset + window.length;
    let mut offset = window.offset;
    while offset < end {
        match pread(file, &mut buffer[..], offset) {
            // The file got shorter; the engine finds out and says so.
            Ok(0) => return Ok(()),
            Ok(count) => offset += count as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(TransferError::SourceFailed { offset, errno }),
        }
    }
    Ok(())
}
