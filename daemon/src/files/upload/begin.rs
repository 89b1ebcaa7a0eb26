//! A writer begins: with an empty partial, or with one that is there.

use std::sync::Arc;
use std::time::Instant;

use rustix::fs::fstat;
use rustix::io::Errno;

use super::super::digest::{Algorithms, Hashers};
use super::super::unpublished::Unpublished;
use super::destination::Destination;
use super::error::UploadError;
use super::home::Home;
use super::limits::{KEPT_BYTES_MIN, UploadLimits};
use super::partial::{Active, Described, Partial, State};
use super::writer::Writer;
use super::{Kind, Plan, Uploads};
use crate::protocol::name::{Name, UploadId};

impl Uploads {
    /// Begins an upload with an empty partial.
    pub(super) fn start(
        self: &Arc<Self>,
        plan: &Plan,
        kind: Kind,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        self.check_length(plan.length, limits)?;
        let slot = self.index.admit(plan.destination.as_str(), limits)?;
        // Until the home lies in the directory, if it has to.
        let held = self.directories.hold();
        let destination = self.resolve(&plan.destination, limits)?;
        destination.check()?;
        let is_beside =
            destination.mount != self.home_mount || self.homes.contains(destination.directory_path());
        let home = if is_beside {
            self.home_beside(&destination)?
        } else {
            Home::open_or_create(self.root.directory())?
        };
        drop(held);
        let id = random_id()?;
        let file = home.create(id, limits.is_durable)?;
        let described = Described {
            destination: plan.destination.clone(),
            is_resource: kind == Kind::Resource,
            beside: is_beside.then(|| destination.directory_path().into()),
            promised: plan.digests,
            note: plan.note.as_str().into(),
            length: plan.length,
        };
        let partial = Arc::new(Partial::new(id, described, kind != Kind::Whole));
        let lease = partial.lock().lend(Active::new(file, home, slot));
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
        let slot = self.index.admit(partial.destination.as_str(), limits)?;
        let home = self.home_of(partial)?;
        let file = home.as_ref().map_or(Ok(None), |home| home.lock(partial.id))?;
        let (Some(home), Some(file)) = (home, file) else {
            // Published or removed by another daemon, or from outside.
            self.index.forget(partial);
            state.end();
            return Err(UploadError::NotFound);
        };
        let failed = UploadError::at("looking at an upload");
        let size = u64::try_from(fstat(&file).map_err(failed)?.st_size).unwrap_or(0);
        // The file is right: another daemon may have gone on with it.
        partial.set_offset(size);
        state.durable = state.durable.min(size);
        Ok(Active::new(Unpublished::with_length(file, size, limits.is_durable), home, slot))
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
                partial.promised.algorithms()
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

    /// Makes room for a new start of the upload to a destination: one that waits to be continued goes, and so does
    /// one that is written to by its ranges but stalled. A plain PUT under way is another upload and stays.
    pub(super) fn remove_former(&self, partial: &Partial, limits: &UploadLimits) -> Result<(), UploadError> {
        if !partial.is_kept_short() {
            return Ok(());
        }
        let mut state = partial.try_lock().ok_or(UploadError::Busy)?;
        match &state.active {
            _ if state.is_gone => Ok(()),
            Some(active) if active.last_progress.elapsed() < limits.stall => Err(UploadError::Busy),
            _ => {
                self.remove_locked(partial, &mut state);
                Ok(())
            }
        }
    }
}

/// An id that nobody guesses.
fn random_id() -> Result<UploadId, UploadError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| UploadError::Failed { step: "choosing a name", reason: Errno::IO })?;
    Ok(UploadId(u128::from_ne_bytes(bytes)))
}

impl Writer {
    /// What has to be done before the first byte.
    fn prepare(&self) -> Result<(), UploadError> {
        let mut state = self.partial.lock();
        state.of_writer(self.lease)?.reserve(self.partial.length(), &self.limits)?;
        // Before the first byte: a daemon that is killed leaves nothing that it couldn't go on with.
        if self.partial.is_kept_short() || self.partial.length() >= Some(KEPT_BYTES_MIN) {
            self.partial.describe(&mut state, &self.uploads.boot);
        }
        Ok(())
    }
}
