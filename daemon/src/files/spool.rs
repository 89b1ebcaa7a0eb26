//! Stored frames: written under a temporary name, made durable, and only then given their name.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fsync, openat, statat, unlinkat,
};
use rustix::io::Errno;

use super::error::SpoolError;
use super::unpublished::{Unpublished, give_name};

/// Names of frames that are still being written begin like this; no finished frame's does.
const TEMPORARY_PREFIX: &str = ".incoming-";

/// How long a count of the directory is good: a spool that is full for good must not be counted for each frame.
const RECOUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The spool directory and what it holds.
#[derive(Debug)]
pub struct Spool {
    directory: OwnedFd,
    usage: Mutex<Usage>,
}

/// Bytes in the spool.
#[derive(Debug)]
struct Usage {
    /// Of finished frames, when they were last counted and since then.
    stored: u64,
    /// Of frames on their way in.
    promised: u64,
    counted: Instant,
}

impl Spool {
    /// Opens the directory for this daemon alone, counts what it holds and removes what an earlier run left half
    /// written. Waits for the disk.
    pub fn open(path: &Path) -> Result<Arc<Spool>, SpoolError> {
        let failed = |step| move |reason: Errno| SpoolError::Failed { step, reason: reason.into() };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty()).map_err(failed("opening it"))?;
        // Two daemons would each remove the other's half-written frames; the lock ends with the descriptor.
        flock(&directory, FlockOperation::NonBlockingLockExclusive)
            .map_err(failed("locking it, which another streamd may have done"))?;
        remove_unfinished(&directory).map_err(failed("removing half-written frames"))?;
        let stored = count_stored(&directory).map_err(failed("counting its frames"))?;
        let usage = Mutex::new(Usage { stored, promised: 0, counted: Instant::now() });
        Ok(Arc::new(Spool { directory, usage }))
    }

    /// Promises room for a frame of `size` bytes and opens a temporary file for it. Waits for the disk.
    pub fn create(self: &Arc<Spool>, size: u64, spool_bytes_max: u64) -> Result<SpoolFile, SpoolError> {
        let promise = Promise::new(Arc::clone(self), size, spool_bytes_max)?;
        let mut id = [0_u8; 16];
        getrandom::fill(&mut id).map_err(|error| SpoolError::Failed {
            step: "choosing a name",
            reason: std::io::Error::other(error),
        })?;
        let id = format!("{:032x}", u128::from_ne_bytes(id));
        let temporary = format!("{TEMPORARY_PREFIX}{id}");
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        let file = Unpublished::create(self.directory.as_fd(), &temporary, mode, true)
            .map_err(|reason| SpoolError::Failed { step: "creating the file", reason: reason.into() })?;
        Ok(SpoolFile { file, temporary, name: format!("{size}_{id}"), promise, published: false })
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

/// The bytes of finished frames.
fn count_stored(directory: &OwnedFd) -> Result<u64, Errno> {
    let mut bytes = 0_u64;
    for item in Dir::read_from(directory)? {
        let item = item?;
        if is_unfinished(item.file_name()) {
            continue;
        }
        match statat(directory, item.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                bytes = bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
            }
            // Taken away by its consumer meanwhile.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(bytes)
}

fn is_unfinished(name: &CStr) -> bool {
    name.to_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
}

/// Room in the spool; given back when the frame is published, which counts it as stored, or dropped.
#[derive(Debug)]
struct Promise {
    spool: Arc<Spool>,
    bytes: u64,
    published: bool,
}

impl Promise {
    fn new(spool: Arc<Spool>, bytes: u64, limit: u64) -> Result<Promise, SpoolError> {
        let mut usage = spool.usage();
        if !usage.has_room(bytes, limit) && usage.counted.elapsed() >= RECOUNT_INTERVAL {
            // Whoever consumes the frames removes them without telling.
            usage.counted = Instant::now();
            usage.stored = count_stored(&spool.directory)
                .map_err(|reason| SpoolError::Failed { step: "counting the spool", reason: reason.into() })?;
        }
        if !usage.has_room(bytes, limit) {
            return Err(SpoolError::Full { bytes, used: usage.stored.saturating_add(usage.promised), limit });
        }
        usage.promised += bytes;
        drop(usage);
        Ok(Promise { spool, bytes, published: false })
    }
}

impl Usage {
    fn has_room(&self, bytes: u64, limit: u64) -> bool {
        let sum = self.stored.checked_add(self.promised).and_then(|used| used.checked_add(bytes));
        sum.is_some_and(|sum| sum <= limit)
    }
}

impl Spool {
    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut usage = self.spool.usage();
        usage.promised -= self.bytes;
        if self.published {
            usage.stored = usage.stored.saturating_add(self.bytes);
        }
    }
}

/// A frame on its way into the spool. Dropped before [`SpoolFile::publish`] it leaves nothing behind. Every
/// call waits for the disk.
#[derive(Debug)]
pub struct SpoolFile {
    file: Unpublished,
    temporary: String,
    name: String,
    promise: Promise,
    published: bool,
}

impl SpoolFile {
    /// Appends `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.file
            .append(bytes)
            .map_err(|reason| SpoolError::Failed { step: "writing", reason: reason.into() })
    }

    /// Makes the frame durable and gives it its name, which is returned.
    pub fn publish(mut self) -> Result<String, SpoolError> {
        let failed = |step| move |reason: Errno| SpoolError::Failed { step, reason: reason.into() };
        let directory = self.promise.spool.directory.as_fd();
        self.file.sync().map_err(failed("fsync"))?;
        give_name((directory, &self.temporary), (directory, &self.name), true).map_err(failed("renaming"))?;
        self.published = true;
        self.promise.published = true;
        fsync(directory).map_err(failed("fsync of the spool"))?;
        Ok(self.name.clone())
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        if let Err(error) = unlinkat(&self.promise.spool.directory, &self.temporary, AtFlags::empty()) {
            tracing::warn!(file = self.temporary, %error, "a half-written frame could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Spool, SpoolError};

    fn names(directory: &std::path::Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_published_frame_has_its_size_in_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        let mut file = spool.create(5, 100).unwrap();
        file.write(b"hello").unwrap();
        let name = file.publish().unwrap();
        assert!(name.starts_with("5_"));
        assert_eq!(name.len(), 2 + 32);
        assert_eq!(std::fs::read(directory.path().join(&name)).unwrap(), b"hello");
        assert_eq!(names(directory.path()), [name]);
    }

    #[test]
    fn a_dropped_frame_leaves_nothing_and_gives_its_room_back() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        drop(spool.create(100, 100).unwrap());
        assert!(names(directory.path()).is_empty());
        spool.create(100, 100).unwrap();
    }

    #[test]
    fn frames_that_were_consumed_make_room() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        let mut file = spool.create(80, 100).unwrap();
        file.write(&[0; 80]).unwrap();
        let name = file.publish().unwrap();
        assert!(matches!(spool.create(80, 100), Err(SpoolError::Full { .. })));
        std::fs::remove_file(directory.path().join(name)).unwrap();
        // As if the last count had been a while ago.
        spool.usage().counted = std::time::Instant::now().checked_sub(super::RECOUNT_INTERVAL).unwrap();
        spool.create(80, 100).unwrap();
    }

    #[test]
    fn a_second_daemon_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = Spool::open(directory.path()).unwrap();
        let error = Spool::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("another streamd"), "{error}");
        drop(first);
        Spool::open(directory.path()).unwrap();
    }

    #[test]
    fn the_limit_counts_what_is_stored_and_what_is_promised() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("40_old"), [0; 40]).unwrap();
        std::fs::write(directory.path().join(".incoming-left"), [0; 40]).unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        assert_eq!(names(directory.path()), ["40_old"]);
        let promised = spool.create(50, 100).unwrap();
        assert!(matches!(spool.create(11, 100), Err(SpoolError::Full { bytes: 11, used: 90, limit: 100 })));
        drop(promised);
        spool.create(60, 100).unwrap();
    }
}
