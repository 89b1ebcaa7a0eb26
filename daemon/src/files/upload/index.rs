//! Which uploads there are, and how many may be.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::UploadError;
use super::limits::{COMPLETED_MAX, PARTIALS_MAX, UploadLimits};
use super::partial::Partial;
use crate::protocol::name::{UploadId, UploadResource};

/// The uploads that are known. Nothing here waits for a disk.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    partials: HashMap<UploadId, Arc<Partial>>,
    destinations: HashMap<Box<str>, OfDestination>,
    writers: usize,
    /// With their lengths, the oldest first.
    completed: VecDeque<(UploadResource, u64)>,
}

/// The uploads to one destination.
#[derive(Debug, Default)]
struct OfDestination {
    ids: Vec<UploadId>,
    writers: usize,
}

impl Index {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one more writer begin, if there may be one.
    pub(super) fn admit(
        self: &Arc<Index>,
        destination: &str,
        limits: &UploadLimits,
    ) -> Result<Slot, UploadError> {
        let mut known = self.known();
        let to_it = known.destinations.get(destination).map_or(0, |of_destination| of_destination.writers);
        if known.writers >= limits.uploads_max || to_it >= limits.uploads_per_destination_max {
            return Err(UploadError::TooMany);
        }
        known.writers += 1;
        known.destinations.entry(destination.into()).or_default().writers += 1;
        drop(known);
        Ok(Slot { index: Arc::clone(self), destination: destination.into() })
    }

    /// Whether so many are known that no further one can wait to be continued.
    pub(super) fn is_full(&self) -> bool {
        self.known().partials.len() > PARTIALS_MAX
    }

    /// Takes a partial in. A plain PUT always finds room: of those there are no more than writers.
    pub(super) fn insert(&self, partial: &Arc<Partial>) -> Result<(), UploadError> {
        let mut known = self.known();
        if partial.is_kept_short() && known.partials.len() >= PARTIALS_MAX {
            return Err(UploadError::TooMany);
        }
        known.partials.insert(partial.id, Arc::clone(partial));
        known.destinations.entry(partial.destination.as_str().into()).or_default().ids.push(partial.id);
        Ok(())
    }

    pub(super) fn find(&self, id: UploadId) -> Option<Arc<Partial>> {
        self.known().partials.get(&id).cloned()
    }

    /// The partials of a destination, the oldest first.
    pub(super) fn of_destination(&self, destination: &str) -> Vec<Arc<Partial>> {
        let known = self.known();
        let ids = known.destinations.get(destination).map_or(&[][..], |of_destination| &of_destination.ids);
        ids.iter().filter_map(|id| known.partials.get(id).cloned()).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<Partial>> {
        self.known().partials.values().cloned().collect()
    }

    pub(super) fn forget(&self, partial: &Partial) {
        self.known().forget(partial);
    }

    /// The partial was published and is one no more.
    pub(super) fn complete(&self, partial: &Partial, length: u64) {
        let mut known = self.known();
        known.forget(partial);
        if known.completed.len() == COMPLETED_MAX {
            known.completed.pop_front();
        }
        known.completed.push_back((partial.resource(), length));
    }

    /// The length of an upload that was published a while ago.
    pub(super) fn completed(&self, upload: &UploadResource) -> Option<u64> {
        self.known().completed.iter().find(|(completed, _)| completed == upload).map(|(_, length)| *length)
    }

    pub(super) fn forget_completed(&self, upload: &UploadResource) -> bool {
        let mut known = self.known();
        let before = known.completed.len();
        known.completed.retain(|(completed, _)| completed != upload);
        known.completed.len() != before
    }

    /// Uploads with a writer, and all.
    pub(super) fn counts(&self) -> (usize, usize) {
        let known = self.known();
        (known.writers, known.partials.len())
    }
}

impl Known {
    fn forget(&mut self, partial: &Partial) {
        if self.partials.remove(&partial.id).is_some() {
            self.change(partial.destination.as_str(), |of_destination| {
                of_destination.ids.retain(|id| *id != partial.id);
            });
        }
    }

    fn change(&mut self, destination: &str, change: impl FnOnce(&mut OfDestination)) {
        if let Some(of_destination) = self.destinations.get_mut(destination) {
            change(of_destination);
            if of_destination.ids.is_empty() && of_destination.writers == 0 {
                self.destinations.remove(destination);
            }
        }
    }
}

/// A writer's place among those that may be; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    index: Arc<Index>,
    destination: Box<str>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut known = self.index.known();
        known.writers -= 1;
        known.change(&self.destination, |of_destination| of_destination.writers -= 1);
    }
}
