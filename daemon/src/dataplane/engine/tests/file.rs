//! Files of a scripted kernel. Their bytes are parts of one long text that nobody could mix up: a file in another state
//! is another part of it.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use rustix::io::Errno;

use super::super::super::platform::simulated::Seeded;
use super::super::kernel::{Reader, Source};
use super::plan::{Call, Outcome, Plan};
use crate::files::HotWindows;
use crate::limits::Tick;

/// Longest file, changes included.
pub(super) const FILE_BYTES_MAX: u64 = 6 << 20;

/// States of one file.
const STATES_MAX: usize = 8;

/// Between the beginnings of two states; a prime, so that they share no bytes at one place.
const STATE_BYTES: usize = 1_000_003;

/// Bytes of a witness.
const WITNESS_BYTES: u64 = 16;

static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut seeded = Seeded::new(0);
    let words = (usize::try_from(FILE_BYTES_MAX).unwrap() + STATES_MAX * STATE_BYTES * 4) / 8;
    (0..words).flat_map(|_| seeded.number().to_le_bytes()).collect()
});

/// A change that somebody makes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Cuts it off.
    Shrinks(u64),
    /// Appends so many bytes.
    Grows(u64),
    /// Writes it anew, as long as it was.
    IsOther,
    /// Writes it anew, and longer by so many bytes.
    IsOtherAndGrows(u64),
}

/// The content of a file, for whoever has it open.
pub(super) struct Content {
    opened_bytes: u64,
    number: usize,
    now: Mutex<State>,
    /// A disk thread works with it.
    is_at_work: AtomicBool,
    /// The look of a disk thread hasn't come to the transfer yet.
    has_untold_look: AtomicBool,
}

#[derive(Clone, Copy)]
struct State {
    bytes: u64,
    version: usize,
    changes: usize,
}

impl Content {
    /// Makes the content of the file of this number, below 4.
    pub(super) fn new(number: usize, bytes: u64) -> Arc<Content> {
        let now = Mutex::new(State { bytes, version: 0, changes: 0 });
        let (is_at_work, has_untold_look) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Content { opened_bytes: bytes, number, now, is_at_work, has_untold_look })
    }

    pub(super) fn change(&self, change: Change) {
        let mut now = self.now.lock().unwrap();
        now.changes += 1;
        match change {
            Change::Shrinks(bytes) => now.bytes = bytes.min(now.bytes),
            Change::Grows(bytes) => now.bytes = FILE_BYTES_MAX.min(now.bytes + bytes),
            Change::IsOther => now.version += 1,
            Change::IsOtherAndGrows(bytes) => {
                now.version += 1;
                now.bytes = FILE_BYTES_MAX.min(now.bytes + bytes);
            }
        }
        assert!(now.version < STATES_MAX);
    }

    /// Whether it may still change. Nobody sees a change of a file elsewhere between the last look and the last bytes.
    pub(super) fn may_change(&self) -> bool {
        self.now.lock().unwrap().version + 1 < STATES_MAX && !self.has_untold_look.load(Ordering::Relaxed)
    }

    /// Does what a disk thread does.
    pub(super) fn work<R>(&self, work: impl FnOnce() -> R) -> R {
        self.is_at_work.store(true, Ordering::Relaxed);
        let result = work();
        self.is_at_work.store(false, Ordering::Relaxed);
        result
    }

    /// Tells the transfer of the look.
    pub(super) fn tell(&self) {
        self.has_untold_look.store(false, Ordering::Relaxed);
    }

    /// Whether it changed.
    pub(super) fn has_changed(&self) -> bool {
        self.now.lock().unwrap().changes > 0
    }

    /// Up to `bytes` bytes from `offset` on, as of now.
    pub(super) fn read(&self, offset: u64, bytes: usize) -> &'static [u8] {
        let now = *self.now.lock().unwrap();
        let left = usize::try_from(now.bytes.saturating_sub(offset)).unwrap();
        self.of_version(now.version, offset, bytes.min(left))
    }

    /// The bytes there when it was opened.
    pub(super) fn opened(&self, offset: u64, bytes: usize) -> &'static [u8] {
        self.of_version(0, offset, bytes)
    }

    /// Whether each of these bytes is one that it had there at some time: two calls may read of two states.
    pub(super) fn had(&self, offset: u64, bytes: &[u8]) -> bool {
        let version = self.now.lock().unwrap().version;
        let states = (0..=version).map(|version| self.of_version(version, offset, bytes.len()));
        let states: Vec<_> = states.collect();
        bytes.iter().enumerate().all(|(index, byte)| states.iter().any(|state| state[index] == *byte))
    }

    fn of_version(&self, version: usize, offset: u64, bytes: usize) -> &'static [u8] {
        let begin = (self.number * STATES_MAX + version) * STATE_BYTES + usize::try_from(offset).unwrap();
        &TEXT[begin..begin + bytes]
    }
}

/// A file that is open.
#[derive(Clone)]
pub(super) struct ScriptedFile {
    pub(super) content: Arc<Content>,
    pub(super) plan: Arc<Mutex<Plan>>,
    pub(super) is_elsewhere: bool,
    hot: RefCell<HotWindows>,
    is_mute: Cell<bool>,
}

impl ScriptedFile {
    pub(super) fn new(content: Arc<Content>, plan: Arc<Mutex<Plan>>, is_elsewhere: bool) -> ScriptedFile {
        ScriptedFile { content, plan, is_elsewhere, hot: RefCell::default(), is_mute: Cell::new(false) }
    }

    fn read_by(&self, call: Call, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let outcome = self.plan.lock().unwrap().next(call, buffer.len());
        let bytes = self.content.read(offset, bytes_of(outcome, buffer.len())?);
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

/// How many of `bytes` a call takes.
pub(super) fn bytes_of(outcome: Outcome, bytes: usize) -> Result<usize, Errno> {
    match outcome {
        Outcome::Whole => Ok(bytes),
        Outcome::Part(part) => Ok(part.min(bytes)),
        Outcome::Fails(errno) => Err(errno),
        Outcome::GivenUp => panic!("a call that doesn't wait can't be given up"),
    }
}

impl Source for ScriptedFile {
    type Reader = ScriptedFile;
    type Witnesses = Vec<(u64, Vec<u8>)>;
    type State = usize;

    fn reader(&self) -> ScriptedFile {
        self.clone()
    }

    fn size(&self) -> u64 {
        self.content.opened_bytes
    }

    fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        if self.is_elsewhere { Err(Errno::AGAIN) } else { self.read_by(Call::ReadNow, buffer, offset) }
    }

    fn look(&self, witnesses: &mut Self::Witnesses, start: u64, end: u64) {
        if end - start < WITNESS_BYTES || self.is_elsewhere || witnesses.is_empty() && !self.is_as_opened() {
            return;
        }
        let bytes = self.content.read(end - WITNESS_BYTES, 16);
        if bytes.len() == 16 {
            witnesses.push((end - WITNESS_BYTES, bytes.to_vec()));
        }
    }

    fn are_none(witnesses: &Self::Witnesses) -> bool {
        witnesses.is_empty()
    }

    fn agrees(&self, witnesses: &Self::Witnesses) -> bool {
        let is_there = |(offset, bytes): &(u64, Vec<u8>)| self.content.read(*offset, bytes.len()) == &**bytes;
        !witnesses.is_empty() && witnesses.iter().all(is_there)
    }

    fn is_as_opened(&self) -> bool {
        let is_at_work = self.content.is_at_work.load(Ordering::Relaxed);
        // The worker sees itself whether other files changed since.
        let is_untold = is_at_work && self.is_elsewhere;
        self.content.has_untold_look.fetch_or(is_untold, Ordering::Relaxed);
        !self.content.has_changed()
    }

    fn state(&self) -> Option<usize> {
        Some(self.content.now.lock().unwrap().changes)
    }

    fn has_grown(&self) -> bool {
        self.content.now.lock().unwrap().bytes > self.content.opened_bytes
    }

    fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    fn lives_in_memory(&self) -> bool {
        false
    }

    fn tells_residency(&self) -> bool {
        !self.is_mute.get()
    }

    fn note_mute(&self) {
        self.is_mute.set(true);
    }

    fn is_known_hot(&self, window: u64, since: Tick, now: Tick) -> bool {
        self.hot.borrow().has(window, since, now)
    }

    fn note_hot(&self, window: u64, since: Tick, now: Tick, end: Tick) {
        self.hot.borrow_mut().note(window, since, now, end);
    }

    fn forget_hot(&self) {
        self.hot.borrow_mut().forget();
    }
}

impl Reader for ScriptedFile {
    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.read_by(Call::Read, buffer, offset)
    }
}
