//! Directories on the way to a destination. They are made right before the file gets its name: an upload that
//! fails earlier leaves none, and one whose naming fails removes those again that nobody else uses.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{AtFlags, Mode, fsync, mkdirat, unlinkat};
use rustix::io::Errno;

use super::super::root::Root;
use super::error::UploadError;
use super::path::leaf_of_path;

/// The state by which concurrent uploads respect each other's directories.
#[derive(Debug, Default)]
pub(super) struct Directories {
    /// The directories that were made in vain and in which others made in vain may lie. The lock is held for
    /// reading from the look for a directory until something lies in it, and for writing while those made in vain
    /// are removed.
    in_vain: RwLock<Vec<MadeOne>>,
    /// The number of uploads that are about to remove what they had made.
    removing: AtomicUsize,
    /// The number of uploads that are making directories, none of which is known to be synced.
    making: AtomicUsize,
    /// Whether directories were made that never were synced.
    left_unsynced: AtomicBool,
}

/// The guard during which no directory is removed that another upload had made.
pub(super) type Held<'d> = RwLockReadGuard<'d, Vec<MadeOne>>;

/// A directory in its parent, by its name there.
type MadeOne = (OwnedFd, Box<[u8]>);

/// The directories that were made for one upload.
#[derive(Debug, Default)]
pub(super) struct Made(Vec<MadeOne>);

impl Directories {
    pub(super) fn hold(&self) -> Held<'_> {
        self.in_vain.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the missing directories of `path`, step by step beneath the root, and opens it. Those that were made
    /// are added to `made`, also where the rest failed. Waits for the disk.
    pub(super) fn make(
        &self,
        root: &Root,
        path: &[u8],
        is_durable: bool,
        made: &mut Made,
    ) -> Result<OwnedFd, UploadError> {
        self.making.fetch_add(1, Ordering::SeqCst);
        let result = make(root, path, is_durable, made);
        let is_synced = is_durable && result.is_ok();
        if !is_synced && !made.0.is_empty() {
            self.left_unsynced.store(true, Ordering::SeqCst);
        }
        self.making.fetch_sub(1, Ordering::SeqCst);
        result
    }

    /// Syncs the directories above `path`, if some may have been made by an upload that has not synced them, or
    /// couldn't: a file in them is no safer than they are. Waits for the disk.
    pub(super) fn sync_above(&self, root: &Root, path: &[u8]) -> Result<(), UploadError> {
        let is_sure = self.making.load(Ordering::SeqCst) == 0 && !self.left_unsynced.load(Ordering::SeqCst);
        if is_sure || path == b"." {
            return Ok(());
        }
        let failed = UploadError::at("fsync of a directory");
        let above = memchr::memchr_iter(b'/', path).map(|slash| &path[..slash]);
        for directory in above.chain([b".".as_slice()]) {
            match root.open_directory(directory) {
                Ok(directory) => fsync(&directory).map_err(failed)?,
                // The directory was moved from outside, and the name means something else now.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }

    /// Removes the directories that are empty, or become so as other uploads remove theirs. Waits for the disk.
    pub(super) fn remove(&self, held: Held<'_>, made: Made) {
        if made.0.is_empty() {
            return;
        }
        self.removing.fetch_add(1, Ordering::SeqCst);
        drop(held);
        let mut in_vain = self.in_vain.write().unwrap_or_else(PoisonError::into_inner);
        in_vain.extend(made.0);
        let mut before = usize::MAX;
        while in_vain.len() < before {
            before = in_vain.len();
            in_vain.retain(|(parent, name)| {
                unlinkat(parent, &**name, AtFlags::REMOVEDIR) == Err(Errno::NOTEMPTY)
            });
        }
        if self.removing.fetch_sub(1, Ordering::SeqCst) == 1 {
            // The remaining ones hold something else.
            in_vain.clear();
        }
    }
}

fn make(root: &Root, path: &[u8], is_durable: bool, made: &mut Made) -> Result<OwnedFd, UploadError> {
    let failed = UploadError::at("creating a directory");
    let mut directory = root.open_directory(b".").map_err(failed)?;
    let ends = memchr::memchr_iter(b'/', path).chain([path.len()]);
    for end in ends {
        let here = &path[..end];
        directory = match root.open_directory(here) {
            Err(Errno::NOENT) => {
                made.make(directory, leaf_of_path(here), is_durable).map_err(failed)?;
                root.open_directory(here)
            }
            result => result,
        }
        .map_err(failed)?;
    }
    Ok(directory)
}

impl Made {
    fn make(&mut self, parent: OwnedFd, name: &[u8], is_durable: bool) -> Result<(), Errno> {
        let is_ours = match mkdirat(&parent, name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
            Ok(()) => true,
            // Another upload made it, or it is a link that leads nowhere: opening it tells.
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno),
        };
        let synced = if is_durable { fsync(&parent) } else { Ok(()) };
        if is_ours {
            self.0.push((parent, name.into()));
        }
        synced
    }
}
