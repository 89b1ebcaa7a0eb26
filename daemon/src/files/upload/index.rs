//! The uploads that exist, and those that were published a moment ago.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::UploadError;
use super::limits::{COMPLETED_MAX, PARTIALS_MAX};
use super::partial::Partial;
use crate::protocol::name::{UploadId, UploadResource};

/// The index of known uploads. Nothing here waits for a disk.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    partials: HashMap<UploadId, Arc<Partial>>,
    /// The ids of the partials by destination, the oldest first.
    destinations: HashMap<Box<[u8]>, Vec<UploadId>>,
    /// The published uploads with their lengths, the oldest first.
    completed: VecDeque<(UploadResource, u64)>,
}

impl Index {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so many partials are known that no further one can wait to be continued.
    pub(super) fn is_full(&self) -> bool {
        self.known().partials.len() > PARTIALS_MAX
    }

    /// Adds a partial. A plain PUT always finds room: of those there are no more than writers.
    pub(super) fn insert(&self, partial: &Arc<Partial>) -> Result<(), UploadError> {
        let mut known = self.known();
        if partial.is_kept_short() && known.partials.len() >= PARTIALS_MAX {
            return Err(UploadError::TooMany);
        }
        known.partials.insert(partial.id, Arc::clone(partial));
        known.destinations.entry(partial.destination.as_bytes().into()).or_default().push(partial.id);
        Ok(())
    }

    pub(super) fn find(&self, id: UploadId) -> Option<Arc<Partial>> {
        self.known().partials.get(&id).cloned()
    }

    /// Returns the partials of a destination, the oldest first.
    pub(super) fn of_destination(&self, destination: &[u8]) -> Vec<Arc<Partial>> {
        let known = self.known();
        let ids = known.destinations.get(destination).into_iter().flatten();
        ids.filter_map(|id| known.partials.get(id).cloned()).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<Partial>> {
        self.known().partials.values().cloned().collect()
    }

    pub(super) fn forget(&self, partial: &Partial) {
        self.known().forget(partial);
    }

    /// Moves a partial that was published to the completed uploads.
    pub(super) fn complete(&self, partial: &Partial, length: u64) {
        let mut known = self.known();
        known.forget(partial);
        if known.completed.len() == COMPLETED_MAX {
            known.completed.pop_front();
        }
        known.completed.push_back((partial.resource(), length));
    }

    /// Returns the length of an upload that was published a while ago.
    pub(super) fn completed(&self, upload: &UploadResource) -> Option<u64> {
        self.known().completed.iter().find(|(completed, _)| completed == upload).map(|(_, length)| *length)
    }

    pub(super) fn forget_completed(&self, upload: &UploadResource) -> bool {
        let mut known = self.known();
        let before = known.completed.len();
        known.completed.retain(|(completed, _)| completed != upload);
        known.completed.len() != before
    }

    /// Returns the number of uploads, with and without a writer.
    pub(super) fn count(&self) -> usize {
        self.known().partials.len()
    }
}

impl Known {
    fn forget(&mut self, partial: &Partial) {
        let destination = partial.destination.as_bytes();
        if self.partials.remove(&partial.id).is_none() {
            return;
        }
        if let Some(ids) = self.destinations.get_mut(destination) {
            ids.retain(|id| *id != partial.id);
            if ids.is_empty() {
                self.destinations.remove(destination);
            }
        }
    }
}
