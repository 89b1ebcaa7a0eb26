//! The writer of a partial.

use std::sync::Arc;
use std::time::Instant;

use rustix::io::{Errno, pread, retry_on_intr};

use super::super::digest::{Algorithms, Digests, Hashers};
use super::buffers::DirectBuffer;
use super::destination::Destination;
use super::error::UploadError;
use super::limits::{CHECKPOINT_BYTES, KEPT_BYTES_MIN, UploadLimits};
use super::partial::{Partial, State, Way};
use super::uploads::Uploads;
use crate::protocol::name::{UploadId, UploadResource};

/// Bytes that are read at once for a digest that comes behind the body.
const READ_BYTES: usize = 256 << 10;

/// The right to append to a partial, until another writer takes over. Every call but [`Writer::offset`] and the
/// other getters may wait for the disk; so does dropping it, which keeps the partial ([`Writer::keep`]).
#[derive(Debug)]
pub struct Writer {
    pub(super) uploads: Arc<Uploads>,
    pub(super) partial: Arc<Partial>,
    pub(super) destination: Destination,
    pub(super) lease: u64,
    pub(super) limits: UploadLimits,
    /// The offset at which this writer began.
    pub(super) start: u64,
    /// The hashers of the bytes since `start`.
    pub(super) hashers: Hashers,
    /// The bytes that this writer wrote past the page cache.
    pub(super) direct_bytes: u64,
    /// Whether the upload was kept, discarded or published.
    pub(super) is_over: bool,
}

/// The state of a partial whose writer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The bytes that had come.
    pub offset: u64,
    /// Whether they are still there, to be continued.
    pub is_resumable: bool,
}

impl Writer {
    /// Returns the id of the upload.
    pub fn id(&self) -> UploadId {
        self.partial.id
    }

    /// Returns the upload's name until it gets the destination's.
    pub fn resource(&self) -> UploadResource {
        self.partial.resource()
    }

    /// Returns how many bytes of the upload have come.
    pub fn offset(&self) -> u64 {
        self.partial.offset()
    }

    /// Returns the length of the whole upload, if that is known.
    pub fn length(&self) -> Option<u64> {
        self.partial.length()
    }

    /// Returns the text that was noted when the upload began ([`Plan::note`](super::Plan::note)).
    pub fn note(&self) -> &str {
        &self.partial.note
    }

    /// Computes digests by these algorithms while the bytes pass; must be called before the first of them.
    pub fn hash(&mut self, algorithms: Algorithms) {
        if self.offset() == self.start {
            self.hashers = Hashers::new(self.hashers.digests().algorithms().union(algorithms));
        }
    }

    /// Notes that bytes arrive, though not yet enough to be written: a slow sender isn't a stalled one.
    pub fn touch(&self) -> Result<(), UploadError> {
        self.partial.lock().of_writer(self.lease)?.last_progress = Instant::now();
        Ok(())
    }

    /// Appends `bytes`. A system's error ends the upload for good and gives its space back; so does reaching the
    /// reserve of free space.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        self.append(bytes, Way::Cached)
    }

    /// Returns buffers for a body with `left` bytes to come, where these are enough to be written past the page
    /// cache, the file system takes them so, and there are buffers left. With the first one filled, the next
    /// begins at an aligned offset.
    pub fn direct_buffers(&self, left: u64) -> Option<[DirectBuffer; 2]> {
        if self.limits.direct_bytes_min == 0 || left < self.limits.direct_bytes_min {
            return None;
        }
        let mut state = self.partial.lock();
        let active = state.of_writer(self.lease).ok()?;
        let alignment = active.direct(self.partial.id)?.alignment();
        self.uploads.buffers.lend(usize::try_from(active.file.length() % alignment).ok()?)
    }

    /// Writes as [`Writer::write`] does, but past the page cache, except for what isn't aligned. The buffer is
    /// empty afterwards.
    pub fn write_direct(&mut self, buffer: &mut DirectBuffer) -> Result<(), UploadError> {
        let written = self.append(buffer.bytes(), Way::Direct);
        buffer.clear();
        written
    }

    /// Returns how many bytes this writer wrote past the page cache.
    pub fn direct_bytes(&self) -> u64 {
        self.direct_bytes
    }

    fn append(&mut self, bytes: &[u8], way: Way) -> Result<(), UploadError> {
        let partial = &self.partial;
        let mut state = partial.lock();
        let active = state.of_writer(self.lease)?;
        let end = active.file.length().saturating_add(bytes.len() as u64);
        if let Some(expected) = partial.length().filter(|length| *length < end) {
            return Err(UploadError::LengthConflict { expected, provided: end });
        }
        if end > self.limits.upload_bytes_max {
            return Err(UploadError::TooLarge { limit: self.limits.upload_bytes_max });
        }
        let appended = active.append(bytes, way, partial.length(), &self.limits);
        let noted = appended.and_then(|direct| self.note_progress(&mut state, end).map(|()| direct));
        match noted {
            Ok(direct) => self.direct_bytes += direct,
            Err(error) => {
                self.is_over = true;
                self.uploads.partials.remove_locked(partial, &mut state);
                return Err(error);
            }
        }
        drop(state);
        self.hashers.update(bytes);
        Ok(())
    }

    /// Updates the state after the upload has come to `end` bytes, and syncs a checkpoint where one is due.
    fn note_progress(&self, state: &mut State, end: u64) -> Result<(), UploadError> {
        self.partial.set_offset(end);
        if self.limits.is_durable && state.is_described && end - state.durable >= CHECKPOINT_BYTES {
            let active = state.of_writer(self.lease)?;
            active.file.sync().map_err(UploadError::at("fsync of an upload"))?;
            state.durable = end;
            self.partial.describe(state, &self.uploads.partials.boot);
        }
        Ok(())
    }

    /// Compares the digests of the bytes that this writer has written; those that [`Writer::hash`] wasn't told of
    /// are computed from the file. Where they differ, these bytes are taken back, and the upload has as many as
    /// before.
    pub fn check_content(&mut self, expected: &Digests) -> Result<(), UploadError> {
        let passed = self.hashers.digests();
        let missing = expected.algorithms().without(passed.algorithms());
        let computed = if missing.is_empty() { passed } else { passed.or(&self.read_digests(missing)?) };
        match computed.mismatch(expected) {
            Some(algorithm) => {
                self.take_back()?;
                Err(UploadError::DigestMismatch { algorithm, computed, is_of_request: true })
            }
            None => Ok(()),
        }
    }

    /// Computes the digests of the bytes that this writer has written, out of the file.
    fn read_digests(&self, algorithms: Algorithms) -> Result<Digests, UploadError> {
        let failed = UploadError::at("reading an upload");
        let mut state = self.partial.lock();
        let file = &state.of_writer(self.lease)?.file;
        let (mut hashers, mut offset) = (Hashers::new(algorithms), self.start);
        let mut buffer = vec![0; READ_BYTES];
        while offset < file.length() {
            let wanted = usize::try_from(file.length() - offset).unwrap_or(usize::MAX).min(buffer.len());
            match retry_on_intr(|| pread(file, &mut buffer[..wanted], offset)).map_err(failed)? {
                0 => return Err(failed(Errno::IO)),
                count => {
                    hashers.update(&buffer[..count]);
                    offset += count as u64;
                }
            }
        }
        Ok(hashers.digests())
    }

    /// Notes digests of the whole content that came with this part; where earlier parts named others, the bytes
    /// that this writer has written are taken back.
    pub fn promise(&mut self, digests: &Digests) -> Result<(), UploadError> {
        let noted = self.partial.promise(digests);
        if noted.is_err() {
            self.take_back()?;
        }
        noted
    }

    /// Takes back the bytes that this writer has written.
    pub fn take_back(&mut self) -> Result<(), UploadError> {
        let mut state = self.partial.lock();
        let active = state.of_writer(self.lease)?;
        active.truncate(self.start)?;
        state.durable = state.durable.min(self.start);
        self.partial.set_offset(self.start);
        self.hashers = Hashers::new(self.hashers.digests().algorithms());
        Ok(())
    }

    /// Ends the writing of an upload that isn't complete. The bytes that have come stay until the upload is
    /// continued or swept, and blocks allocated ahead are given back. A plain PUT of unknown length or with less
    /// than a MiB is removed, since it can't or needn't be continued. With durability the kept bytes are synced.
    pub fn keep(mut self) -> Result<Kept, UploadError> {
        self.keep_now()
    }

    fn keep_now(&mut self) -> Result<Kept, UploadError> {
        self.is_over = true;
        let mut state = self.partial.lock();
        let offset = state.of_writer(self.lease)?.file.length();
        if !self.is_worth_keeping(offset) {
            self.uploads.partials.remove_locked(&self.partial, &mut state);
            return Ok(Kept { offset, is_resumable: false });
        }
        self.uploads.partials.suspend(&self.partial, &mut state, &self.limits)?;
        drop(state);
        if !self.partial.is_resource {
            self.uploads
                .partials
                .remove_oldest(self.partial.destination.as_bytes(), self.limits.uploads_per_destination_max);
        }
        Ok(Kept { offset, is_resumable: true })
    }

    fn is_worth_keeping(&self, offset: u64) -> bool {
        if self.partial.is_resource {
            return true;
        }
        if self.partial.is_kept_short() {
            return offset > 0;
        }
        self.partial.length().is_some() && offset >= KEPT_BYTES_MIN && !self.uploads.partials.index.is_full()
    }

    /// Ends the upload and removes its bytes.
    pub fn discard(mut self) {
        self.is_over = true;
        let mut state = self.partial.lock();
        if state.of_writer(self.lease).is_ok() {
            self.uploads.partials.remove_locked(&self.partial, &mut state);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = self.keep_now()
            && error != UploadError::TakenOver
        {
            tracing::warn!(upload = %self.partial.id, %error, "an upload that was cut short could not be kept");
        }
    }
}
