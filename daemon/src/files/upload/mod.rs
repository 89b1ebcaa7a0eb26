//! Uploads: bytes on their way to a name below the root.
//!
//! What arrives is appended to a file of its own, the partial, in a reserved directory (`home`), and gets its name, the
//! destination, in one step when it is whole (`publish`). A partial that is cut short stays, described in an extended
//! attribute (`about`), and is continued by its id or by its destination, after a restart too (`sweep`). It has one
//! writer at a time (`writer`, `partial`).
//!
//! Everything here but [`Uploads::generation`] and [`Uploads::usage`] may wait for the disk. Knows no sockets.

mod about;
mod acl;
mod admission;
mod admitted;
mod ahead;
mod begin;
mod buffers;
mod claims;
mod destination;
mod directories;
mod error;
mod home;
mod index;
mod limits;
mod locks;
mod membership;
mod partial;
mod parts;
mod path;
mod publish;
mod sharing;
mod sweep;
mod whole;
mod writer;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::Timespec;
use rustix::process::{Resource, getrlimit};

pub use admitted::Admitted;
pub use buffers::DirectBuffer;
pub use error::UploadError;
pub use limits::UploadLimits;
pub use parts::{MayRepeat, Part};
pub use publish::{Precondition, Publication, Published};
pub use sweep::Swept;
pub use whole::{KnownDestination, Whole};
pub use writer::{Kept, Writer};

use super::digest::Digests;
use super::file_system::FileSystem;
use super::free_space::FreeSpace;
use super::root::Root;
use crate::limits::memory_limit_bytes;
use crate::protocol::name::{Name, UploadResource};
use admission::Admission;
use ahead::BytesAhead;
use buffers::Buffers;
use claims::Claims;
use destination::{Destination, Device, FileKey, Mount, identify};
use directories::Directories;
use home::{Home, Homes, RootHome};
use index::Index;
use limits::{BLOCK_BYTES, SPACES_MAX};
use locks::{Locked, Locks};
use membership::Membership;
use partial::{Partial, State};
use whole::Temporaries;

/// The uploads below one root, shared by all workers.
#[derive(Debug)]
pub struct Uploads {
    root: Arc<Root>,
    admission: Arc<Admission>,
    index: Index,
    claims: Claims,
    /// Held from the look at a destination to the rename over it.
    locks: Locks,
    generation: AtomicU64,
    /// Where the root's home is, and which directory it is.
    home_mount: Mount,
    home_key: FileKey,
    home_file_system: FileSystem,
    root_home: RootHome,
    homes: Homes,
    /// The room of the file systems that partials lie on.
    spaces: Mutex<HashMap<Device, Arc<FreeSpace>>>,
    bytes_ahead: Arc<BytesAhead>,
    directories: Directories,
    buffers: Buffers,
    temporaries: Temporaries,
    membership: Membership,
    boot: String,
    /// The newest modification time that an upload got, in nanoseconds since 1970.
    newest_ns: AtomicU64,
    /// RLIMIT_FSIZE: a write beyond it would end the process by SIGXFSZ.
    file_bytes_max: u64,
}

/// What is known of an upload when it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name it will get.
    pub destination: Name,
    /// How long it will be.
    pub length: Option<u64>,
    /// What its content must turn out to be.
    pub digests: Digests,
    /// What the caller wants back from [`Writer::note`] when the upload is continued, after a restart too; up to 1 KiB
    /// of text is sure to be kept.
    pub note: String,
}

/// What there is of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialStatus {
    /// How many bytes.
    pub offset: u64,
    /// How many there will be, if that is known.
    pub length: Option<u64>,
    /// Whether it is published.
    pub complete: bool,
}

/// How many uploads there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadUsage {
    /// With a writer.
    pub writers: usize,
    /// With one and without.
    pub partials: usize,
    /// Bytes of them, in whole blocks.
    pub bytes: u64,
    /// Bytes that are allocated for them ahead of what has come.
    pub bytes_ahead: u64,
}

/// How a new upload is continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// By its destination, if much of it has arrived: a plain PUT.
    Whole,
    /// By its destination: its sender says at which byte.
    Ranged,
    /// By its id.
    Resource,
}

impl Uploads {
    /// Takes the root's uploads over from an earlier run: whatever it left that can be continued can be. Waits for
    /// the disk.
    pub fn open(root: Arc<Root>) -> Result<Arc<Uploads>, UploadError> {
        let home = Home::open_or_create(root.directory())?;
        let (home_key, home_mount, _) =
            identify(&home).map_err(UploadError::at("looking at .streamd-uploads"))?;
        root.record_in(home.as_fd());
        let uploads = Uploads {
            root,
            admission: Arc::default(),
            index: Index::default(),
            claims: Claims::default(),
            locks: Locks::default(),
            generation: AtomicU64::new(0),
            home_mount,
            home_key,
            home_file_system: FileSystem::of(&home),
            root_home: RootHome::default(),
            homes: Homes::load(&home),
            spaces: Mutex::default(),
            bytes_ahead: Arc::default(),
            directories: Directories::default(),
            buffers: Buffers::within(memory_limit_bytes()),
            temporaries: Temporaries::new()?,
            membership: Membership::of_process(),
            boot: about::boot(),
            newest_ns: AtomicU64::new(0),
            file_bytes_max: getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX),
        };
        Locks::prepare(&home);
        uploads.adopt(&home)?;
        Ok(Arc::new(uploads))
    }

    /// What they lie below.
    pub fn root(&self) -> &Arc<Root> {
        &self.root
    }

    /// Counts publications and deletions. Read before a file is opened and compared later, it tells whether the name
    /// may mean another file by then. Doesn't wait.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How many uploads there are. Doesn't wait for a disk.
    pub fn usage(&self) -> UploadUsage {
        let (writers, partials) = (self.admission.count(), self.index.count());
        let bytes = self.index.all().iter().map(|partial| in_blocks(partial.offset())).sum();
        UploadUsage { writers, partials, bytes, bytes_ahead: self.bytes_ahead.get() }
    }

    /// Begins a plain PUT: the whole content in one request.
    pub fn begin(self: &Arc<Self>, plan: &Plan, limits: &UploadLimits) -> Result<Writer, UploadError> {
        self.start(plan, Kind::Whole, limits)
    }

    /// Begins an upload that is continued by its id.
    pub fn create(self: &Arc<Self>, plan: &Plan, limits: &UploadLimits) -> Result<Writer, UploadError> {
        self.start(plan, Kind::Resource, limits)
    }

    /// Continues the upload of this name at `offset`. `length` is given where the request says how long the upload will
    /// be.
    pub fn resume(
        self: &Arc<Self>,
        upload: &UploadResource,
        offset: u64,
        length: Option<u64>,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        let partial = self.find(upload)?;
        self.check_length(length, limits)?;
        self.take(&partial, offset, length, limits)
    }

    /// Ends the writing to an upload, whoever does it, and tells what there is of it: the next writer begins there.
    pub fn interrupt(
        &self,
        upload: &UploadResource,
        limits: &UploadLimits,
    ) -> Result<PartialStatus, UploadError> {
        if let Ok(partial) = self.find(upload) {
            // Waits for a write or a publication that is under way. After that one it is found to be complete.
            self.put_aside(&partial, &mut partial.lock(), limits)?;
        }
        self.status(upload)
    }

    /// What there is of an upload. Doesn't wait for a write that is under way.
    pub fn status(&self, upload: &UploadResource) -> Result<PartialStatus, UploadError> {
        match self.find(upload) {
            Ok(partial) => {
                Ok(PartialStatus { offset: partial.offset(), length: partial.length(), complete: false })
            }
            Err(UploadError::Completed) => {
                let length = self.index.completed(upload).ok_or(UploadError::NotFound)?;
                Ok(PartialStatus { offset: length, length: Some(length), complete: true })
            }
            Err(error) => Err(error),
        }
    }

    /// Removes an upload, whoever writes to it. What was published stays.
    pub fn remove(&self, upload: &UploadResource) -> Result<(), UploadError> {
        match self.find(upload) {
            Ok(partial) => {
                let mut state = partial.lock();
                if state.is_gone {
                    return Err(UploadError::NotFound);
                }
                self.remove_locked(&partial, &mut state);
                Ok(())
            }
            Err(UploadError::Completed) if self.index.forget_completed(upload) => Ok(()),
            Err(_) => Err(UploadError::NotFound),
        }
    }

    /// Found by its id, but only in its own home.
    fn find(&self, upload: &UploadResource) -> Result<Arc<Partial>, UploadError> {
        let missing = || match self.index.completed(upload) {
            Some(_) => UploadError::Completed,
            None => UploadError::NotFound,
        };
        self.index.find(upload.id).filter(|partial| partial.resource() == *upload).ok_or_else(missing)
    }

    /// Removes the partials of a destination that have waited longest to be continued, until at most `count` wait.
    fn remove_oldest(&self, destination: &str, count: usize) {
        let mut left: Vec<_> = self.index.of_destination(destination);
        left.retain(|partial| !partial.is_resource);
        let since = |partial: &Arc<Partial>| {
            let state = partial.try_lock()?;
            (state.active.is_none() && !state.is_gone).then_some(state.idle_since)
        };
        let mut waiting: Vec<_> =
            left.iter().filter_map(|partial| Some((since(partial)?, partial))).collect();
        waiting.sort_by_key(|(since, _)| *since);
        let surplus = waiting.len().saturating_sub(count);
        for (_, partial) in waiting.into_iter().take(surplus) {
            let state = partial.try_lock().filter(|state| state.active.is_none());
            if let Some(mut state) = state.filter(|_| !self.is_written_elsewhere(partial)) {
                self.remove_locked(partial, &mut state);
            }
        }
    }

    /// Whether another daemon writes to a partial that has no writer here.
    fn is_written_elsewhere(&self, partial: &Partial) -> bool {
        let home = self.home_of(partial).ok().flatten();
        home.is_some_and(|home| matches!(home.lock(partial.id), Err(UploadError::Busy)))
    }

    /// Ends a partial and gives its space back.
    fn remove_locked(&self, partial: &Partial, state: &mut State) {
        let active = state.end();
        self.index.forget(partial);
        self.claims.end(partial.claim, partial.offsets_to_go_on());
        let removed = match &active {
            Some(active) => active.home.remove(partial.id),
            None => self.home_of(partial).and_then(|home| match home {
                Some(home) => home.remove(partial.id),
                None => Ok(()),
            }),
        };
        if let Err(error) = removed {
            tracing::warn!(upload = %partial.id, %error, "an upload could not be removed; a sweep tries again");
        }
    }

    /// The room of the file system of a mount.
    fn space_of(&self, mount: Mount) -> Arc<FreeSpace> {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        if spaces.len() >= SPACES_MAX && !spaces.contains_key(&mount.device()) {
            // Those without a writer.
            spaces.retain(|_, space| Arc::strong_count(space) > 1);
        }
        Arc::clone(spaces.entry(mount.device()).or_default())
    }

    /// The root's home. Waits for the disk.
    fn root_home(&self) -> Result<Home, UploadError> {
        self.root_home.open_or_create(self.root.directory())
    }

    /// The home that a partial lies in.
    fn home_of(&self, partial: &Partial) -> Result<Option<Home>, UploadError> {
        let Some(directory) = &partial.beside else { return Home::open(self.root.directory()) };
        let failed = UploadError::at("opening the directory of the destination");
        Home::open(self.root.open_directory(directory).map_err(failed)?)
    }

    /// The home beside a destination, which a restart will find too.
    fn home_beside(&self, destination: &Destination) -> Result<Home, UploadError> {
        let home = Home::open_or_create(destination.directory())?;
        if !self.homes.contains(destination.directory_path())
            && let Some(root_home) = Home::open(self.root.directory())?
        {
            self.homes.add(&root_home, destination.directory_path());
        }
        Ok(home)
    }

    /// Waits until nobody else changes what a destination's name means.
    fn lock(&self, destination: &Destination) -> Result<Locked<'_>, UploadError> {
        self.locks.wait(destination.hash(), || self.root_home())
    }

    /// The time now, and later than any time returned before: uploads of one size that are published within a tick
    /// of the file system's clock have entity tags of their own.
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

    fn raise_generation(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// What a file of so many bytes takes of most file systems.
fn in_blocks(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(BLOCK_BYTES)
}

#[cfg(test)]
mod tests;
