//! How many uploads may be written at once, over all destinations and to each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::UploadError;
use super::limits::UploadLimits;

/// Who may write. Nothing here waits for a disk.
#[derive(Debug, Default)]
pub(super) struct Admission(Mutex<Writers>);

#[derive(Debug, Default)]
struct Writers {
    all: usize,
    by_destination: HashMap<Box<str>, usize>,
}

impl Admission {
    /// Lets one more writer begin, if there may be one.
    pub(super) fn admit(
        self: &Arc<Admission>,
        destination: &str,
        limits: &UploadLimits,
    ) -> Result<Slot, UploadError> {
        let mut writers = self.writers();
        let to_it = writers.by_destination.get(destination).copied().unwrap_or(0);
        if writers.all >= limits.uploads_max || to_it >= limits.uploads_per_destination_max {
            return Err(UploadError::TooMany);
        }
        writers.all += 1;
        *writers.by_destination.entry(destination.into()).or_default() += 1;
        drop(writers);
        Ok(Slot { admission: Arc::clone(self), destination: destination.into() })
    }

    /// Uploads that have a writer.
    pub(super) fn count(&self) -> usize {
        self.writers().all
    }

    fn writers(&self) -> MutexGuard<'_, Writers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A writer's place among those that may be; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    admission: Arc<Admission>,
    destination: Box<str>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut writers = self.admission.writers();
        writers.all -= 1;
        if let Some(to_it) = writers.by_destination.get_mut(&self.destination) {
            *to_it -= 1;
            if *to_it == 0 {
                writers.by_destination.remove(&self.destination);
            }
        }
    }
}
