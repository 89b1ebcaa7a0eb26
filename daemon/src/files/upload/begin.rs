//! A writer begins: with an empty partial, or with one that is there.

use std::sync::Arc;
use std::time::Instant;

use rustix::fs::fstat;
use rustix::io::Errno;

use super::super::digest::{Algorithms, Hashers};
use super::super::free_space::Room;
use super::super::unpublished::Unpublished;
use super::admission::Slot;
use super::admitted::Admitted;
use super::ahead::Ahead;
use super::destination::{Destination, identify};
use super::error::UploadError;
use super::limits::{KEPT_BYTES_MIN, UploadLimits};
use super::partial::{Active, Described, Partial, State};
use super::writer::Writer;
use super::{Kind, Plan, Uploads, claims};
use crate::protocol::name::{Name, UploadId};

/// A writer's place among those that may be.
enum Place {
    Free(Slot),
    /// With a claim already.
    Admitted(Admitted),
}

impl Uploads {
    /// Begins an upload with an empty partial.
    pub(super) fn start(
        self: &Arc<Self>,
        plan: &Plan,
        kind: Kind,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        self.check_length(plan.length, limits)?;
        let slot = self.admission.admit(plan.destination.as_str(), limits)?;
        self.start_in(plan, kind, Place::Free(slot), limits)
    }

    /// Begins a plain PUT that was let in before.
    pub fn begin_admitted(
        self: &Arc<Self>,
        admitted: Admitted,
        plan: &Plan,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        self.start_in(plan, Kind::Whole, Place::Admitted(admitted), limits)
    }

    fn start_in(
        self: &Arc<Self>,
        plan: &Plan,
        kind: Kind,
        place: Place,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        // Until the home lies in the directory, if it has to.
        let held = self.directories.hold();
        let destination = self.resolve(&plan.destination, limits)?;
        destination.check()?;
        let is_beside =
            destination.mount != self.home_mount || self.homes.contains(destination.directory_path());
        let home = if is_beside { self.home_beside(&destination)? } else { self.root_home()? };
        drop(held);
        let space = self.space_of(destination.mount);
        // Whoever announces more than there is room for leaves not even a file.
        let inodes = 1 + destination.directories_missing();
        space.check(&home, Room { bytes: plan.length.unwrap_or(0), inodes }, limits.reserve())?;
        let room = space.admit(&home, Room { bytes: 0, inodes: 1 }, limits.reserve())?;
        let id = random_id()?;
        let file = self.membership.create(&home, id, &destination, limits.is_durable)?;
        drop(room);
        let (slot, claim) = match (place, kind) {
            (Place::Admitted(admitted), _) => admitted.into_partial(),
            (Place::Free(slot), Kind::Resource) => (slot, claims::NONE),
            (Place::Free(slot), _) => (slot, self.claims.make(&plan.destination, plan.length)),
        };
        let described = Described {
            destination: plan.destination.clone(),
            is_resource: kind == Kind::Resource,
            claim,
            beside: is_beside.then(|| destination.directory_path().into()),
            promised: plan.digests,
            note: plan.note.as_str().into(),
            length: plan.length,
        };
        let partial = Arc::new(Partial::new(id, described, kind != Kind::Whole));
        let ahead = Ahead::new(space, &self.bytes_ahead);
        let lease = partial.lock().lend(Active::new(file, home, slot, ahead));
        let writer = self.writer(&partial, destination, lease, limits);
        if let Err(error) = self.index.insert(&partial).and_then(|()| writer.prepare()) {
            writer.discard();
            return Err(error);
        }
        Ok(writer)
    }

    /// Makes a writer for a partial that has none, or one that made no progress for too long.
    pub(super) fn take(
        self: &Arc<Self>,
        partial: &Arc<Partial>,
        offset: u64,
        length: Option<u64>,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        let destination = self.resolve(&partial.destination, limits)?;
        destination.check()?;
        let mut state = partial.try_lock().ok_or(UploadError::Busy)?;
        if state.is_gone {
            return Err(UploadError::NotFound);
        }
        let active = match &state.active {
            Some(active) if active.last_progress.elapsed() < limits.stall => return Err(UploadError::Busy),
            Some(_) => None,
            None => Some(self.open_left(partial, &mut state, limits)?),
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

    /// Opens the file of a partial that has no writer.
    fn open_left(
        &self,
        partial: &Arc<Partial>,
        state: &mut State,
        limits: &UploadLimits,
    ) -> Result<Active, UploadError> {
        let slot = self.admission.admit(partial.destination.as_str(), limits)?;
        let home = self.home_of(partial)?;
        let file = home.as_ref().map_or(Ok(None), |home| home.lock_patiently(partial.id))?;
        let (Some(home), Some(file)) = (home, file) else {
            // Published or removed by another daemon, or from outside.
            self.index.forget(partial);
            self.claims.end(partial.claim, partial.offsets_to_go_on());
            state.end();
            return Err(UploadError::NotFound);
        };
        let failed = UploadError::at("looking at an upload");
        let size = u64::try_from(fstat(&file).map_err(failed)?.st_size).unwrap_or(0);
        // The file is right: another daemon may have gone on with it.
        partial.set_offset(size);
        state.durable = state.durable.min(size);
        let (_, mount, _) = identify(&home).map_err(failed)?;
        let ahead = Ahead::new(self.space_of(mount), &self.bytes_ahead);
        Ok(Active::new(Unpublished::with_length(file, size, limits.is_durable), home, slot, ahead))
    }

    fn writer(
        self: &Arc<Self>,
        partial: &Arc<Partial>,
        destination: Destination,
        lease: u64,
        limits: &UploadLimits,
    ) -> Writer {
        let upload_bytes_max = limits.upload_bytes_max.min(self.file_bytes_max);
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

    pub(super) fn check_length(&self, length: Option<u64>, limits: &UploadLimits) -> Result<(), UploadError> {
        let limit = limits.upload_bytes_max.min(self.file_bytes_max);
        if length.is_some_and(|length| length > limit) {
            Err(UploadError::TooLarge { limit })
        } else {
            Ok(())
        }
    }

    pub(super) fn resolve(&self, name: &Name, limits: &UploadLimits) -> Result<Destination, UploadError> {
        let destination = Destination::resolve(&self.root, name, limits)?;
        // A link may lead into the home.
        if destination.key == self.home_key { Err(UploadError::NotFound) } else { Ok(destination) }
    }
}

/// An id that nobody guesses.
pub(super) fn random_id() -> Result<UploadId, UploadError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| UploadError::Failed { step: "choosing a name", reason: Errno::IO })?;
    Ok(UploadId(u128::from_ne_bytes(bytes)))
}

impl Writer {
    /// What has to be done before the first byte.
    fn prepare(&self) -> Result<(), UploadError> {
        let mut state = self.partial.lock();
        let active = state.of_writer(self.lease)?;
        active.ahead.begin(&mut active.file, self.partial.length(), self.limits.reserve())?;
        active.ahead.note(active.file.length());
        // Before the first byte: a daemon that is killed leaves nothing that it couldn't go on with.
        if self.partial.is_kept_short() || self.partial.length() >= Some(KEPT_BYTES_MIN) {
            self.partial.describe(&mut state, &self.uploads.boot);
        }
        Ok(())
    }
}
