//! An open regular file that transfers read from.

use std::cell::Cell;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{Stat, fstat};
use rustix::io::{ReadWriteFlags, preadv2};

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

/// A file opened for reading, with its metadata as of then. Cloning shares the descriptor; every read names its
/// own offset, so clones don't disturb each other.
#[derive(Clone, Debug)]
pub struct SourceFile {
    descriptor: Arc<OwnedFd>,
    size: u64,
    place: Place,
    modified_s: u64,
    modified_ns: u32,
    is_known_hot: Cell<bool>,
}

impl SourceFile {
    /// From a descriptor, its fstat(2) and where it lies.
    pub(super) fn new(descriptor: OwnedFd, stat: &Stat, place: Place) -> SourceFile {
        SourceFile {
            descriptor: Arc::new(descriptor),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            place,
            // Times before 1970 count as 1970: HTTP dates can't tell them.
            modified_s: u64::try_from(stat.st_mtime).unwrap_or(0),
            modified_ns: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            is_known_hot: Cell::new(false),
        }
    }

    /// Its length in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it lies in memory, so that no part of it is ever cold.
    pub fn lives_in_memory(&self) -> bool {
        self.place == Place::Memory
    }

    /// Whether all of it was found in memory since it was opened.
    pub fn is_known_hot(&self) -> bool {
        self.is_known_hot.get()
    }

    /// All of it was found in memory. Files are opened anew every second or so; until then that is believed.
    pub fn note_hot(&self) {
        self.is_known_hot.set(true);
    }

    /// Whether the open file is still as it was and has a name: false after a write, a truncation, a removal or a
    /// replacement by rename. A file system that isn't local is believed: the question may ask a server.
    pub fn is_unchanged(&self) -> bool {
        if self.place == Place::Elsewhere {
            return true;
        }
        fstat(self).is_ok_and(|stat| {
            stat.st_nlink > 0
                && u64::try_from(stat.st_size) == Ok(self.size)
                && u64::try_from(stat.st_mtime).unwrap_or(0) == self.modified_s
                && u32::try_from(stat.st_mtime_nsec).unwrap_or(0) == self.modified_ns
        })
    }

    /// Its whole content, if that is at most `bytes_max` and in memory.
    pub fn read_hot(&self, bytes_max: u64) -> Option<Box<[u8]>> {
        if self.size > bytes_max || self.place == Place::Elsewhere {
            return None;
        }
        // NOWAIT isn't supported by tmpfs (before Linux 6.6), where nothing waits anyway.
        let flags = match self.place {
            Place::Memory => ReadWriteFlags::empty(),
            _ => ReadWriteFlags::NOWAIT,
        };
        let mut content = vec![0; usize::try_from(self.size).ok()?];
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
                self.size >= UNLINKED_BYTES_MIN
                    && fstat(&self.descriptor).is_ok_and(|stat| stat.st_nlink == 0)
            }
        }
    }

    /// When it was last written, to the second, as HTTP dates are.
    pub fn modified(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.modified_s)
    }

    /// A strong entity tag (RFC 9110 8.8.3), with its quotes: changes with size and modification time.
    pub fn etag(&self) -> String {
        format!("\"{:x}-{:x}.{:x}\"", self.size, self.modified_s, self.modified_ns)
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
