//! The beginning of a writer: with an empty partial, or with one that exists.

use std::sync::Arc;
use std::time::Instant;

use super::super::digest::{Algorithms, Hashers};
use super::super::free_space::Room;
use super::super::mounts::MountId;
use super::admission::Slot;
use super::admitted::Admitted;
use super::ahead::Ahead;
use super::claims;
use super::destination::Destination;
use super::error::UploadError;
use super::ids::random_id;
use super::limits::{KEPT_BYTES_MIN, UploadLimits};
use super::partial::{Active, Described, Partial};
use super::plan::Plan;
use super::uploads::Uploads;
use super::writer::Writer;
use crate::protocol::name::UploadResource;

/// How a new upload can be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continued {
    /// A plain PUT: by its destination, if much of it has arrived.
    Whole,
    /// A ranged PUT: by its destination, and its sender says at which byte.
    Ranged,
    /// A resumable upload: by its id.
    Resource,
}

/// The place that a new writer takes among those that may write.
enum Place {
    Free(Slot),
    /// The place of an admitted upload, which has a claim already.
    Admitted(Admitted),
}

impl Uploads {
    /// Begins a plain PUT: the whole content in one request.
    pub fn begin(self: &Arc<Self>, plan: &Plan, limits: &UploadLimits) -> Result<Writer, UploadError> {
        self.start(plan, Continued::Whole, limits)
    }

    /// Begins an upload that is continued by its id.
    pub fn create(self: &Arc<Self>, plan: &Plan, limits: &UploadLimits) -> Result<Writer, UploadError> {
        self.start(plan, Continued::Resource, limits)
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
        let partial = self.partials.find(upload)?;
        self.check_length(length, limits)?;
        self.take(&partial, offset, length, limits)
    }

    /// Begins an upload with an empty partial.
    pub(super) fn start(
        self: &Arc<Self>,
        plan: &Plan,
        continued: Continued,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        self.check_length(plan.length, limits)?;
        let slot = self.partials.admission.admit(plan.destination.as_bytes(), plan.mount, limits)?;
        self.start_in(plan, continued, Place::Free(slot), limits)
    }

    /// Begins a plain PUT that was admitted before.
    pub fn begin_admitted(
        self: &Arc<Self>,
        admitted: Admitted,
        plan: &Plan,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        self.start_in(plan, Continued::Whole, Place::Admitted(admitted), limits)
    }

    fn start_in(
        self: &Arc<Self>,
        plan: &Plan,
        continued: Continued,
        place: Place,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        // Directories are held until the staging directory lies in one of them, if it has to.
        let held = self.names.directories.hold();
        let destination = self.storage.resolve(&plan.destination, limits)?;
        destination.check()?;
        let is_beside = destination.mount != self.storage.staging_mount
            || self.storage.staging_directories.contains(destination.directory_path());
        let staging = if is_beside {
            self.storage.staging_beside(&destination)?
        } else {
            self.storage.root_staging()?
        };
        drop(held);
        let space = self.storage.space_of(destination.mount);
        // The check comes first, so that an upload without room for all of it leaves not even a file.
        let inodes = 1 + destination.directories_missing();
        space.check(&staging, Room { bytes: plan.length.unwrap_or(0), inodes }, limits.reserve())?;
        let room = space.admit(&staging, Room { bytes: 0, inodes: 1 }, limits.reserve())?;
        let id = random_id()?;
        let file = self.storage.membership.create(&staging, id, &destination, limits.is_durable)?;
        drop(room);
        let (slot, claim) = match (place, continued) {
            (Place::Admitted(admitted), _) => admitted.into_partial(),
            (Place::Free(slot), Continued::Resource) => (slot, claims::NONE),
            (Place::Free(slot), _) => (slot, self.partials.claims.make(&plan.destination, plan.length)),
        };
        let described = Described {
            destination: plan.destination.clone(),
            is_resource: continued == Continued::Resource,
            claim,
            beside: is_beside.then(|| destination.directory_path().into()),
            promised: plan.digests,
            note: plan.note.as_str().into(),
            length: plan.length,
        };
        let partial = Arc::new(Partial::new(id, described, continued != Continued::Whole));
        let ahead = Ahead::new(space, &self.partials.bytes_ahead);
        let lease = partial.lock().lend(Active::new(file, staging, slot, ahead));
        let writer = self.writer(&partial, destination, lease, limits);
        if let Err(error) = self.partials.index.insert(&partial).and_then(|()| writer.prepare()) {
            writer.discard();
            return Err(error);
        }
        Ok(writer)
    }

    /// Makes a writer for a partial that has none, or whose writer made no progress for too long.
    pub(super) fn take(
        self: &Arc<Self>,
        partial: &Arc<Partial>,
        offset: u64,
        length: Option<u64>,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        let destination = self.storage.resolve(&partial.destination, limits)?;
        destination.check()?;
        let mut state = partial.try_lock().ok_or(UploadError::Busy)?;
        if state.is_gone {
            return Err(UploadError::NotFound);
        }
        let active = match &state.active {
            Some(active) if active.last_progress.elapsed() < limits.stall => return Err(UploadError::Busy),
            Some(_) => None,
            None => {
                let mount = MountId::of(destination.directory());
                Some(self.partials.open_left(partial, &mut state, mount, limits)?)
            }
        };
        let expected = partial.offset();
        if offset != expected {
            return Err(UploadError::WrongOffset { expected, provided: offset });
        }
        if let Some(provided) = length {
            if provided < expected {
                return Err(UploadError::LengthConflict { expected, provided });
            }
            partial.set_length(provided)?;
        }
        let Some(mut active) = active.or_else(|| state.active.take()) else {
            return Err(UploadError::NotFound);
        };
        active.last_progress = Instant::now();
        partial.keep_short();
        let lease = state.lend(active);
        drop(state);
        let writer = self.writer(partial, destination, lease, limits);
        writer.prepare()?;
        Ok(writer)
    }

    fn writer(
        self: &Arc<Self>,
        partial: &Arc<Partial>,
        destination: Destination,
        lease: u64,
        limits: &UploadLimits,
    ) -> Writer {
        let upload_bytes_max = self.upload_bytes_max(limits);
        let start = partial.offset();
        Writer {
            uploads: Arc::clone(self),
            partial: Arc::clone(partial),
            destination,
            lease,
            limits: UploadLimits { upload_bytes_max, ..*limits },
            start,
            hashers: Hashers::new(if start == 0 {
                partial.promised().algorithms()
            } else {
                Algorithms::default()
            }),
            direct_bytes: 0,
            is_over: false,
        }
    }
}

impl Writer {
    /// Makes room and describes the partial before the first byte.
    fn prepare(&self) -> Result<(), UploadError> {
        let mut state = self.partial.lock();
        let active = state.of_writer(self.lease)?;
        active.ahead.begin(&mut active.file, self.partial.length(), self.limits.reserve())?;
        active.ahead.note(active.file.length());
        // The description is written before the first byte: a daemon that is killed then leaves nothing that it
        // couldn't go on with.
        if self.partial.is_kept_short() || self.partial.length() >= Some(KEPT_BYTES_MIN) {
            self.partial.describe(&mut state, &self.uploads.partials.boot);
        }
        Ok(())
    }
}
