//! Cold windows: found out one by one, and read on a disk thread.

use std::time::Duration;

use rustix::io::Errno;

use super::super::disk_waits::{Belief, Care};
use super::super::error::TransferError;
use super::super::platform;
use super::kernel::{Kernel, Reader, Source};
use super::transfer::Transfer;
use super::window::{Found, Window};
use crate::files::WINDOW_BYTES;
use crate::files::residency::Residency;
use crate::limits::Tick;

/// Bytes that a warming read copies at a time; they are thrown away, the page cache is what counts.
const WARM_READ_BYTES: usize = 128 << 10;

/// Ticks after which what was found out of a window is asked anew: a slow reader takes minutes for one, and by then it
/// may have been dropped.
const ANSWER_TICKS: u64 = 10;

/// For how long what a disk thread has read is believed to be in memory, where the file system can't tell: on a host
/// that has enough of it what is used stays longer. What is gone before is seen by the first call that waits.
const READ_BELIEVED_MS: u64 = 60_000;

/// Finds out where a window is.
pub(super) fn find<K: Kernel>(transfer: &Transfer<'_, K>, file: &K::File, offset: u64, length: u64) -> Found {
    let kernel = &transfer.kernel;
    let belief = kernel.belief(file);
    if belief != Belief::Places {
        kernel.counters().windows_disbelieved.add(1);
    }
    let found = match belief {
        Belief::Nothing => Found::Cold,
        Belief::Places => ask(transfer, file, offset, length, None),
        Belief::Whole { since } => ask(transfer, file, offset, length, Some(since)),
    };
    if found == Found::Cold {
        kernel.counters().windows_cold.add(1);
    }
    found
}

/// `whole_since`: since when only a read of all of it counts.
fn ask<K: Kernel>(
    transfer: &Transfer<'_, K>,
    file: &K::File,
    offset: u64,
    length: u64,
    whole_since: Option<Tick>,
) -> Found {
    let kernel = &transfer.kernel;
    let (number, now) = (offset / WINDOW_BYTES, kernel.now());
    if offset.is_multiple_of(WINDOW_BYTES) && file.is_known_hot(number, whole_since.unwrap_or_default(), now)
    {
        return Found::Hot(kernel.care(Care::Least));
    }
    let residency = match whole_since {
        Some(_) if file.tells_residency() => kernel.read_whole(file, offset, length),
        _ => kernel.probe(file, offset, length),
    };
    match residency {
        Residency::Unknown if file.lives_in_memory() => {}
        Residency::Hot => {}
        Residency::Unknown => {
            file.note_mute();
            let was_read = kernel.was_read(file, offset, length, whole_since.unwrap_or_default());
            return if was_read { Found::Hot(Care::Most) } else { Found::Cold };
        }
        Residency::Cold => return Found::Cold,
    }
    note_hot(transfer, file, offset, length, whole_since.unwrap_or_default());
    Found::Hot(kernel.care(Care::Usual))
}

/// Notes a window that was found in memory. Ranges may begin anywhere, and then their windows are no one else's.
fn note_hot<K: Kernel>(transfer: &Transfer<'_, K>, file: &K::File, offset: u64, length: u64, since: Tick) {
    let is_window = offset.is_multiple_of(WINDOW_BYTES)
        && (length == WINDOW_BYTES || Some(length) == file.size().checked_sub(offset));
    if is_window {
        let now = transfer.kernel.now();
        let end = now + transfer.kernel.cache_valid_ticks();
        file.note_hot(offset / WINDOW_BYTES, since, now, end);
    }
}

/// A disk thread has read a window. Where the file system can't tell what is in memory, that tells, for a while.
pub(super) fn was_read<K: Kernel>(transfer: &Transfer<'_, K>, file: &K::File, window: Window) {
    if file.tells_residency() || file.is_elsewhere() {
        return;
    }
    let since = match transfer.kernel.belief(file) {
        Belief::Nothing => return,
        Belief::Places => Tick::FIRST,
        Belief::Whole { since } => since,
    };
    transfer.kernel.note_window_read(file, window.offset, window.length, since, READ_BELIEVED_MS);
}

/// Whether what was found out of a hot window at tick `asked` still counts for the rest of it, between `offset` and
/// `end`; asked anew where it was long ago.
pub(super) fn is_still_hot<K: Kernel>(
    transfer: &Transfer<'_, K>,
    file: &K::File,
    asked: &mut Tick,
    offset: u64,
    end: u64,
) -> bool {
    let now = transfer.kernel.now();
    if transfer.kernel.belief(file) == Belief::Nothing {
        return false;
    }
    if now.since(*asked) < ANSWER_TICKS {
        return true;
    }
    *asked = now;
    find(transfer, file, offset, end - offset) != Found::Cold
}

/// Whether the bytes of one call aren't in memory any more, as far as one look at them tells: where there is reason for
/// the most care they may have been dropped since the window was found hot.
pub(super) fn was_dropped<K: Kernel>(
    transfer: &Transfer<'_, K>,
    file: &K::File,
    care: Care,
    offset: u64,
    length: u64,
) -> bool {
    if care != Care::Most || transfer.kernel.glance(file, offset, length) != Residency::Cold {
        return false;
    }
    file.forget_hot();
    transfer.kernel.counters().windows_cold.add(1);
    true
}

/// Reads a window, on a disk thread, so that it is in the page cache afterwards.
pub(super) async fn warm<K: Kernel>(
    transfer: &Transfer<'_, K>,
    file: &K::File,
    window: Window,
) -> Result<(), TransferError> {
    let reader = file.reader();
    transfer.note_wait();
    let read = move || timed(|| read_through(&reader, window));
    let (read, took) = transfer.on_disk_thread(file, read).await?;
    transfer.kernel.note_read(file, took);
    read?;
    was_read(transfer, file, window);
    Ok(())
}

/// Returns the result of `read`, and how long it took.
pub(super) fn timed<R>(read: impl FnOnce() -> R) -> (R, Duration) {
    let began = platform::now();
    (read(), platform::now().saturating_duration_since(began))
}

fn read_through(reader: &impl Reader, window: Window) -> Result<(), TransferError> {
    let mut buffer = vec![0; WARM_READ_BYTES];
    let end = window.offset + window.length;
    let mut offset = window.offset;
    while offset < end {
        match reader.read(&mut buffer, offset) {
            // The file got shorter; the engine finds out and says so.
            Ok(0) => return Ok(()),
            Ok(count) => offset += count as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(TransferError::SourceFailed { offset, errno }),
        }
    }
    Ok(())
}
