//! An open regular file that transfers read from.

use std::cell::RefCell;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{Stat, fstat};
use rustix::io::{ReadWriteFlags, preadv2};

use super::digest::{self, Digests};
use super::stamp::Stamp;

/// What kind of file system a file lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A disk of this host; the page cache tells what is hot.
    LocalDisk,
    /// Memory: always hot.
    Memory,
    /// FUSE, a network, or unknown: every call may ask a server.
    Elsewhere,
}

/// Smallest unlinked file whose last close is handed over: freeing fewer blocks than this takes no longer than
/// the hand-over.
const UNLINKED_BYTES_MIN: u64 = 1 << 20;

/// Bits of a word.
const WORD_BITS: u64 = u64::BITS as u64;

/// Windows that are noted of a file: 8 KiB of bits, for 64 GiB in windows of 1 MiB.
const HOT_WINDOWS_MAX: u64 = 64 << 10;

/// A file opened for reading, with its metadata as of then. Cloning shares the descriptor; every read names its
/// own offset, so clones don't disturb each other.
#[derive(Clone, Debug)]
pub struct SourceFile {
    descriptor: Arc<OwnedFd>,
    stamp: Stamp,
    recorded: Digests,
    place: Place,
    hot: RefCell<HotWindows>,
}

/// Which windows of a file were found in memory a moment ago: what is asked for again and again needn't be probed
/// again and again.
#[derive(Clone, Debug, Default)]
struct HotWindows {
    /// The first tick at which none of it counts any more.
    end: u64,
    /// A bit for each window.
    found: Vec<u64>,
}

impl SourceFile {
    /// From a descriptor, its fstat(2) and where it lies.
    pub(super) fn new(descriptor: OwnedFd, stat: &Stat, place: Place) -> SourceFile {
        SourceFile {
            descriptor: Arc::new(descriptor),
            stamp: Stamp::of(stat),
            recorded: Digests::default(),
            place,
            hot: RefCell::default(),
        }
    }

    /// The same with the digests that are recorded of it. Waits for the disk, where it lies on one.
    pub(super) fn with_recorded(mut self) -> SourceFile {
        self.recorded = digest::recorded(self.as_fd(), self.stamp);
        self
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The digests that were recorded of it when it was opened; none from a root that doesn't read them.
    pub fn recorded(&self) -> &Digests {
        &self.recorded
    }

    /// Its length in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.stamp.size
    }

    /// Whether it lies in memory, so that no part of it is ever cold.
    pub fn lives_in_memory(&self) -> bool {
        self.place == Place::Memory
    }

    /// Whether the window of this number was found in memory, and that still counts at tick `now`.
    pub fn is_known_hot(&self, window: u64, now: u64) -> bool {
        let hot = self.hot.borrow();
        let word = usize::try_from(window / WORD_BITS).ok().and_then(|index| hot.found.get(index));
        now < hot.end && word.is_some_and(|word| word & (1 << (window % WORD_BITS)) != 0)
    }

    /// The window of this number was found in memory at tick `now`; what is noted counts until tick `end`, counted
    /// from the first note.
    pub fn note_hot(&self, window: u64, now: u64, end: u64) {
        if window >= HOT_WINDOWS_MAX {
            return;
        }
        let mut hot = self.hot.borrow_mut();
        if now >= hot.end {
            hot.end = end;
            hot.found.clear();
        }
        let index = usize::try_from(window / WORD_BITS).unwrap_or_default();
        if hot.found.len() <= index {
            hot.found.resize(index + 1, 0);
        }
        hot.found[index] |= 1 << (window % WORD_BITS);
    }

    /// Whether the open file is still as it was and has a name: false after a write, a truncation, a removal or a
    /// replacement by rename. A file system that isn't local is believed: the question may ask a server.
    pub fn is_unchanged(&self) -> bool {
        if self.place == Place::Elsewhere {
            return true;
        }
        fstat(self).is_ok_and(|stat| stat.st_nlink > 0 && Stamp::of(&stat) == self.stamp)
    }

    /// Its whole content, if that is at most `bytes_max` and in memory.
    pub fn read_hot(&self, bytes_max: u64) -> Option<Box<[u8]>> {
        if self.stamp.size > bytes_max || self.place == Place::Elsewhere {
            return None;
        }
        // NOWAIT isn't supported by tmpfs (before Linux 6.6), where nothing waits anyway.
        let flags = match self.place {
            Place::Memory => ReadWriteFlags::empty(),
            _ => ReadWriteFlags::NOWAIT,
        };
        let mut content = vec![0; usize::try_from(self.stamp.size).ok()?];
        let read = preadv2(self, &mut [IoSliceMut::new(&mut content)], 0, flags);
        (read == Ok(content.len())).then(|| content.into_boxed_slice())
    }

    /// Whether nobody else holds the descriptor.
    pub fn is_last(&self) -> bool {
        Arc::strong_count(&self.descriptor) == 1
    }

    /// Whether closing it may take long: the last close of a file that was unlinked frees its blocks, and a file
    /// system that isn't local asks a server.
    pub fn close_may_wait(&self) -> bool {
        match self.place {
            Place::Elsewhere => true,
            Place::LocalDisk | Place::Memory => {
                self.stamp.size >= UNLINKED_BYTES_MIN
                    && fstat(&self.descriptor).is_ok_and(|stat| stat.st_nlink == 0)
            }
        }
    }

    /// When it was last written, to the second, as HTTP dates are.
    pub fn modified(&self) -> SystemTime {
        self.stamp.modified()
    }

    /// A strong entity tag (RFC 9110 8.8.3), with its quotes: of the content where its digest is recorded, else it
    /// changes with size and modification time.
    pub fn etag(&self) -> String {
        self.stamp.etag(&self.recorded)
    }

    /// The descriptor, to be shared with a thread that reads for this transfer.
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.descriptor)
    }
}

impl AsFd for SourceFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::fstat;

    use super::{HOT_WINDOWS_MAX, Place, SourceFile};

    fn file() -> SourceFile {
        let file = tempfile::tempfile().unwrap();
        let stat = fstat(&file).unwrap();
        SourceFile::new(file.into(), &stat, Place::LocalDisk)
    }

    #[test]
    fn a_window_is_known_hot_from_its_note_to_the_end_of_the_first() {
        let file = file();
        assert!(!file.is_known_hot(0, 0));
        file.note_hot(0, 5, 15);
        file.note_hot(1000, 14, 24);
        assert!(file.is_known_hot(0, 14) && file.is_known_hot(1000, 14));
        assert!(!file.is_known_hot(1, 14) && !file.is_known_hot(999, 14));
        assert!(!file.is_known_hot(0, 15) && !file.is_known_hot(1000, 15));
        file.note_hot(1, 15, 25);
        assert!(file.is_known_hot(1, 24) && !file.is_known_hot(0, 24));
    }

    #[test]
    fn notes_are_bounded_and_may_not_count_at_all() {
        let file = file();
        file.note_hot(HOT_WINDOWS_MAX, 0, 10);
        assert!(!file.is_known_hot(HOT_WINDOWS_MAX, 0));
        // `cache_valid_ms = 0`: the end is now.
        file.note_hot(3, 7, 7);
        assert!(!file.is_known_hot(3, 7));
    }
}
