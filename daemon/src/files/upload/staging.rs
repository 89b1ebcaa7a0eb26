//! The directories that partials lie in: one below the root, and one beside the destination where that is on
//! another mount, since files can't be renamed from mount to mount.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, fsync, mkdirat, openat, statat,
    unlinkat,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::geteuid;

use super::super::unpublished::{Unpublished, give_name};
use super::error::UploadError;
use super::limits::{STAGING_DIRECTORIES_MAX, SWEPT_ENTRIES_MAX};
use super::sharing;
use crate::protocol::name::{RESERVED_SEGMENT, UploadId, path_of_text, text_of_path};

/// The longest wait for a partial that somebody else has locked, and the pause between two attempts. A sweep locks
/// a file for less than a millisecond, a writer for as long as it writes.
const LOCK_PATIENCE: Duration = Duration::from_millis(250);
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// An open staging directory. Clones share the descriptor.
#[derive(Clone, Debug)]
pub(super) struct StagingDirectory(Arc<OwnedFd>);

/// The root's staging directory, kept open. Each use looks at it by its name, which costs less than opening it: it
/// may have been removed, replaced, given away or made to share something.
#[derive(Debug, Default)]
pub(super) struct RootStaging(Mutex<Option<(StagingDirectory, Stat)>>);

impl RootStaging {
    /// Returns the staging directory in `root`, which is created where it is missing. Waits for the disk.
    pub(super) fn open_or_create(&self, root: impl AsFd) -> Result<StagingDirectory, UploadError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((staging, seen)) = kept
            && let Ok(found) = statat(&root, RESERVED_SEGMENT, AtFlags::SYMLINK_NOFOLLOW)
            && is_as_it_was(&found, &seen)
            && !sharing::shares_a_list(&staging)
        {
            return Ok(staging);
        }
        let staging = StagingDirectory::open_or_create(root)?;
        let seen = fstat(&staging).map_err(UploadError::at("looking at .streamd-uploads"))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((staging.clone(), seen));
        Ok(staging)
    }
}

/// Whether this is the same directory, with the properties that were checked when it was opened.
fn is_as_it_was(found: &Stat, seen: &Stat) -> bool {
    let facts = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_uid, stat.st_mode);
    facts(found) == facts(seen)
}

impl StagingDirectory {
    /// Opens the staging directory in `directory`; None where there is none. Waits for the disk.
    pub(super) fn open(directory: impl AsFd) -> Result<Option<StagingDirectory>, UploadError> {
        let failed = |step, reason| UploadError::Failed { step, reason };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let staging = match openat(directory, RESERVED_SEGMENT, flags, Mode::empty()) {
            Ok(staging) => staging,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => {
                return Err(failed("opening .streamd-uploads, which must be a directory", errno));
            }
            Err(errno) => return Err(UploadError::at("opening .streamd-uploads")(errno)),
        };
        let stat = fstat(&staging).map_err(UploadError::at("looking at .streamd-uploads"))?;
        // A foreign owner could exchange the files in it.
        if stat.st_uid != geteuid().as_raw() {
            return Err(failed("opening .streamd-uploads, which belongs to another user", Errno::PERM));
        }
        sharing::stop_sharing(&staging).map_err(UploadError::at("closing .streamd-uploads to others"))?;
        Ok(Some(StagingDirectory(Arc::new(staging))))
    }

    /// Opens the staging directory in `directory`, which is created where it is missing. Waits for the disk.
    pub(super) fn open_or_create(directory: impl AsFd) -> Result<StagingDirectory, UploadError> {
        if let Some(staging) = StagingDirectory::open(&directory)? {
            return Ok(staging);
        }
        let failed = UploadError::at("creating .streamd-uploads");
        match mkdirat(&directory, RESERVED_SEGMENT, Mode::RWXU) {
            Ok(()) => sync_directory(&directory).map_err(failed)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        // It is missing now only if it was removed at once again.
        StagingDirectory::open(directory)?.ok_or(UploadError::ParentMissing)
    }

    /// Creates the file of a partial, locked for this daemon. Nobody but the daemon's user looks into a staging
    /// directory, so it may have from the start the mode that most are published with. Waits for the disk.
    pub(super) fn create(&self, id: UploadId, is_paced: bool) -> Result<Unpublished, UploadError> {
        let failed = UploadError::at("creating the file of an upload");
        let file =
            Unpublished::create(self.as_fd(), &id.to_string(), sharing::MODE, is_paced).map_err(failed)?;
        self.claim(file, id)
    }

    /// Locks the file of a partial that has just been created. Waits for the disk.
    pub(super) fn claim(&self, file: Unpublished, id: UploadId) -> Result<Unpublished, UploadError> {
        // Nobody else has the lock but, for a moment, a sweep that has just found the file.
        if let Err(errno) = retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)) {
            self.remove(id)?;
            return Err(UploadError::at("creating the file of an upload")(errno));
        }
        Ok(file)
    }

    /// Locks as [`StagingDirectory::lock`] does, for a client that waits: a sweep of another daemon may have the
    /// file for a moment.
    pub(super) fn lock_patiently(&self, id: UploadId) -> Result<Option<File>, UploadError> {
        self.lock_within(id, LOCK_PATIENCE)
    }

    /// Opens the file of a partial and locks it; None where there is none, [`UploadError::Busy`] where another daemon
    /// has it. Waits for the disk.
    pub(super) fn lock(&self, id: UploadId) -> Result<Option<File>, UploadError> {
        self.lock_within(id, Duration::ZERO)
    }

    fn lock_within(&self, id: UploadId, patience: Duration) -> Result<Option<File>, UploadError> {
        let failed = UploadError::at("opening the file of an upload");
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = id.to_string();
        let file = match openat(self, &name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        match flock_within(&file, patience) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Err(UploadError::Busy),
            Err(errno) => return Err(failed(errno)),
        }
        // Whoever had the lock before may have published or removed the file.
        let opened = fstat(&file).map_err(failed)?;
        match rustix::fs::statat(self, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if (stat.st_dev, stat.st_ino) == (opened.st_dev, opened.st_ino) => {
                Ok(Some(File::from(file)))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Removes the file of a partial, if it is there. Waits for the disk.
    pub(super) fn remove(&self, id: UploadId) -> Result<(), UploadError> {
        match unlinkat(self, id.to_string(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(UploadError::at("removing the file of an upload")(errno)),
        }
    }

    /// Returns the files that are named as partials are, and whether there may be more. Other files there aren't
    /// the daemon's.
    pub(super) fn ids(&self) -> Result<(Vec<UploadId>, bool), UploadError> {
        let failed = UploadError::at("reading .streamd-uploads");
        let mut ids = Vec::new();
        for entry in Dir::read_from(self.as_fd()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown) {
                continue;
            }
            if ids.len() == SWEPT_ENTRIES_MAX {
                return Ok((ids, true));
            }
            ids.extend(entry.file_name().to_str().ok().and_then(UploadId::parse));
        }
        Ok((ids, false))
    }
}

/// Unlocks the file of a partial before it is closed. A process that was forked meanwhile has the open file too until
/// it executes another program, and a lock lasts as long as anybody has that (flock(2)).
pub(super) fn unlock(file: impl AsFd) {
    // Closing is the other half of it, where this fails.
    _ = flock(file, FlockOperation::Unlock);
}

/// Locks a file that somebody may have locked for a moment.
fn flock_within(file: &OwnedFd, patience: Duration) -> Result<(), Errno> {
    let started = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            // A wait in the kernel would have no bound.
            Err(Errno::AGAIN) if started.elapsed() < patience => std::thread::park_timeout(LOCK_PAUSE),
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Syncs a directory in which a partial must be found later. The root is held open by its path alone, which can't
/// be synced.
fn sync_directory(directory: impl AsFd) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fsync(openat(directory, ".", flags, Mode::empty())?)
}

impl AsFd for StagingDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The file in the root's staging directory that lists the directories with a staging directory of their own, one path
/// a line, as [`text_of_path`] writes it.
const LIST: &str = "homes";

/// The most bytes of the list: [`STAGING_DIRECTORIES_MAX`] paths of the longest kind.
const LIST_BYTES_MAX: u64 = STAGING_DIRECTORIES_MAX as u64 * 4096;

/// The directories that have a staging directory of their own, listed so that a daemon that starts anew finds the
/// partials in them.
#[derive(Debug, Default)]
pub(super) struct StagingDirectories(Mutex<BTreeSet<Box<[u8]>>>);

impl StagingDirectories {
    /// Reads the list. Waits for the disk.
    pub(super) fn load(root_staging: &StagingDirectory) -> StagingDirectories {
        StagingDirectories(Mutex::new(read_list(root_staging)))
    }

    /// Returns the directories' paths, relative to the root.
    pub(super) fn paths(&self) -> Vec<Box<[u8]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) fn contains(&self, path: &[u8]) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Adds a directory. One more than [`STAGING_DIRECTORIES_MAX`] gets a staging directory all the same; only a
    /// restart doesn't find it. Waits for the disk.
    pub(super) fn add(&self, root_staging: &StagingDirectory, path: &[u8]) {
        let mut paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paths.len() < STAGING_DIRECTORIES_MAX && paths.insert(path.into()) {
            // Another daemon on this root may have added directories since.
            paths.extend(read_list(root_staging).into_iter().take(STAGING_DIRECTORIES_MAX));
            write_list(root_staging, &paths);
        }
    }

    /// Drops directories from the list. Waits for the disk.
    pub(super) fn drop_paths(&self, root_staging: &StagingDirectory, gone: &[Box<[u8]>]) {
        let mut paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = paths.len();
        paths.retain(|path| !gone.contains(path));
        if paths.len() != before {
            paths.extend(read_list(root_staging).into_iter().filter(|path| !gone.contains(path)));
            write_list(root_staging, &paths);
        }
    }
}

fn read_list(root_staging: &StagingDirectory) -> BTreeSet<Box<[u8]>> {
    let mut text = String::new();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(file) = openat(root_staging, LIST, flags, Mode::empty()) {
        // Directories of a list that can't be read are found again when something is uploaded there.
        let _ = File::from(file).take(LIST_BYTES_MAX).read_to_string(&mut text);
    }
    let lines = text.lines().filter(|line| !line.is_empty()).take(STAGING_DIRECTORIES_MAX);
    lines.filter_map(|line| Some(path_of_text(line)?.into())).collect()
}

fn write_list(root_staging: &StagingDirectory, paths: &BTreeSet<Box<[u8]>>) {
    /// The list is written to this file first, under its lock.
    const TEMPORARY: &str = "homes.new";
    let text: String = paths.iter().flat_map(|path| [text_of_path(path), "\n".into()]).collect();
    let written = || {
        let _ = unlinkat(root_staging, TEMPORARY, AtFlags::empty());
        let mut file = Unpublished::create(root_staging.as_fd(), TEMPORARY, Mode::RUSR | Mode::WUSR, false)?;
        file.append(text.as_bytes())?;
        give_name((root_staging.as_fd(), TEMPORARY), (root_staging.as_fd(), LIST.as_bytes()), false)
    };
    if let Err(errno) = written() {
        tracing::warn!(%errno, "the list of upload directories could not be written: a restart may lose partials");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_client_outwaits_whoever_only_looks() {
        let directory = tempfile::tempdir().unwrap();
        let staging = StagingDirectory::open_or_create(File::open(directory.path()).unwrap()).unwrap();
        let id = UploadId(7);
        drop(staging.create(id, false).unwrap());
        let looking = staging.lock(id).unwrap().unwrap();
        assert!(matches!(staging.lock(id), Err(UploadError::Busy)));
        let is_about_to_wait = Barrier::new(2);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                is_about_to_wait.wait();
                staging.lock_patiently(id).unwrap().is_some()
            });
            is_about_to_wait.wait();
            drop(looking);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn daemons_on_one_root_keep_each_others_directories_in_the_list() {
        let directory = tempfile::tempdir().unwrap();
        let staging = StagingDirectory::open_or_create(File::open(directory.path()).unwrap()).unwrap();
        let [first, second] = [StagingDirectories::load(&staging), StagingDirectories::load(&staging)];
        first.add(&staging, b"a");
        second.add(&staging, b"b\n\xff");
        let listed = || {
            StagingDirectories::load(&staging).paths().iter().map(|path| path.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(listed(), [b"a".as_slice(), b"b\n\xff"]);
        first.add(&staging, b"c");
        second.drop_paths(&staging, &[b"b\n\xff".as_slice().into()]);
        assert_eq!(listed(), [b"a", b"c"]);
    }
}
