//! Disk room for an upload, allocated one window ahead of the bytes that come: an announced length holds nothing.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

use super::super::free_space::{Admitted, FreeSpace, Room, Shortage};
use super::super::unpublished::Unpublished;
use super::error::UploadError;
use super::limits::{AHEAD_BYTES_MAX, AHEAD_BYTES_MIN, AHEAD_FACTOR};

/// The allocated room of one partial that has a writer.
#[derive(Debug)]
pub(super) struct Ahead {
    space: Arc<FreeSpace>,
    /// The end of the allocated blocks; less than the file's length where they follow the writes.
    until: u64,
    /// Whether windows are allocated: not every file system can, and one that is nearly full won't.
    is_possible: bool,
    /// Whether allocated blocks may lie beyond the file's length.
    is_left: bool,
    held: HeldAhead,
}

/// The bytes allocated ahead of what has come, over all partials.
#[derive(Debug, Default)]
pub(super) struct BytesAhead(AtomicU64);

impl BytesAhead {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bytes allocated ahead for one partial, given back when this is dropped.
#[derive(Debug)]
struct HeldAhead {
    all: Arc<BytesAhead>,
    bytes: u64,
}

impl HeldAhead {
    fn set(&mut self, bytes: u64) {
        self.all.0.fetch_add(bytes, Ordering::Relaxed);
        self.all.0.fetch_sub(std::mem::replace(&mut self.bytes, bytes), Ordering::Relaxed);
    }
}

impl Drop for HeldAhead {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Ahead {
    pub(super) fn new(space: Arc<FreeSpace>, all: &Arc<BytesAhead>) -> Ahead {
        let held = HeldAhead { all: Arc::clone(all), bytes: 0 };
        Ahead { space, until: 0, is_possible: true, is_left: false, held }
    }

    /// Checks whether all of an upload of `length` bytes finds room now, besides `reserve`, so that its sender is
    /// told before it sends it. Nothing is held but a first window, which reveals a used-up quota. Waits for the
    /// disk.
    pub(super) fn begin(
        &mut self,
        file: &mut Unpublished,
        length: Option<u64>,
        reserve: Room,
    ) -> Result<(), UploadError> {
        let begun = file.length();
        let rest = length.map_or(0, |length| length.saturating_sub(begun.max(self.until)));
        self.space.check(&*file, Room::of_bytes(rest), reserve)?;
        if rest < AHEAD_BYTES_MIN || self.until > begun {
            return Ok(());
        }
        self.allocate(file, begun + AHEAD_BYTES_MIN, reserve)
    }

    /// Makes room for the file to become `end` of its `length` bytes long, and mostly for a window more. The
    /// returned room is held until the bytes are written. Waits for the disk.
    pub(super) fn make_room(
        &mut self,
        file: &mut Unpublished,
        end: u64,
        length: Option<u64>,
        reserve: Room,
    ) -> Result<Option<Admitted>, UploadError> {
        if end <= self.until {
            return Ok(None);
        }
        if self.is_possible
            && let Some(window) = self.window(file.length(), end, length)
        {
            match self.allocate(file, window, reserve) {
                Ok(()) => return Ok(None),
                // There isn't room for a window; the bytes that have come may find room by themselves.
                Err(UploadError::NoSpace(Shortage::ReservedBytes | Shortage::Disk | Shortage::Quota)) => {}
                Err(error) => return Err(error),
            }
            if end <= self.until {
                return Ok(None);
            }
        }
        let missing = end - self.until.max(file.length());
        Ok(Some(self.space.admit(&*file, Room::of_bytes(missing), reserve)?))
    }

    /// Returns the end of the window to allocate; None where the rest is short, or nobody knows how long it is.
    fn window(&self, begun: u64, end: u64, length: Option<u64>) -> Option<u64> {
        let length = length?;
        let is_long = length.saturating_sub(begun.max(self.until)) >= AHEAD_BYTES_MIN;
        let ahead = begun.saturating_mul(AHEAD_FACTOR).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
        let window = begun.saturating_add(ahead).max(end).checked_next_multiple_of(AHEAD_BYTES_MIN)?;
        let is_last = length.saturating_sub(window) < AHEAD_BYTES_MIN;
        is_long.then_some(if is_last { length } else { window })
    }

    fn allocate(&mut self, file: &mut Unpublished, until: u64, reserve: Room) -> Result<(), UploadError> {
        let start = file.length().max(self.until);
        let bytes = until.saturating_sub(start);
        if bytes == 0 {
            return Ok(());
        }
        // Once an allocation was refused, bytes are written as they come.
        self.is_possible = false;
        let _admitted = self.space.admit(&*file, Room::of_bytes(bytes), reserve)?;
        self.is_left = true;
        match retry_on_intr(|| fallocate(file.as_fd(), FallocateFlags::KEEP_SIZE, start, bytes)) {
            Ok(()) => {
                self.until = until;
                self.is_possible = true;
                Ok(())
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(errno) => {
                // Part of the window may be allocated all the same (fallocate(2)).
                self.give_back(file)?;
                Err(UploadError::at("allocating the blocks of an upload")(errno))
            }
        }
    }

    /// Notes the length that the file has now.
    pub(super) fn note(&mut self, length: u64) {
        self.held.set(self.until.saturating_sub(length));
    }

    /// Gives back the blocks beyond the file's length.
    pub(super) fn give_back(&mut self, file: &mut Unpublished) -> Result<(), UploadError> {
        if self.is_left {
            let length = file.length();
            file.truncate(length).map_err(UploadError::at("giving blocks back"))?;
            self.is_left = false;
        }
        self.until = 0;
        self.note(0);
        Ok(())
    }
}
