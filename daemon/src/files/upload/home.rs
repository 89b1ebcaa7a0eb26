//! The directories that partials lie in: one below the root, and one beside the destination where that is on another
//! mount, since nothing is renamed from mount to mount.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, fchmod, flock, fstat, fsync, mkdirat, openat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::geteuid;

use super::super::unpublished::{Unpublished, give_name};
use super::error::UploadError;
use super::limits::HOMES_MAX;
use crate::protocol::name::{RESERVED_SEGMENT, UploadId};

/// A home, open.
#[derive(Debug)]
pub(super) struct Home(OwnedFd);

impl Home {
    /// Opens the home in `directory`; None where there is none. Waits for the disk.
    pub(super) fn open(directory: impl AsFd) -> Result<Option<Home>, UploadError> {
        let failed = |step, reason| UploadError::Failed { step, reason };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let home = match openat(directory, RESERVED_SEGMENT, flags, Mode::empty()) {
            Ok(home) => home,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => {
                return Err(failed("opening .streamd-uploads, which must be a directory", errno));
            }
            Err(errno) => return Err(UploadError::at("opening .streamd-uploads")(errno)),
        };
        let stat = fstat(&home).map_err(UploadError::at("looking at .streamd-uploads"))?;
        // Whoever owns it could exchange what lies in it.
        if stat.st_uid != geteuid().as_raw() {
            return Err(failed("opening .streamd-uploads, which belongs to another user", Errno::PERM));
        }
        if Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO) {
            fchmod(&home, Mode::RWXU).map_err(UploadError::at("closing .streamd-uploads to others"))?;
        }
        Ok(Some(Home(home)))
    }

    /// Opens the home in `directory`, which is created where it is missing. Waits for the disk.
    pub(super) fn open_or_create(directory: impl AsFd) -> Result<Home, UploadError> {
        if let Some(home) = Home::open(&directory)? {
            return Ok(home);
        }
        let failed = UploadError::at("creating .streamd-uploads");
        match mkdirat(&directory, RESERVED_SEGMENT, Mode::RWXU) {
            Ok(()) => sync_directory(&directory).map_err(failed)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        // Only a directory that was removed at once again has none now.
        Home::open(directory)?.ok_or(UploadError::ParentMissing)
    }

    /// Creates the file of a partial, locked for this daemon. Nobody but the daemon's user looks into a home, so it
    /// has from the start the mode that it is published with: 0644 less the umask, and the default ACL if there is
    /// one. Waits for the disk.
    pub(super) fn create(&self, id: UploadId, is_paced: bool) -> Result<Unpublished, UploadError> {
        let failed = UploadError::at("creating the file of an upload");
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let file = Unpublished::create(self.as_fd(), &id.to_string(), mode, is_paced).map_err(failed)?;
        // Nobody else has it but, for a moment, a sweep that has just found it.
        if let Err(errno) = retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)) {
            self.remove(id)?;
            return Err(failed(errno));
        }
        Ok(file)
    }

    /// Opens the file of a partial and locks it; None where there is none, [`UploadError::Busy`] where another daemon
    /// has it. Waits for the disk.
    pub(super) fn lock(&self, id: UploadId) -> Result<Option<File>, UploadError> {
        let failed = UploadError::at("opening the file of an upload");
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = id.to_string();
        let file = match openat(self, &name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Err(UploadError::Busy),
            Err(errno) => return Err(failed(errno)),
        }
        // Whoever had the lock before may have published or removed it.
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
}

/// What is kept for later has to be found then. The root is held open by its path alone, which can't be synced.
fn sync_directory(directory: impl AsFd) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fsync(openat(directory, ".", flags, Mode::empty())?)
}

impl AsFd for Home {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The file in the root's home that lists the directories with a home of their own, one path a line: no path holds a
/// line feed.
const LIST: &str = "homes";

/// Most bytes of the list: [`HOMES_MAX`] paths of the longest kind.
const LIST_BYTES_MAX: u64 = HOMES_MAX as u64 * 4096;

/// The directories that have a home of their own, so that a daemon that starts anew finds what lies in them.
#[derive(Debug, Default)]
pub(super) struct Homes(Mutex<BTreeSet<Box<str>>>);

impl Homes {
    /// Reads the list. Waits for the disk.
    pub(super) fn load(root_home: &Home) -> Homes {
        let mut text = String::new();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(file) = openat(root_home, LIST, flags, Mode::empty()) {
            // What can't be read is found again when something is uploaded there.
            let _ = File::from(file).take(LIST_BYTES_MAX).read_to_string(&mut text);
        }
        let paths = text.lines().filter(|line| !line.is_empty()).take(HOMES_MAX).map(Box::from);
        Homes(Mutex::new(paths.collect()))
    }

    /// Their paths, relative to the root.
    pub(super) fn paths(&self) -> Vec<Box<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Adds a directory. One more than [`HOMES_MAX`] gets a home all the same; only a restart doesn't find it. Waits
    /// for the disk.
    pub(super) fn add(&self, root_home: &Home, path: &str) {
        let mut paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paths.len() < HOMES_MAX && paths.insert(path.into()) {
            write_list(root_home, &paths);
        }
    }

    /// Drops directories from the list. Waits for the disk.
    pub(super) fn drop_paths(&self, root_home: &Home, gone: &[Box<str>]) {
        let mut paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = paths.len();
        paths.retain(|path| !gone.contains(path));
        if paths.len() != before {
            write_list(root_home, &paths);
        }
    }
}

fn write_list(root_home: &Home, paths: &BTreeSet<Box<str>>) {
    /// Written first, under the lock of the list.
    const TEMPORARY: &str = "homes.new";
    let text: String = paths.iter().flat_map(|path| [&**path, "\n"]).collect();
    let written = || {
        let _ = unlinkat(root_home, TEMPORARY, AtFlags::empty());
        let mut file = Unpublished::create(root_home.as_fd(), TEMPORARY, Mode::RUSR | Mode::WUSR, false)?;
        file.append(text.as_bytes())?;
        give_name((root_home.as_fd(), TEMPORARY), (root_home.as_fd(), LIST), false)
    };
    if let Err(errno) = written() {
        tracing::warn!(%errno, "the list of upload directories could not be written: a restart may lose partials");
    }
}
