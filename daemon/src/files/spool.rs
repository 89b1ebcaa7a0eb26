//! Stored frames: each is written under a temporary name, made durable, and only then given its name.
//!
//! A frame takes room in the spool for the bytes that have come, in blocks of the file system, and one file; never
//! for what its header announces.

mod limits;
mod usage;

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstatvfs, fsync, openat, statat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::error::SpoolError;
use super::free_space::{FreeSpace, NoRoom, Room, Shortage};
use super::mounts::MountId;
use super::unpublished::{Unpublished, give_name};
use crate::limits::AddressGroup;
pub use limits::SpoolLimits;
use usage::{Count, Held, Ledger, Sender};

/// Names of frames that are still being written begin like this; no finished frame's does.
const TEMPORARY_PREFIX: &str = ".incoming-";

/// How long a count of the directory is good at least: a spool that is full for good must not be counted for each
/// frame.
const COUNT_VALID_MIN: Duration = Duration::from_secs(1);

/// How many times as long as it took a count is good for a frame that finds no room: counting takes a tenth of a
/// disk thread.
const COUNT_SHARE: u32 = 10;

/// How long a count is good for the metrics ([`Spool::refresh`]), at least and in multiples of the time it took:
/// consumed frames are gone from the metrics by the next scrape or the one after it, for a hundredth of a thread.
const REFRESH_VALID_MIN: Duration = Duration::from_secs(10);
const REFRESH_SHARE: u32 = 100;

/// The least and the largest block by which files are counted: an inode and an entry of the directory aren't free
/// either, and network file systems name as block what they like to transfer at once.
const BLOCK_BYTES_MIN: u64 = 4 << 10;
const BLOCK_BYTES_MAX: u64 = 64 << 10;

/// The unit of `st_blocks` (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;

/// The used part of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolUsage {
    /// Bytes of finished frames, in whole blocks.
    pub bytes: u64,
    /// Finished frames.
    pub files: u64,
    /// Bytes held by frames on their way in.
    pub incoming_bytes: u64,
    /// Frames on their way in.
    pub incoming_files: u64,
}

/// The spool directory and what it holds.
#[derive(Debug)]
pub struct Spool {
    directory: OwnedFd,
    mount: MountId,
    ledger: Arc<Ledger>,
    space: Arc<FreeSpace>,
    /// Held while the directory is counted.
    last_count: Mutex<LastCount>,
}

#[derive(Clone, Copy, Debug)]
struct LastCount {
    ended: Instant,
    took: Duration,
}

impl LastCount {
    /// Whether the count is older than `min`, and than `share` times what it took.
    fn is_over(&self, min: Duration, share: u32) -> bool {
        self.ended.elapsed() >= min.max(self.took.saturating_mul(share))
    }
}

impl Spool {
    /// Opens the directory for this daemon alone, counts its files and removes those that an earlier run left half
    /// written. Waits for the disk.
    pub fn open(path: &Path) -> Result<Arc<Spool>, SpoolError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty()).map_err(failed("opening it"))?;
        // Two daemons would each remove the other's half-written frames; the lock ends with the descriptor.
        flock(&directory, FlockOperation::NonBlockingLockExclusive)
            .map_err(failed("locking it, which another streamd may have done"))?;
        remove_unfinished(&directory).map_err(failed("removing half-written frames"))?;
        let block = fstatvfs(&directory).map_err(failed("asking for its file system"))?.f_frsize;
        let block = block.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        let started = Instant::now();
        let stored = count_stored(&directory, block, |_| false).map_err(failed("counting its frames"))?;
        Ok(Arc::new(Spool {
            mount: MountId::of(&directory),
            directory,
            ledger: Arc::new(Ledger::new(stored, block)),
            space: Arc::default(),
            last_count: Mutex::new(LastCount { ended: Instant::now(), took: started.elapsed() }),
        }))
    }

    /// Returns the mount of the spool directory.
    pub fn mount(&self) -> MountId {
        self.mount
    }

    /// Whether a frame of `size` bytes would find room, as far as is known without a look at the disk.
    pub fn has_room(&self, size: u64, from: Option<AddressGroup>, limits: &SpoolLimits) -> bool {
        self.ledger.check(Sender::of(from), size, limits).is_ok()
    }

    /// Checks whether a frame of `size` bytes finds room now, so that it is refused before it comes. Nothing is
    /// held for it. Waits for the disk.
    pub fn check(
        &self,
        size: u64,
        from: Option<AddressGroup>,
        limits: &SpoolLimits,
    ) -> Result<(), SpoolError> {
        let limit = getrlimit(Resource::Fsize).current;
        if limit.is_some_and(|limit| size > limit) {
            return Err(SpoolError::FileTooLong { bytes: size, limit });
        }
        let sender = Sender::of(from);
        self.counting_anew(|| self.ledger.check(sender, size, limits))?;
        let room = Room { bytes: self.ledger.cost(size), inodes: 1 };
        self.space.check(&self.directory, room, limits.reserve()).map_err(no_room)
    }

    /// Opens a temporary file for a frame of `size` bytes. Waits for the disk.
    pub fn create(
        self: &Arc<Spool>,
        size: u64,
        from: Option<AddressGroup>,
        limits: &SpoolLimits,
    ) -> Result<SpoolFile, SpoolError> {
        self.check(size, from, limits)?;
        let id = Sender::of(from).id(random()?);
        let held = self.counting_anew(|| Held::new(&self.ledger, id, limits))?;
        let room = Room { bytes: self.ledger.cost(0), inodes: 1 };
        let admitted = self.space.admit(&self.directory, room, limits.reserve()).map_err(no_room)?;
        let temporary = format!("{TEMPORARY_PREFIX}{id:032x}");
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        let file = Unpublished::create(self.directory.as_fd(), &temporary, mode, true)
            .map_err(failed("creating the file"))?;
        drop(admitted);
        Ok(SpoolFile {
            spool: Arc::clone(self),
            file,
            temporary,
            name: format!("{size}_{id:032x}"),
            held: Some(held),
            limits: *limits,
        })
    }

    /// Returns the used part of the spool, as far as is known without a look at the disk.
    pub fn usage(&self) -> SpoolUsage {
        let [(bytes, files), (incoming_bytes, incoming_files)] = self.ledger.totals();
        SpoolUsage { bytes, files, incoming_bytes, incoming_files }
    }

    /// Counts the directory where the last count is a while ago: consumers remove frames without telling. Waits
    /// for the disk.
    pub fn refresh(&self) -> Result<(), SpoolError> {
        let mut last = self.last_count.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_over(REFRESH_VALID_MIN, REFRESH_SHARE) { self.count(&mut last) } else { Ok(()) }
    }

    /// Calls `take`, and once more after a count of the directory where it was refused.
    fn counting_anew<R>(&self, take: impl Fn() -> Result<R, SpoolError>) -> Result<R, SpoolError> {
        let refused = match take() {
            Err(error) if error.is_of_limit() => error,
            result => return result,
        };
        // If somebody else is counting, this thread doesn't wait for the end, so that counting holds one disk
        // thread.
        let last = self.last_count.try_lock();
        match last {
            Ok(mut last) if last.is_over(COUNT_VALID_MIN, COUNT_SHARE) => self.count(&mut last)?,
            _ => return Err(refused),
        }
        take()
    }

    fn count(&self, last: &mut LastCount) -> Result<(), SpoolError> {
        let started = Instant::now();
        self.ledger.start_count();
        let found = count_stored(&self.directory, self.ledger.cost(0), |id| self.ledger.counts_itself(id));
        *last = LastCount { ended: Instant::now(), took: started.elapsed() };
        let (found, result) = match found {
            Ok(found) => (Some(found), Ok(())),
            Err(errno) => (None, Err(failed("counting the spool")(errno))),
        };
        self.ledger.end_count(found);
        result
    }
}

fn random() -> Result<u128, SpoolError> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| SpoolError::Failed {
        step: "choosing a name",
        reason: std::io::Error::other(error),
    })?;
    Ok(u128::from_ne_bytes(bytes))
}

fn failed(step: &'static str) -> impl Fn(Errno) -> SpoolError {
    move |errno| match Shortage::of(errno) {
        Some(shortage) => SpoolError::NoRoom(shortage),
        None => SpoolError::Failed { step, reason: errno.into() },
    }
}

fn no_room(reason: NoRoom) -> SpoolError {
    match reason {
        NoRoom::Short(shortage) => SpoolError::NoRoom(shortage),
        NoRoom::Unknown(errno) => failed("asking for free space")(errno),
    }
}

fn remove_unfinished(directory: &OwnedFd) -> Result<(), Errno> {
    for item in Dir::read_from(directory)? {
        let item = item?;
        if is_unfinished(item.file_name()) {
            unlinkat(directory, item.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Counts finished frames and whatever else lies in the directory, by blocks, at least one each. Names of which
/// `is_left_out` is true aren't looked at.
fn count_stored(
    directory: &OwnedFd,
    block_bytes: u64,
    is_left_out: impl Fn(u128) -> bool,
) -> Result<Count, Errno> {
    let mut count = Count::default();
    for item in Dir::read_from(directory)? {
        let item = item?;
        let id = id_of(item.file_name());
        if is_unfinished(item.file_name()) || id.is_some_and(&is_left_out) {
            continue;
        }
        match statat(directory, item.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(STAT_BLOCK_BYTES);
                count.add(Sender::of_id(id.unwrap_or(0)), bytes.max(block_bytes));
            }
            // A consumer has taken the file away meanwhile.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(count)
}

fn is_unfinished(name: &CStr) -> bool {
    name.to_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
}

/// Returns the id in a frame's name; None for any other name.
fn id_of(name: &CStr) -> Option<u128> {
    let (size, id) = name.to_str().ok()?.split_once('_')?;
    let is_frame = size.bytes().all(|byte| byte.is_ascii_digit()) && id.len() == 32;
    u128::from_str_radix(id, 16).ok().filter(|_| is_frame)
}

/// A frame on its way into the spool. Dropped before [`SpoolFile::publish`] it leaves nothing behind. Every call
/// waits for the disk.
#[derive(Debug)]
pub struct SpoolFile {
    spool: Arc<Spool>,
    file: Unpublished,
    temporary: String,
    name: String,
    /// The room that the frame holds, None once it has its name. It is dropped after the file, whose blocks are
    /// free then.
    held: Option<Held>,
    limits: SpoolLimits,
}

impl SpoolFile {
    /// Appends `bytes`, for which room is taken first.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let length = self.file.length().saturating_add(bytes.len() as u64);
        let more = match &mut self.held {
            Some(held) => held.grow(length, &self.limits)?,
            None => 0,
        };
        let (room, reserve) = (Room::of_bytes(more), self.limits.reserve());
        let admitted = self.spool.space.admit(&self.file, room, reserve).map_err(no_room)?;
        let written = self.file.append(bytes).map_err(|reason| match reason {
            Errno::FBIG => {
                SpoolError::FileTooLong { bytes: length, limit: getrlimit(Resource::Fsize).current }
            }
            reason => SpoolError::Failed { step: "writing", reason: reason.into() },
        });
        drop(admitted);
        written
    }

    /// Makes the frame durable, gives it its name, and returns that.
    pub fn publish(mut self) -> Result<String, SpoolError> {
        let spool = Arc::clone(&self.spool);
        let directory = spool.directory.as_fd();
        self.file.sync().map_err(failed("fsync"))?;
        if let Some(held) = &self.held {
            held.is_about_to_be_stored();
        }
        give_name((directory, &self.temporary), (directory, self.name.as_bytes()), true)
            .map_err(failed("renaming"))?;
        if let Some(held) = self.held.take() {
            held.store();
        }
        fsync(directory).map_err(failed("fsync of the spool"))?;
        Ok(self.name.clone())
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        // A published frame holds no room and has no temporary file.
        if self.held.is_none() {
            return;
        }
        if let Err(error) = unlinkat(&self.spool.directory, &self.temporary, AtFlags::empty()) {
            tracing::warn!(file = self.temporary, %error, "a half-written frame could not be removed");
        }
    }
}

#[cfg(test)]
mod tests;
