//! A partial: the bytes of an upload that isn't published.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::Stat;

use super::super::digest::Digests;
use super::super::direct::DirectFile;
use super::super::unpublished::Unpublished;
use super::admission::Slot;
use super::ahead::Ahead;
use super::claims::Serial;
use super::error::UploadError;
use super::limits::UploadLimits;
use super::metadata::Metadata;
use super::staging::StagingDirectory;
use crate::protocol::name::{Name, UploadId, UploadResource};

/// A partial. Its file is named by its id, and it has one writer at most, the one with the newest lease.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) id: UploadId,
    pub(super) destination: Name,
    /// Whether the partial is continued by its id alone.
    pub(super) is_resource: bool,
    /// The claim of its client, where it can be continued by its destination.
    pub(super) claim: Serial,
    /// The directory with its staging directory; None for the root.
    pub(super) beside: Option<Box<[u8]>>,
    /// The digests of the whole content, by all that came with its parts.
    promised: Mutex<Digests>,
    pub(super) note: Box<str>,
    /// The length of the whole upload, once that is known.
    length: OnceLock<u64>,
    /// The bytes that have come, readable without waiting for a write that is under way.
    offset: AtomicU64,
    /// Whether the partial is kept however short it is, since its sender was told so: true of all but a plain PUT
    /// that nobody has continued yet.
    is_kept_short: AtomicBool,
    /// The first byte and the announced end of the newest part that named the destination.
    last_first: AtomicU64,
    last_end: AtomicU64,
    state: Mutex<State>,
}

/// The part of a partial that changes under its lock.
#[derive(Debug)]
pub(super) struct State {
    lease: u64,
    /// The open files, while there is a writer.
    pub(super) active: Option<Active>,
    /// Whether the partial was published or removed: whoever waited for the lock comes too late.
    pub(super) is_gone: bool,
    /// Whether its file was described, or the attempt was made.
    pub(super) is_described: bool,
    /// The bytes that were synced.
    pub(super) durable: u64,
    /// When the partial last had a writer.
    pub(super) idle_since: SystemTime,
}

/// The files that a writer has open. They belong to the partial, so that a writer that takes over goes on with
/// them.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) file: Unpublished,
    pub(super) staging: StagingDirectory,
    pub(super) last_progress: Instant,
    pub(super) ahead: Ahead,
    direct: DirectWay,
    _slot: Slot,
}

/// Whether the file is open once more, for direct writes.
#[derive(Debug)]
enum DirectWay {
    /// Nobody has wanted it so far.
    Unasked,
    /// Its file system takes no direct writes.
    Refused,
    Open(DirectFile),
}

impl DirectWay {
    fn of(file: Option<DirectFile>) -> DirectWay {
        file.map_or(DirectWay::Refused, DirectWay::Open)
    }
}

/// The way by which bytes get into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Through the page cache.
    Cached,
    /// Past the page cache, as far as that can be.
    Direct,
}

/// The facts about a partial that stay the same for its whole life.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) destination: Name,
    pub(super) is_resource: bool,
    pub(super) claim: Serial,
    pub(super) beside: Option<Box<[u8]>>,
    pub(super) promised: Digests,
    pub(super) note: Box<str>,
    pub(super) length: Option<u64>,
}

impl Partial {
    pub(super) fn new(id: UploadId, described: Described, is_kept_short: bool) -> Partial {
        let Described { destination, is_resource, claim, beside, promised, note, length } = described;
        Partial {
            id,
            destination,
            is_resource,
            claim,
            beside,
            promised: Mutex::new(promised),
            note,
            length: length.map_or_else(OnceLock::new, OnceLock::from),
            offset: AtomicU64::new(0),
            is_kept_short: AtomicBool::new(is_kept_short),
            last_first: AtomicU64::new(0),
            last_end: AtomicU64::new(0),
            state: Mutex::new(State {
                lease: 0,
                active: None,
                is_gone: false,
                is_described: false,
                durable: 0,
                idle_since: SystemTime::now(),
            }),
        }
    }

    /// Makes a partial that an earlier run left, with `offset` bytes.
    pub(super) fn left(
        id: UploadId,
        (destination, metadata): (Name, Metadata),
        claim: Serial,
        beside: Option<Box<[u8]>>,
        offset: u64,
        idle_since: SystemTime,
    ) -> Partial {
        let described = Described {
            destination,
            is_resource: metadata.is_resource,
            claim,
            beside,
            promised: metadata.digests,
            note: metadata.note.into(),
            length: metadata.length,
        };
        let partial = Partial::new(id, described, true);
        partial.set_offset(offset);
        let mut state = partial.lock();
        state.idle_since = idle_since;
        state.is_described = true;
        state.durable = metadata.durable.min(offset);
        drop(state);
        partial
    }

    /// Returns the name of the upload until it gets the destination's.
    pub(super) fn resource(&self) -> UploadResource {
        match &self.beside {
            Some(directory) => UploadResource::beside(directory, self.id),
            None => UploadResource::of_root(self.id),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the state; None while a write or a publication is under way.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.length.get().copied()
    }

    /// Sets the length; it can't be another one than before.
    pub(super) fn set_length(&self, provided: u64) -> Result<(), UploadError> {
        let expected = *self.length.get_or_init(|| provided);
        if expected == provided { Ok(()) } else { Err(UploadError::LengthConflict { expected, provided }) }
    }

    pub(super) fn promised(&self) -> Digests {
        *self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds digests of the whole; they can't be others than those before.
    pub(super) fn promise(&self, digests: &Digests) -> Result<(), UploadError> {
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let together = promised.or(digests);
        match together.mismatch(digests) {
            Some(algorithm) => Err(UploadError::DigestConflict { algorithm }),
            None => {
                *promised = together;
                Ok(())
            }
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    pub(super) fn set_offset(&self, offset: u64) {
        self.offset.store(offset, Ordering::Release);
    }

    pub(super) fn is_kept_short(&self) -> bool {
        self.is_kept_short.load(Ordering::Acquire)
    }

    pub(super) fn keep_short(&self) {
        self.is_kept_short.store(true, Ordering::Release);
    }

    /// Notes which part is coming.
    pub(super) fn note_part(&self, first: u64, end: u64) {
        self.last_first.store(first, Ordering::Relaxed);
        self.last_end.store(end, Ordering::Relaxed);
    }

    /// Returns the first byte of the newest part.
    pub(super) fn last_first(&self) -> u64 {
        self.last_first.load(Ordering::Relaxed)
    }

    /// Returns the offsets at which a client may go on that doesn't know that the partial is gone.
    pub(super) fn offsets_to_go_on(&self) -> Vec<u64> {
        vec![self.offset(), self.last_end.load(Ordering::Relaxed)]
    }

    /// Writes the description into the partial's file, so that a restart finds it. Waits for the disk.
    pub(super) fn describe(&self, state: &mut State, boot: &str) {
        let Some(active) = &state.active else { return };
        state.is_described = true;
        let metadata = Metadata {
            destination: self.destination.text().into_owned(),
            length: self.length(),
            is_resource: self.is_resource,
            digests: self.promised(),
            note: self.note.to_string(),
            boot: boot.to_owned(),
            durable: state.durable,
        };
        if let Err(errno) = metadata.store(&active.file) {
            tracing::debug!(upload = %self.id, %errno, "an upload would not survive a restart");
        }
    }
}

impl State {
    /// Makes `active` the next writer's, and returns the lease.
    pub(super) fn lend(&mut self, active: Active) -> u64 {
        self.lease += 1;
        self.active = Some(active);
        self.lease
    }

    /// Whether there is a writer that makes progress.
    pub(super) fn is_busy(&self, stall: Duration) -> bool {
        self.active.as_ref().is_some_and(|active| active.last_progress.elapsed() < stall)
    }

    /// Ends the partial and its lease, and returns the open files.
    pub(super) fn end(&mut self) -> Option<Active> {
        self.is_gone = true;
        self.active.take()
    }

    /// Returns the open files of the writer with this lease.
    pub(super) fn of_writer(&mut self, lease: u64) -> Result<&mut Active, UploadError> {
        match &mut self.active {
            Some(active) if self.lease == lease => Ok(active),
            _ => Err(UploadError::TakenOver),
        }
    }
}

impl Active {
    pub(super) fn new(file: Unpublished, staging: StagingDirectory, slot: Slot, ahead: Ahead) -> Active {
        Active {
            file,
            staging,
            last_progress: Instant::now(),
            ahead,
            direct: DirectWay::Unasked,
            _slot: slot,
        }
    }

    /// Opens the file once more, for direct writes; None where its file system takes none. Waits for the disk.
    pub(super) fn direct(&mut self, id: UploadId) -> Option<&mut DirectFile> {
        if matches!(self.direct, DirectWay::Unasked) {
            self.direct = DirectWay::of(DirectFile::open(&self.file, &self.staging, &id.to_string()));
        }
        match &mut self.direct {
            DirectWay::Open(direct) if !direct.is_refused() => Some(direct),
            _ => None,
        }
    }

    /// Appends bytes, for which room is made first, and returns how many of them were written directly. `length`
    /// is that of the whole upload. Waits for the disk.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        way: Way,
        length: Option<u64>,
        limits: &UploadLimits,
    ) -> Result<u64, UploadError> {
        let end = self.file.length().saturating_add(bytes.len() as u64);
        let room = self.ahead.make_room(&mut self.file, end, length, limits.reserve())?;
        let appended = match &mut self.direct {
            DirectWay::Open(direct) if way == Way::Direct => self.file.append_direct(bytes, direct),
            _ => self.file.append(bytes).map(|()| 0),
        };
        drop(room);
        let direct = appended.map_err(UploadError::at("writing an upload"))?;
        self.ahead.note(end);
        self.last_progress = Instant::now();
        Ok(direct)
    }

    /// Cuts the file to `length`. Waits for the disk.
    pub(super) fn truncate(&mut self, length: u64) -> Result<(), UploadError> {
        self.file.truncate(length).map_err(UploadError::at("taking bytes back"))?;
        self.ahead.give_back(&mut self.file)
    }
}

/// Returns when the file of a partial was last written.
pub(super) fn last_written(stat: &Stat) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0))
}
