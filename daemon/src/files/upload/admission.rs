//! The limits on uploads that are written at once: over all destinations, to each, and to each mount.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::mounts::MountId;
use super::error::UploadError;
use super::limits::{OTHER_MOUNT_DIVISOR, UploadLimits};

/// The counts of writers, which decide whether one more may begin. Nothing here waits for a disk.
#[derive(Debug)]
pub(super) struct Admission {
    /// The root's own mount.
    root_mount: MountId,
    writers: Mutex<Writers>,
}

#[derive(Debug, Default)]
struct Writers {
    /// The places that are taken.
    all: usize,
    by_destination: HashMap<Box<[u8]>, usize>,
    /// The writers of each mount, including those whose places were given back before their work was dropped.
    by_mount: HashMap<MountId, usize>,
}

impl Admission {
    /// Makes the counts for a root on this mount, with no writers.
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
        // A mount that doesn't answer gives back none of its places.
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

    /// Returns how many uploads have a place.
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

/// The place of an upload in the counts: among those to its destination and its mount until it is dropped, and
/// among all until its place is given back, at the latest then.
#[derive(Debug)]
pub(super) struct Slot {
    place: Arc<Place>,
    mount: MountId,
    destination: Box<[u8]>,
}

impl Slot {
    /// Returns a guard for the caller that waits for the upload's end.
    pub(super) fn place_guard(&self) -> PlaceGuard {
        PlaceGuard(Arc::clone(&self.place))
    }

    /// Notes that the upload has open files from now on, and keeps its place until those are closed.
    pub(super) fn bind(&self) {
        // Where the place was given back meanwhile only a disk thread works on the upload, and of those there are
        // few.
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

/// The guard of a caller that asked for an upload. It is dropped when the caller is answered; work that may still
/// wait for a disk gives up its place then.
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
    /// The state: [`HELD`], [`BOUND`] or [`FREE`].
    state: AtomicU8,
}

/// The caller may give the place back.
const HELD: u8 = 0;

/// The place is a writer's, and stands for its open files.
const BOUND: u8 = 1;

/// The place was given back.
const FREE: u8 = 2;

fn remove_one<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
