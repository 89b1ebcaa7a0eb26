//! The names of files below one root: uploads and deletions change one name at a time, and every change is
//! counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_OMIT, fsync, futimens, unlinkat};

use super::super::digest::Digests;
use super::super::identity::Moment;
use super::super::source::SourceFile;
use super::super::unpublished::Unpublished;
use super::destination::Destination;
use super::directories::Directories;
use super::error::UploadError;
use super::limits::UploadLimits;
use super::locks::{Locked, Locks};
use super::publication::Precondition;
use super::storage::Storage;
use crate::protocol::name::Name;

/// The state that changes of names share.
#[derive(Debug)]
pub(super) struct Names {
    storage: Arc<Storage>,
    /// The locks that are held from the look at a destination to the rename over it.
    pub(super) locks: Locks,
    pub(super) directories: Directories,
    generation: AtomicU64,
    /// The newest modification time that was given to an upload, in nanoseconds since 1970.
    newest_ns: AtomicU64,
}

impl Names {
    pub(super) fn new(storage: Arc<Storage>) -> Names {
        Names {
            storage,
            locks: Locks::default(),
            directories: Directories::default(),
            generation: AtomicU64::new(0),
            newest_ns: AtomicU64::new(0),
        }
    }

    /// Returns the count of changes. Doesn't wait.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Counts a change that has been made.
    pub(super) fn raise_generation(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Waits until nobody else changes what a destination's name means.
    pub(super) fn lock(&self, destination: &Destination) -> Result<Locked<'_>, UploadError> {
        self.locks.wait(destination.hash(), || self.storage.root_staging())
    }

    /// Sets the modification time of a file that will be published.
    pub(super) fn set_time(&self, file: &Unpublished) -> Result<Moment, UploadError> {
        let modified = self.distinct_now();
        let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        futimens(file, &Timestamps { last_access, last_modification: modified })
            .map_err(UploadError::at("setting the time of an upload"))?;
        Ok(Moment::of(modified.tv_sec, modified.tv_nsec))
    }

    /// Records a published file of `size` bytes and this time, and returns it with the facts that its entity tag
    /// follows from. Where somebody has written to it already nothing is recorded.
    pub(super) fn recorded(
        &self,
        named: SourceFile,
        size: u64,
        modified: Moment,
        digests: &Digests,
        limits: &UploadLimits,
    ) -> SourceFile {
        if named.stamp().modified != modified || named.size() != size {
            return named;
        }
        self.storage.root.record_published(named, digests, limits.is_durable)
    }

    /// Makes a name durable, if it has to be.
    pub(super) fn sync_name(
        &self,
        destination: &Destination,
        limits: &UploadLimits,
    ) -> Result<(), UploadError> {
        if !limits.is_durable {
            return Ok(());
        }
        fsync(destination.directory()).map_err(UploadError::at("fsync of a directory"))?;
        self.directories.sync_above(&self.storage.root, destination.directory_path())
    }

    /// Removes the file or link of this name. Waits for the disk.
    pub(super) fn delete(
        &self,
        name: &Name,
        precondition: Option<Precondition<'_>>,
        limits: &UploadLimits,
    ) -> Result<(), UploadError> {
        let absent = |error| match error {
            UploadError::ParentMissing => UploadError::NotFound,
            error => error,
        };
        let limits = UploadLimits { create_dirs: false, ..*limits };
        let destination = self.storage.resolve(name, &limits).map_err(absent)?;
        let locked = self.lock(&destination)?;
        let current = destination.current(&self.storage.root, precondition.is_some())?;
        if precondition.is_some_and(|precondition| !precondition(current.validators.as_ref())) {
            return Err(UploadError::PreconditionFailed);
        }
        if current.found.is_none() {
            return Err(UploadError::NotFound);
        }
        unlinkat(destination.directory(), destination.leaf(), AtFlags::empty())
            .map_err(UploadError::at("removing a file"))
            .map_err(absent)?;
        self.raise_generation();
        drop(locked);
        if limits.is_durable {
            fsync(destination.directory()).map_err(UploadError::at("fsync of a directory"))?;
        }
        Ok(())
    }

    /// Returns the time now, made later than any returned before: uploads of one size that are published within a
    /// tick of the file system's clock have entity tags of their own.
    fn distinct_now(&self) -> Timespec {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_nanos()).unwrap_or(0);
        let newest = self.newest_ns.fetch_max(now, Ordering::Relaxed);
        let distinct = if newest < now { now } else { self.newest_ns.fetch_add(1, Ordering::Relaxed) + 1 };
        Timespec {
            tv_sec: i64::try_from(distinct / 1_000_000_000).unwrap_or(0),
            tv_nsec: i64::try_from(distinct % 1_000_000_000).unwrap_or(0),
        }
    }
}
