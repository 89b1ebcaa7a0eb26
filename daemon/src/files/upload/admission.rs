//! How many uploads may be written at once: over all destinations, to each, and to each mount.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::mounts::MountId;
use super::error::UploadError;
use super::limits::{OTHER_MOUNT_DIVISOR, UploadLimits};

/// Who may write. Nothing here waits for a disk.
#[derive(Debug)]
pub(super) struct Admission {
    /// The root's own mount.
    root_mount: MountId,
    writers: Mutex<Writers>,
}

#[derive(Debug, Default)]
struct Writers {
    /// Places that are taken.
    all: usize,
    by_destination: HashMap<Box<[u8]>, usize>,
    /// Those whose places were given back before their work was dropped included.
    by_mount: HashMap<MountId, usize>,
}

impl Admission {
    /// To a root on this mount, with nobody who writes.
    pub(super) fn new(root_mount: MountId) -> Admission {
        Admission { root_mount, writers: Mutex::default() }
    }

    /// Lets one more writer begin, if there may be one.
    pub(super) fn admit(
        self: &Arc<Admission>,
        destination: &[u8],
        mount: MountId,
        limits: &UploadLimits,
    ) -> Result<Slot, UploadError> {
        let mut writers = self.writers();
        let to_it = writers.by_destination.get(destination).copied().unwrap_or(0);
        if writers.all >= limits.uploads_max || to_it >= limits.uploads_per_destination_max {
            return Err(UploadError::TooMany);
        }
        // A mount that doesn't answer gives back nothing of what it holds.
        let of_mount = writers.by_mount.get(&mount).copied().unwrap_or(0);
        if of_mount >= self.of_mount_max(mount, limits) {
            return Err(UploadError::TooManyOfMount);
        }
        writers.all += 1;
        *writers.by_destination.entry(destination.into()).or_default() += 1;
        *writers.by_mount.entry(mount).or_default() += 1;
        drop(writers);
        let place = Arc::new(Place { admission: Arc::clone(self), state: AtomicU8::new(HELD) });
        Ok(Slot { place, mount, destination: destination.into() })
    }

    /// Uploads that have a place.
    pub(super) fn count(&self) -> usize {
        self.writers().all
    }

    fn of_mount_max(&self, mount: MountId, limits: &UploadLimits) -> usize {
        let is_root_mount = mount == self.root_mount || mount == MountId::UNKNOWN;
        if is_root_mount { limits.uploads_max } else { (limits.uploads_max / OTHER_MOUNT_DIVISOR).max(1) }
    }

    fn writers(&self) -> MutexGuard<'_, Writers> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an upload is counted by: among those to its destination and its mount until it is dropped, and among all until
/// its place is given back, which it is by then.
#[derive(Debug)]
pub(super) struct Slot {
    place: Arc<Place>,
    mount: MountId,
    destination: Box<[u8]>,
}

impl Slot {
    /// For whoever waits for what becomes of the upload.
    pub(super) fn place_guard(&self) -> PlaceGuard {
        PlaceGuard(Arc::clone(&self.place))
    }

    /// From now on it has open files, and its place until those are closed.
    pub(super) fn bind(&self) {
        // Where it was given back meanwhile a disk thread is at it alone, and of those there are few.
        let _ = self.place.state.compare_exchange(HELD, BOUND, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let had_place = self.place.state.swap(FREE, Ordering::Relaxed) != FREE;
        let mut writers = self.place.admission.writers();
        writers.all -= usize::from(had_place);
        remove_one(&mut writers.by_mount, &self.mount);
        remove_one(&mut writers.by_destination, &self.destination);
    }
}

/// Whoever asked for an upload. Dropped, it is answered, and what may still wait for a disk has its place no more.
#[derive(Debug)]
pub struct PlaceGuard(Arc<Place>);

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        let state = &self.0.state;
        if state.compare_exchange(HELD, FREE, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.0.admission.writers().all -= 1;
        }
    }
}

/// A place among the uploads that may be written at once.
#[derive(Debug)]
struct Place {
    admission: Arc<Admission>,
    /// [`HELD`], [`BOUND`] or [`FREE`].
    state: AtomicU8,
}

/// Its caller may give it back.
const HELD: u8 = 0;

/// It is a writer's, whose open files it stands for.
const BOUND: u8 = 1;

/// It was given back.
const FREE: u8 = 2;

fn remove_one<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
