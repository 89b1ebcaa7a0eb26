//! The partials of one root: who may write to which, and how they end without a name.

use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{fstat, fsync};

use super::super::mounts::MountId;
use super::super::unpublished::Unpublished;
use super::admission::Admission;
use super::ahead::{Ahead, BytesAhead};
use super::claims::Claims;
use super::destination::identify;
use super::error::UploadError;
use super::index::Index;
use super::limits::{BLOCK_BYTES, UploadLimits};
use super::metadata;
use super::partial::{Active, Partial, State};
use super::staging;
use super::storage::Storage;
use crate::protocol::name::UploadResource;

/// The progress of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialStatus {
    /// The bytes that have come.
    pub offset: u64,
    /// The bytes of the whole upload, if that is known.
    pub length: Option<u64>,
    /// Whether the upload is published.
    pub complete: bool,
}

/// The number and size of the uploads of one root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadUsage {
    /// The uploads with a writer.
    pub writers: usize,
    /// The uploads with and without a writer.
    pub partials: usize,
    /// Their bytes, in whole blocks.
    pub bytes: u64,
    /// The bytes that are allocated for them ahead of what has come.
    pub bytes_ahead: u64,
}

impl UploadUsage {
    /// Returns the sum with the uploads of another root.
    #[must_use]
    pub fn and(&self, other: &UploadUsage) -> UploadUsage {
        UploadUsage {
            writers: self.writers + other.writers,
            partials: self.partials + other.partials,
            bytes: self.bytes + other.bytes,
            bytes_ahead: self.bytes_ahead + other.bytes_ahead,
        }
    }
}

/// The partials of one root, and the state that they share.
#[derive(Debug)]
pub(super) struct Partials {
    storage: Arc<Storage>,
    pub(super) admission: Arc<Admission>,
    pub(super) index: Index,
    pub(super) claims: Arc<Claims>,
    pub(super) bytes_ahead: Arc<BytesAhead>,
    /// The boot of the host, by which descriptions are believed.
    pub(super) boot: String,
}

impl Partials {
    /// Makes the state for a root, with no partials yet.
    pub(super) fn new(storage: Arc<Storage>) -> Partials {
        let admission = Admission::new(storage.root.mounts().root());
        Partials {
            storage,
            admission: Arc::new(admission),
            index: Index::default(),
            claims: Arc::default(),
            bytes_ahead: Arc::default(),
            boot: metadata::boot(),
        }
    }

    /// Returns number and size of the uploads. Doesn't wait for a disk.
    pub(super) fn usage(&self) -> UploadUsage {
        let (writers, partials) = (self.admission.count(), self.index.count());
        let bytes = self.index.all().iter().map(|partial| in_blocks(partial.offset())).sum();
        UploadUsage { writers, partials, bytes, bytes_ahead: self.bytes_ahead.get() }
    }

    /// Ends the writing to an upload, whoever does it, and returns its progress: the next writer begins there.
    pub(super) fn interrupt(
        &self,
        upload: &UploadResource,
        limits: &UploadLimits,
    ) -> Result<PartialStatus, UploadError> {
        if let Ok(partial) = self.find(upload) {
            // The lock waits for a write or a publication that is under way. After a publication the upload is
            // found to be complete.
            self.suspend(&partial, &mut partial.lock(), limits)?;
        }
        self.status(upload)
    }

    /// Returns the progress of an upload. Doesn't wait for a write that is under way.
    pub(super) fn status(&self, upload: &UploadResource) -> Result<PartialStatus, UploadError> {
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

    /// Removes an upload, whoever writes to it. A published file stays.
    pub(super) fn remove(&self, upload: &UploadResource) -> Result<(), UploadError> {
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

    /// Finds a partial by its id, but only in its own staging directory.
    pub(super) fn find(&self, upload: &UploadResource) -> Result<Arc<Partial>, UploadError> {
        let missing = || match self.index.completed(upload) {
            Some(_) => UploadError::Completed,
            None => UploadError::NotFound,
        };
        self.index.find(upload.id).filter(|partial| partial.resource() == *upload).ok_or_else(missing)
    }

    /// Removes the partials of a destination that have waited longest to be continued, until at most `count` wait.
    pub(super) fn remove_oldest(&self, destination: &[u8], count: usize) {
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
    pub(super) fn is_written_elsewhere(&self, partial: &Partial) -> bool {
        let staging = self.storage.staging_of(partial).ok().flatten();
        staging.is_some_and(|staging| matches!(staging.lock(partial.id), Err(UploadError::Busy)))
    }

    /// Ends a partial and gives its space back.
    pub(super) fn remove_locked(&self, partial: &Partial, state: &mut State) {
        let active = state.end();
        self.index.forget(partial);
        self.claims.end(partial.claim, partial.offsets_to_go_on());
        let removed = match &active {
            Some(active) => active.staging.remove(partial.id),
            None => self.storage.staging_of(partial).and_then(|staging| match staging {
                Some(staging) => staging.remove(partial.id),
                None => Ok(()),
            }),
        };
        if let Err(error) = removed {
            tracing::warn!(upload = %partial.id, %error, "an upload could not be removed; a sweep tries again");
        }
    }

    /// Ends the writing to a partial, whoever does it, and keeps what is there; a partial that can't be kept is
    /// removed.
    pub(super) fn suspend(
        &self,
        partial: &Partial,
        state: &mut State,
        limits: &UploadLimits,
    ) -> Result<(), UploadError> {
        let result = self.try_suspend(partial, state, limits);
        if result.is_err() {
            self.remove_locked(partial, state);
        }
        result
    }

    fn try_suspend(
        &self,
        partial: &Partial,
        state: &mut State,
        limits: &UploadLimits,
    ) -> Result<(), UploadError> {
        let Some(active) = &mut state.active else { return Ok(()) };
        let offset = active.file.length();
        active.ahead.give_back(&mut active.file)?;
        if limits.is_durable {
            active.file.sync().map_err(UploadError::at("fsync of an upload"))?;
            state.durable = offset;
        }
        partial.keep_short();
        partial.describe(state, &self.boot);
        if let Some(active) = state.active.as_ref().filter(|_| limits.is_durable) {
            // The description says how much is durable, and so was written after the last sync; a client that is
            // told how much is kept can rely on the description too, and on the name that it is found by.
            active.file.sync().map_err(UploadError::at("fsync of an upload"))?;
            fsync(&active.staging).map_err(UploadError::at("fsync of .streamd-uploads"))?;
        }
        state.idle_since = SystemTime::now();
        if let Some(active) = state.active.take() {
            staging::unlock(&active.file);
        }
        Ok(())
    }

    /// Opens the file of a partial that has no writer. `mount` is its destination's.
    pub(super) fn open_left(
        &self,
        partial: &Arc<Partial>,
        state: &mut State,
        mount: MountId,
        limits: &UploadLimits,
    ) -> Result<Active, UploadError> {
        let slot = self.admission.admit(partial.destination.as_bytes(), mount, limits)?;
        let staging = self.storage.staging_of(partial)?;
        let file = staging.as_ref().map_or(Ok(None), |staging| staging.lock_patiently(partial.id))?;
        let (Some(staging), Some(file)) = (staging, file) else {
            // Another daemon has published or removed it, or somebody from outside.
            self.index.forget(partial);
            self.claims.end(partial.claim, partial.offsets_to_go_on());
            state.end();
            return Err(UploadError::NotFound);
        };
        let failed = UploadError::at("looking at an upload");
        let size = u64::try_from(fstat(&file).map_err(failed)?.st_size).unwrap_or(0);
        // The file's length counts: another daemon may have continued the partial.
        partial.set_offset(size);
        state.durable = state.durable.min(size);
        let (_, staging_mount, _) = identify(&staging).map_err(failed)?;
        let ahead = Ahead::new(self.storage.space_of(staging_mount), &self.bytes_ahead);
        Ok(Active::new(Unpublished::with_length(file, size, limits.is_durable), staging, slot, ahead))
    }
}

/// Returns the bytes that a file of this length takes on most file systems.
fn in_blocks(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(BLOCK_BYTES)
}
