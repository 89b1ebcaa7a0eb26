//! The windows that disk threads have read a moment ago of files whose file system can't tell what of them is in
//! memory.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::files::{FileId, HotWindows, WINDOW_BYTES};
use crate::limits::Tick;

/// Files that are remembered, by each worker; of more, what is read isn't.
const FILES_MAX: usize = 1024;

/// Windows that are remembered of one file: 512 bytes of bits, for the first 4 GiB.
const WINDOWS_MAX: u64 = (4 << 30) / WINDOW_BYTES;

/// The windows of one worker.
#[derive(Debug, Default)]
pub(in crate::dataplane) struct ReadWindows(RefCell<HashMap<FileId, Read>>);

#[derive(Debug, Default)]
struct Read {
    windows: HotWindows,
    /// The first tick at which none of it counts any more, or a later one.
    end: Tick,
}

impl ReadWindows {
    /// Whether all windows that a range touches were read at tick `since` or later, and that still counts at `now`.
    pub(in crate::dataplane) fn covers(
        &self,
        id: FileId,
        offset: u64,
        length: u64,
        since: Tick,
        now: Tick,
    ) -> bool {
        let files = self.0.borrow();
        let Some(read) = files.get(&id).filter(|_| length > 0) else { return false };
        let (first, last) = (offset / WINDOW_BYTES, (offset + length - 1) / WINDOW_BYTES);
        (first..=last).all(|window| read.windows.has(window, since, now))
    }

    /// A window was read, or its beginning where the file ends; that counts until tick `end`, for the first of a file
    /// and all that follow until then.
    pub(in crate::dataplane) fn note(
        &self,
        id: FileId,
        offset: u64,
        length: u64,
        since: Tick,
        now: Tick,
        end: Tick,
    ) {
        let window = offset / WINDOW_BYTES;
        if !offset.is_multiple_of(WINDOW_BYTES) || length > WINDOW_BYTES || window >= WINDOWS_MAX {
            return;
        }
        let files = &mut *self.0.borrow_mut();
        if files.len() >= FILES_MAX && !files.contains_key(&id) {
            files.retain(|_, read| now < read.end);
            if files.len() >= FILES_MAX {
                return;
            }
        }
        let read = files.entry(id).or_default();
        read.windows.note(window, since, now, end);
        read.end = end;
    }

    /// Forgets the windows that were read of a file: they may not be in memory any more.
    pub(in crate::dataplane) fn forget(&self, id: FileId) {
        self.0.borrow_mut().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::{FILES_MAX, FileId, ReadWindows, Tick, WINDOW_BYTES, WINDOWS_MAX};

    fn file(inode: u64) -> FileId {
        FileId { device: 1, inode }
    }

    fn covers(read: &ReadWindows, id: FileId, offset: u64, length: u64, since: u64, now: u64) -> bool {
        read.covers(id, offset, length, Tick::number(since), Tick::number(now))
    }

    fn note(read: &ReadWindows, id: FileId, offset: u64, length: u64, since: u64, now: u64, end: u64) {
        read.note(id, offset, length, Tick::number(since), Tick::number(now), Tick::number(end));
    }

    #[test]
    fn a_range_is_covered_by_all_windows_that_it_touches() {
        let read = ReadWindows::default();
        note(&read, file(1), WINDOW_BYTES, WINDOW_BYTES, 0, 5, 605);
        assert!(covers(&read, file(1), WINDOW_BYTES, WINDOW_BYTES, 0, 604));
        assert!(covers(&read, file(1), WINDOW_BYTES + 7, 10, 5, 604));
        assert!(!covers(&read, file(1), WINDOW_BYTES, WINDOW_BYTES + 1, 0, 5));
        assert!(!covers(&read, file(1), WINDOW_BYTES - 1, 2, 0, 5));
        assert!(!covers(&read, file(1), WINDOW_BYTES, 1, 6, 7), "a doubt came later");
        assert!(!covers(&read, file(1), WINDOW_BYTES, 1, 0, 605), "it is too long ago");
        assert!(
            !covers(&read, file(2), WINDOW_BYTES, 1, 0, 5) && !covers(&read, file(1), WINDOW_BYTES, 0, 0, 5)
        );
        note(&read, file(1), 2 * WINDOW_BYTES, 10, 0, 6, 606);
        assert!(covers(&read, file(1), WINDOW_BYTES, WINDOW_BYTES + 10, 0, 604));
        read.forget(file(1));
        assert!(!covers(&read, file(1), WINDOW_BYTES, 1, 0, 5));
    }

    #[test]
    fn so_much_is_remembered_and_what_is_too_old_makes_room() {
        let read = ReadWindows::default();
        note(&read, file(0), WINDOWS_MAX * WINDOW_BYTES, 1, 0, 0, 10);
        note(&read, file(0), 1, 1, 0, 0, 10);
        assert!(read.0.borrow().is_empty());
        for number in 0..FILES_MAX as u64 {
            note(&read, file(number), 0, 1, 0, 0, 10);
        }
        note(&read, file(9999), 0, 1, 0, 9, 19);
        assert!(!covers(&read, file(9999), 0, 1, 0, 9));
        note(&read, file(9999), 0, 1, 0, 10, 20);
        assert!(covers(&read, file(9999), 0, 1, 0, 10));
        assert_eq!(read.0.borrow().len(), 1);
    }
}
