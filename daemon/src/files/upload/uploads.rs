//! The uploads below one root, with the state that all their stages share.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use super::super::root::Root;
use super::admitted::Admitted;
use super::buffers::DirectBuffers;
use super::error::UploadError;
use super::ids::Temporaries;
use super::limits::UploadLimits;
use super::names::Names;
use super::partials::{PartialStatus, Partials, UploadUsage};
use super::plan::Plan;
use super::publication::Precondition;
use super::storage::Storage;
use crate::limits::memory_limit_bytes;
use crate::protocol::name::{Name, UploadResource};

/// The uploads below one root, shared by all workers.
#[derive(Debug)]
pub struct Uploads {
    pub(super) storage: Arc<Storage>,
    pub(super) partials: Partials,
    pub(super) names: Names,
    pub(super) buffers: DirectBuffers,
    pub(super) temporaries: Temporaries,
    /// The value of RLIMIT_FSIZE: a write beyond it would end the process by SIGXFSZ.
    pub(super) file_bytes_max: u64,
}

impl Uploads {
    /// Makes the uploads of a storage, with none yet.
    pub(super) fn over(storage: Storage) -> Result<Uploads, UploadError> {
        let storage = Arc::new(storage);
        Ok(Uploads {
            partials: Partials::new(Arc::clone(&storage)),
            names: Names::new(Arc::clone(&storage)),
            storage,
            buffers: DirectBuffers::within(memory_limit_bytes()),
            temporaries: Temporaries::new()?,
            file_bytes_max: getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX),
        })
    }

    /// Returns the root that the uploads lie below.
    pub fn root(&self) -> &Arc<Root> {
        &self.storage.root
    }

    /// Returns the count of publications and deletions. Read before a file is opened and compared later, it tells
    /// whether the name may mean another file by then. Doesn't wait.
    pub fn generation(&self) -> u64 {
        self.names.generation()
    }

    /// Returns number and size of the uploads. Doesn't wait for a disk.
    pub fn usage(&self) -> UploadUsage {
        self.partials.usage()
    }

    /// Admits a plain PUT, if there may be one more. Doesn't wait for the disk.
    pub fn admit(&self, plan: &Plan, limits: &UploadLimits) -> Result<Admitted, UploadError> {
        self.check_length(plan.length, limits)?;
        let slot = self.partials.admission.admit(plan.destination.as_bytes(), plan.mount, limits)?;
        Ok(Admitted::new(slot, &self.partials.claims, &plan.destination, plan.length))
    }

    /// Ends the writing to an upload, whoever does it, and returns its progress: the next writer begins there.
    pub fn interrupt(
        &self,
        upload: &UploadResource,
        limits: &UploadLimits,
    ) -> Result<PartialStatus, UploadError> {
        self.partials.interrupt(upload, limits)
    }

    /// Returns the progress of an upload. Doesn't wait for a write that is under way.
    pub fn status(&self, upload: &UploadResource) -> Result<PartialStatus, UploadError> {
        self.partials.status(upload)
    }

    /// Removes an upload, whoever writes to it. A published file stays.
    pub fn remove(&self, upload: &UploadResource) -> Result<(), UploadError> {
        self.partials.remove(upload)
    }

    /// Removes the file or link of this name. Waits for the disk.
    pub fn delete(
        &self,
        name: &Name,
        precondition: Option<Precondition<'_>>,
        limits: &UploadLimits,
    ) -> Result<(), UploadError> {
        self.names.delete(name, precondition, limits)
    }

    /// Returns the bytes of the longest upload, by the settings and by what the process may write.
    pub(super) fn upload_bytes_max(&self, limits: &UploadLimits) -> u64 {
        limits.upload_bytes_max.min(self.file_bytes_max)
    }

    pub(super) fn check_length(&self, length: Option<u64>, limits: &UploadLimits) -> Result<(), UploadError> {
        let limit = self.upload_bytes_max(limits);
        if length.is_some_and(|length| length > limit) {
            Err(UploadError::TooLarge { limit })
        } else {
            Ok(())
        }
    }
}
