//! Locks of destinations: one publication or deletion at a time changes what a name means, from the look at it to
//! its new state, among the threads of this daemon and among the daemons on one root.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::error::UploadError;
use super::staging::StagingDirectory;
use crate::sys;

/// The number of locks that destinations share: enough that two uploads that end at once seldom wait for each
/// other.
const LOCKS: usize = 64;

/// The file in the root's staging directory with one byte for each lock. It stays empty: bytes beyond its end can
/// be locked too.
const FILE: &str = "locks";

/// The longest wait for another process. That one holds a lock for a look and a rename, so by then it is stopped,
/// or its disk hangs.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The first and the longest pause between two attempts: another process holds a lock for tens of microseconds.
const PAUSE_MIN: Duration = Duration::from_micros(100);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Attempts to lock a file that still has its name: whoever removes it again and again is no daemon, and a file
/// system may not count names.
const ATTEMPTS_MAX: usize = 3;

/// The locks of one root.
#[derive(Debug)]
pub(super) struct Locks([Mutex<()>; LOCKS]);

/// A lock that is held, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Locked<'l> {
    /// It isn't kept open for the next: a file that is open for writing would keep its file system from being remounted
    /// read-only.
    file: File,
    byte: u64,
    /// Given back when the file is unlocked.
    _thread: MutexGuard<'l, ()>,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Closing is the other half of it, where this fails.
        _ = sys::unlock_byte(&self.file, self.byte);
    }
}

impl Default for Locks {
    fn default() -> Locks {
        Locks(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Locks {
    /// Creates the file, so that a disk that is full later keeps nobody from removing files.
    pub(super) fn prepare(staging: &StagingDirectory) {
        if let Err(error) = open(staging) {
            tracing::debug!(%error, "the lock of uploads could not be made");
        }
    }

    /// Waits for the lock of the destinations with this hash; `staging` opens the root's staging directory. Where
    /// the file system gives no locks nothing is changed: of two that compare and replace at once both would win.
    pub(super) fn wait(
        &self,
        hash: u64,
        staging: impl Fn() -> Result<StagingDirectory, UploadError>,
    ) -> Result<Locked<'_>, UploadError> {
        let byte = hash % LOCKS as u64;
        let thread = self.of(byte).lock().unwrap_or_else(PoisonError::into_inner);
        let mut attempts = 1;
        let file = loop {
            let file = open(&staging()?)?;
            lock(&file, byte)?;
            // A file that was removed protects nothing: others lock the new one.
            if attempts == ATTEMPTS_MAX || has_name(&file) {
                break file;
            }
            attempts += 1;
        };
        Ok(Locked { file, byte, _thread: thread })
    }

    /// Takes the lock where nobody has it and nothing is in the way; else None.
    pub(super) fn try_now(&self, hash: u64, staging: &StagingDirectory) -> Option<Locked<'_>> {
        let byte = hash % LOCKS as u64;
        let thread = match self.of(byte).try_lock() {
            Ok(thread) => thread,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let file = open(staging).ok()?;
        let is_locked = sys::try_lock_byte(&file, byte).is_ok_and(|is_locked| is_locked);
        (is_locked && has_name(&file)).then(|| Locked { file, byte, _thread: thread })
    }

    fn of(&self, byte: u64) -> &Mutex<()> {
        &self.0[usize::try_from(byte).unwrap_or(0)]
    }
}

fn has_name(file: &File) -> bool {
    fstat(file).is_ok_and(|stat| stat.st_nlink > 0)
}

fn open(staging: &StagingDirectory) -> Result<File, UploadError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(staging, FILE, flags, Mode::RUSR | Mode::WUSR);
    file.map(File::from).map_err(UploadError::at("opening the lock of uploads"))
}

fn lock(file: &File, byte: u64) -> Result<(), UploadError> {
    let started = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        match sys::try_lock_byte(file, byte) {
            Ok(true) => return Ok(()),
            Ok(false) if started.elapsed() >= WAIT_MAX => return Err(UploadError::Unlocked(None)),
            // This runs on a disk thread. A wait in the kernel would have no bound.
            Ok(false) => std::thread::park_timeout(pause),
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                return Err(UploadError::Unlocked(Some(errno)));
            }
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_holds_it_also_when_the_file_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let root = File::open(directory.path()).unwrap();
        let daemons = [Locks::default(), Locks::default()];
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (locks, root, inside) = (&daemons[number % 2], &root, &inside);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let locked = locks.wait(64 + 5, || StagingDirectory::open_or_create(root)).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        drop(locked);
                    }
                });
            }
        });
        let path = directory.path().join(".streamd-uploads").join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        std::fs::remove_file(&path).unwrap();
        let staging = || StagingDirectory::open_or_create(&root);
        let first = daemons[0].wait(1, staging).unwrap();
        assert!(path.exists());
        let other = daemons[1].wait(2, staging).unwrap();
        let same = File::options().write(true).open(&path).unwrap();
        assert!(!sys::try_lock_byte(&same, 1).unwrap() && !sys::try_lock_byte(&same, 2).unwrap());
        drop((first, other));
        assert!(sys::try_lock_byte(&same, 1).unwrap() && sys::try_lock_byte(&same, 2).unwrap());
    }

    #[test]
    fn a_process_that_keeps_it_is_not_waited_for_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let root = File::open(directory.path()).unwrap();
        let staging = || StagingDirectory::open_or_create(&root);
        let [first, second] = [Locks::default(), Locks::default()];
        let locked = first.wait(0, staging).unwrap();
        assert_eq!(second.wait(0, staging).unwrap_err(), UploadError::Unlocked(None));
        drop(locked);
        second.wait(0, staging).unwrap();
    }
}
