//! Parts of an upload that name their destination, and the question whose they are.
//!
//! A part continues the upload that its sender can prove to have begun, by its id or by the digest of the whole
//! content; the latter is compared again before anything is published. A part without proof continues where there
//! is one upload of its name and length, and nobody else may have sent it ([`claims`]).

use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};

use super::super::digest::Digests;
use super::begin::Continued;
use super::claims;
use super::destination::Destination;
use super::error::UploadError;
use super::limits::UploadLimits;
use super::metadata::Metadata;
use super::partial::Partial;
use super::plan::Plan;
use super::staging::StagingDirectory;
use super::uploads::Uploads;
use super::writer::Writer;
use crate::protocol::name::{Name, UploadId, UploadResource};

/// A part of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The offset of its first byte.
    pub first: u64,
    /// The offset of the byte after it.
    pub end: u64,
    /// The upload that the part names, if it names one.
    pub upload: Option<UploadId>,
}

/// A staging directory, and the directory that it lies in, which is None for the root.
type StagingOf = (StagingDirectory, Option<Box<[u8]>>);

/// A client that got the answer to its last part, or may repeat it ([`Uploads::await_repeat`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MayRepeat(claims::Serial);

impl Uploads {
    /// Continues the upload to a destination, or begins it at offset 0.
    pub fn take_part(
        self: &Arc<Self>,
        plan: &Plan,
        part: &Part,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        self.check_length(plan.length, limits)?;
        let mut writer = match part.upload {
            Some(id) => self.go_on_by_id(id, plan, part, limits),
            None if part.first == 0 => self.begin_part(plan, part, limits),
            None => self.go_on_by_name(plan, part, limits),
        }?;
        writer.promise(&plan.digests)?;
        writer.partial.note_part(part.first, part.end);
        Ok(writer)
    }

    /// Notes that a part at `offset`, which named no upload, led to a publication: until its client is known to
    /// have the answer, it may send that part once more.
    pub fn await_repeat(&self, destination: &Name, length: u64, offset: u64) -> MayRepeat {
        MayRepeat(self.partials.claims.make_ended(destination, Some(length), vec![offset]))
    }

    /// Notes that the client has its answer and won't repeat the part.
    pub fn forget_repeat(&self, client: MayRepeat) {
        self.partials.claims.settle(client.0);
    }

    fn begin_part(
        self: &Arc<Self>,
        plan: &Plan,
        part: &Part,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        let begun = self.check_idle(plan, limits).and_then(|()| self.start(plan, Continued::Ranged, limits));
        if begun.is_err() {
            // The claim is made since the client may send the next part without looking at the answer.
            self.partials.claims.make_ended(&plan.destination, plan.length, vec![part.end]);
        }
        begun
    }

    /// Refuses to begin anew while a part of an upload of this name is on its way. Those that wait to be continued
    /// stay: their clients can prove that they are theirs.
    fn check_idle(&self, plan: &Plan, limits: &UploadLimits) -> Result<(), UploadError> {
        let is_busy = |partial: &Arc<Partial>| {
            let is_part = !partial.is_resource && partial.is_kept_short();
            is_part && partial.try_lock().is_none_or(|state| state.is_busy(limits.stall))
        };
        let uploads = self.partials.index.of_destination(plan.destination.as_bytes());
        if uploads.iter().any(is_busy) { Err(UploadError::Busy) } else { Ok(()) }
    }

    fn go_on_by_id(
        self: &Arc<Self>,
        id: UploadId,
        plan: &Plan,
        part: &Part,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        let destination = self.storage.resolve(&plan.destination, limits)?;
        let partial = self.find_or_adopt(id, &destination)?;
        if partial.is_resource || !self.is_same(&destination, &partial.destination) {
            return Err(UploadError::Unknown);
        }
        if let (Some(expected), Some(provided)) = (partial.length(), plan.length)
            && expected != provided
        {
            return Err(UploadError::LengthConflict { expected, provided });
        }
        if part.first > 0 || partial.offset() == 0 {
            let taken = self.take(&partial, part.first, plan.length, limits);
            return taken.map_err(|error| error.or_if_gone(UploadError::Unknown));
        }
        let mut state = partial.try_lock().ok_or(UploadError::Busy)?;
        if state.is_busy(limits.stall) {
            return Err(UploadError::Busy);
        }
        // The upload's own client begins anew, and gives up what had come.
        self.partials.remove_locked(&partial, &mut state);
        self.partials.claims.settle(partial.claim);
        drop(state);
        self.start(plan, Continued::Ranged, limits)
    }

    /// Finds a partial by its id, also where another daemon on this root began it.
    fn find_or_adopt(&self, id: UploadId, destination: &Destination) -> Result<Arc<Partial>, UploadError> {
        if let Some(partial) = self.partials.index.find(id) {
            return Ok(partial);
        }
        let resources =
            [UploadResource::of_root(id), UploadResource::beside(destination.directory_path(), id)];
        if resources.iter().any(|resource| self.partials.index.completed(resource).is_some()) {
            return Err(UploadError::Completed);
        }
        for (staging, beside) in self.stagings_of(destination)? {
            self.adopt_one(&staging, beside.as_deref(), id)?;
            if let Some(partial) = self.partials.index.find(id) {
                return Ok(partial);
            }
        }
        Err(UploadError::Unknown)
    }

    fn go_on_by_name(
        self: &Arc<Self>,
        plan: &Plan,
        part: &Part,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        let destination = self.storage.resolve(&plan.destination, limits)?;
        let provided = part.first;
        let mut candidates = self.candidates(&destination, plan.length);
        // A partial whose digests differ has another content.
        candidates.retain(|partial| !differ(&plan.digests, &partial.promised()));
        let proved = |partial: &&Arc<Partial>| are_alike(&plan.digests, &partial.promised());
        if candidates.iter().any(|partial| proved(&partial)) {
            return self.take_first(candidates.iter().filter(proved), plan, provided, limits);
        }
        match &candidates[..] {
            [] => Err(UploadError::WrongOffset { expected: 0, provided }),
            [partial] => self.go_on_unproved(partial, &destination, part, limits),
            _ => Err(UploadError::Unproved),
        }
    }

    /// Continues the one upload that exists, if nobody else could have sent the part. A client that asks where to
    /// go on, by a part without bytes or at another offset, goes on where the answer says, so nobody else may be
    /// able to go on there either.
    fn go_on_unproved(
        self: &Arc<Self>,
        partial: &Arc<Partial>,
        destination: &Destination,
        part: &Part,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        let offset = (part.first < part.end).then_some(part.first);
        if self.is_contested(destination, partial, offset)? {
            return Err(UploadError::Unproved);
        }
        match self.take(partial, part.first, None, limits) {
            Err(UploadError::WrongOffset { .. }) if self.is_contested(destination, partial, None)? => {
                Err(UploadError::Unproved)
            }
            // Another daemon has published or removed it.
            result => result.map_err(|error| {
                error.or_if_gone(UploadError::WrongOffset { expected: 0, provided: part.first })
            }),
        }
    }

    /// Continues the first of these uploads that has all bytes before the part.
    fn take_first<'p>(
        self: &Arc<Self>,
        candidates: impl Iterator<Item = &'p Arc<Partial>>,
        plan: &Plan,
        provided: u64,
        limits: &UploadLimits,
    ) -> Result<Writer, UploadError> {
        let (mut expected, mut is_busy) = (None, false);
        for partial in candidates {
            match self.take(partial, provided, plan.length, limits) {
                Err(UploadError::WrongOffset { expected: there, .. }) => expected = expected.max(Some(there)),
                Err(UploadError::Busy) => is_busy = true,
                Err(UploadError::NotFound) => {}
                result => return result,
            }
        }
        match expected {
            None if is_busy => Err(UploadError::Busy),
            expected => Err(UploadError::WrongOffset { expected: expected.unwrap_or(0), provided }),
        }
    }

    /// Returns the uploads of one length that are continued by their name and have this destination, by whatever
    /// name.
    fn candidates(&self, destination: &Destination, length: Option<u64>) -> Vec<Arc<Partial>> {
        let mut candidates = self.partials.index.all();
        candidates.retain(|partial| !partial.is_resource && partial.length() == length);
        candidates.retain(|partial| self.is_same(destination, &partial.destination));
        candidates
    }

    /// Whether a part without proof that begins at `offset` may belong to another upload than this one; without an
    /// offset, whether a question where to go on may.
    fn is_contested(
        &self,
        destination: &Destination,
        partial: &Partial,
        offset: Option<u64>,
    ) -> Result<bool, UploadError> {
        let length = partial.length();
        let mut rivals = self.partials.claims.rivals(partial.claim, length, offset);
        rivals.retain(|rival| self.is_same(destination, &rival.destination));
        // A client that only asks learns nothing and changes nothing, so it doesn't count as active.
        for rival in rivals.iter().filter(|_| offset.is_some()) {
            self.partials.claims.surface(rival.serial);
        }
        Ok(!rivals.is_empty() || self.has_strangers(destination, length)?)
    }

    /// Whether another daemon has an upload of this destination and length.
    fn has_strangers(&self, destination: &Destination, length: Option<u64>) -> Result<bool, UploadError> {
        for (staging, _) in self.stagings_of(destination)? {
            let (ids, is_partway) = staging.ids()?;
            let is_rival = |id: &UploadId| {
                self.partials.index.find(*id).is_none() && self.is_of(&staging, *id, destination, length)
            };
            // Entries that weren't looked at may be rivals too.
            if is_partway || ids.iter().any(is_rival) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_of(
        &self,
        staging: &StagingDirectory,
        id: UploadId,
        destination: &Destination,
        length: Option<u64>,
    ) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = openat(staging, id.to_string(), flags, Mode::empty()) else { return false };
        let Some(metadata) = Metadata::load(&file) else { return false };
        let is_long_as_this = metadata.length.is_none() || metadata.length == length;
        let name = Name::of_text(&metadata.destination);
        !metadata.is_resource && is_long_as_this && name.is_some_and(|name| self.is_same(destination, &name))
    }

    /// Whether another name means this destination too: links may lead to its directory. Waits for the disk.
    fn is_same(&self, destination: &Destination, other: &Name) -> bool {
        if destination.has_name(other) {
            return true;
        }
        // A different last segment means another file, however the directory is reached.
        destination.has_leaf_of(other)
            && Destination::resolve_existing(&self.storage.root, other)
                .is_ok_and(|other| destination.is(&other))
    }

    /// Returns the staging directories in which partials of this destination may lie, each with the directory that
    /// has it.
    fn stagings_of(&self, destination: &Destination) -> Result<Vec<StagingOf>, UploadError> {
        let of_root = StagingDirectory::open(self.storage.root.directory())?.map(|staging| (staging, None));
        let is_root = destination.directory_path() == b".";
        let beside = if is_root { None } else { StagingDirectory::open(destination.directory())? };
        let beside = beside.map(|staging| (staging, Some(destination.directory_path().into())));
        Ok(of_root.into_iter().chain(beside).collect())
    }
}

/// Whether these digests show two contents.
fn differ(digests: &Digests, others: &Digests) -> bool {
    others.to_fields().iter().any(|digest| digests.contradict(digest))
}

/// Whether these digests show one content.
fn are_alike(digests: &Digests, others: &Digests) -> bool {
    let algorithms = digests.algorithms();
    algorithms.without(others.algorithms()) != algorithms && !differ(digests, others)
}
