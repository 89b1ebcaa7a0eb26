//! Whether a worker waited for a disk all the same: no question put before a window is sent is sure, since its pages
//! may be dropped before they are, and few of them were looked at. What the thread read and slept in the call is.

mod doubts;
mod read_windows;

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::platform;
use crate::files::residency::{Extent, Residency, glance, probe, read_whole};
use crate::files::{Random, SourceFile};
use crate::limits::Tick;
use crate::sys::ThreadUsage;
use crate::telemetry::WorkerCounters;
pub(super) use doubts::Belief;
use doubts::Doubts;
use read_windows::ReadWindows;

/// For how long a file or a disk is doubted, and all calls are looked at closely, after something was waited for.
const DOUBT_MS: u64 = 10_000;

/// A call that takes this long is no usual one: 512 KiB from memory take some 50 µs.
const SLOW_CALL: Duration = Duration::from_millis(1);

/// A call that takes this long without a read of its own waited for somebody else's, most likely: a thread that only
/// lost its core for a moment is back by then.
const STRANGE_CALL: Duration = Duration::from_millis(10);

/// A wait that is more than one read of a usual disk, or a read that takes so long: others wait before it.
const LONG_WAIT: Duration = Duration::from_millis(100);

/// Bytes that a call may take from a window that was just found hot: all that a worker can wait for at once. Two calls
/// for a window instead of one take no more CPU that can be measured, four 3 %, eight 8 %.
const CALL_BYTES_USUAL: u64 = 512 << 10;

/// Most bytes of one call for as long as there is reason to look closely: 0.6 s of a disk that reads 0.4 MB/s.
const CALL_BYTES_CLOSE: u64 = 256 << 10;

/// Where windows are read whole: fits the second-level cache.
const READ_BYTES: usize = 64 << 10;

/// How closely a call is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// By the clock alone, 50 ns, where the call is long: the window was found hot a moment ago.
    Least,
    /// By what the thread has read since, 0.3 µs more.
    Usual,
    /// By what it read and slept in the call, 0.6 µs more.
    Most,
}

impl Care {
    /// Bytes for one call.
    pub(super) fn call_bytes_max(self) -> u64 {
        match self {
            Care::Least => u64::MAX,
            Care::Usual => CALL_BYTES_USUAL,
            Care::Most => CALL_BYTES_CLOSE,
        }
    }
}

/// A call that is being looked at.
pub(super) struct Look {
    care: Care,
    /// None of a short call of the least care: that its thread has read anything shows at the next tick.
    began: Option<Instant>,
    before: ThreadUsage,
}

/// The disk waits of one worker, and the files that it doubts since.
pub(super) struct DiskWaits {
    /// The worker's number.
    number: usize,
    counters: Arc<WorkerCounters>,
    /// As of the last look.
    usage: Cell<ThreadUsage>,
    /// The first tick at which calls needn't be looked at closely any more.
    close_end: Cell<Tick>,
    doubts: Doubts,
    /// The windows that disk threads have read of files that can't tell what is in memory.
    pub(super) read: ReadWindows,
    random: RefCell<Random>,
    buffer: RefCell<Box<[u8]>>,
    /// The first tick at which a wait is logged again.
    log_again: Cell<Tick>,
}

impl DiskWaits {
    /// Makes those of the worker of this number, which is the calling thread.
    pub(super) fn new(number: usize, counters: Arc<WorkerCounters>) -> DiskWaits {
        DiskWaits {
            number,
            counters,
            usage: Cell::new(ThreadUsage::now()),
            close_end: Cell::new(Tick::FIRST),
            doubts: Doubts::default(),
            read: ReadWindows::default(),
            random: RefCell::default(),
            buffer: RefCell::new(vec![0; READ_BYTES].into_boxed_slice()),
            log_again: Cell::new(Tick::FIRST),
        }
    }

    /// Once a tick: whether the thread has read anything, for whatever reason.
    pub(super) fn tick(&self, clock: &Clock) {
        let usage = ThreadUsage::now();
        if self.usage.replace(usage).block_inputs != usage.block_inputs {
            self.look_closely(clock);
        }
    }

    /// How closely a call is to be looked at that otherwise takes `care`.
    pub(super) fn care(&self, care: Care, now: Tick) -> Care {
        if now < self.close_end.get() { Care::Most } else { care }
    }

    /// Before a call that takes `bytes`.
    pub(super) fn begin(&self, care: Care, bytes: u64) -> Look {
        let before = if care == Care::Most { ThreadUsage::now() } else { self.usage.get() };
        let is_timed = care != Care::Least || bytes > CALL_BYTES_CLOSE;
        Look { care, began: is_timed.then(platform::now), before }
    }

    /// After it: for how long it waited for a disk, if it did.
    pub(super) fn end(&self, look: &Look, clock: &Clock) -> Option<Duration> {
        let elapsed = platform::now().saturating_duration_since(look.began?);
        let is_slow = elapsed >= SLOW_CALL;
        if look.care == Care::Least && !is_slow {
            return None;
        }
        let usage = ThreadUsage::now();
        self.usage.set(usage);
        let has_read = usage.block_inputs != look.before.block_inputs;
        let has_slept = usage.sleeps != look.before.sleeps;
        if has_read || elapsed >= STRANGE_CALL {
            self.look_closely(clock);
        }
        let has_waited = match look.care {
            // The bytes after the call may be read ahead in it, which isn't waited for; and what others read is waited
            // for without a read of its own.
            Care::Most => has_slept && (has_read || is_slow),
            // The thread sleeps between its calls too.
            Care::Least | Care::Usual => has_read && is_slow,
        };
        has_waited.then_some(elapsed)
    }

    /// From now on, and for a while.
    fn look_closely(&self, clock: &Clock) {
        self.close_end.set(clock.deadline(DOUBT_MS).tick);
    }

    /// A question found something cold, and thereby may have begun to read it: that is no wait.
    fn note_cold(&self, clock: &Clock) {
        self.usage.set(ThreadUsage::now());
        self.look_closely(clock);
    }

    /// Returns the proof that it takes to believe that a window of `file` is in memory.
    pub(super) fn belief(&self, file: &SourceFile, now: Tick) -> Belief {
        self.doubts.belief(file.id(), now)
    }

    /// Looks at a few places of a range.
    pub(super) fn probe(&self, clock: &Clock, file: &SourceFile, offset: u64, length: u64) -> Residency {
        let residency = probe(file, offset, length, &mut self.random.borrow_mut());
        self.noting(clock, residency)
    }

    /// Looks at one place of a range.
    pub(super) fn glance(&self, clock: &Clock, file: &SourceFile, offset: u64, length: u64) -> Residency {
        let residency = glance(file, offset, length, &mut self.random.borrow_mut());
        self.noting(clock, residency)
    }

    /// Reads all of a range that is in memory; where the file system can't tell, none is.
    pub(super) fn read_whole(&self, clock: &Clock, file: &SourceFile, offset: u64, length: u64) -> Residency {
        match read_whole(file, offset, length, &mut self.buffer.borrow_mut()) {
            Extent::Whole => return Residency::Hot,
            Extent::Part => {
                let term = clock.deadline(DOUBT_MS).timeout_ticks;
                self.doubts.note_part(file.id().device, clock.now(), term);
            }
            Extent::Nothing => {}
        }
        self.noting(clock, Residency::Cold)
    }

    fn noting(&self, clock: &Clock, residency: Residency) -> Residency {
        if residency == Residency::Cold {
            self.note_cold(clock);
        }
        residency
    }

    /// A disk thread took so long to read of `file`.
    pub(super) fn note_read(&self, clock: &Clock, file: &SourceFile, took: Duration) {
        if took >= LONG_WAIT {
            let term = clock.deadline(DOUBT_MS).timeout_ticks;
            self.doubts.note_slow(file.id(), clock.now(), term);
        }
    }

    /// The worker waited so long for `file`, from which it sent the bytes behind `offset`.
    pub(super) fn add(&self, clock: &Clock, file: &SourceFile, offset: u64, waited: Duration) {
        let (now, end) = (clock.now(), clock.deadline(DOUBT_MS));
        file.forget_hot();
        self.read.forget(file.id());
        let is_unbelieved = self.doubts.add(file.id(), waited >= LONG_WAIT, now, end.timeout_ticks);
        self.counters.disk_waits.add(1);
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let longest = &self.counters.disk_wait_longest_us;
        longest.set(longest.get().max(waited_us));
        if !is_unbelieved || now < self.log_again.get() {
            return;
        }
        self.log_again.set(end.tick);
        tracing::warn!(
            worker = self.number,
            waited_ms = waited_us / 1000,
            file = name_of(file),
            offset,
            "a worker waited for a disk: what seemed to be in memory wasn't; disk threads read this file for a while"
        );
    }
}

/// The path of an open file, for the log. Asks no disk.
fn name_of(file: &SourceFile) -> String {
    let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    match rustix::fs::readlink(link, Vec::new()) {
        Ok(path) => crate::protocol::name::escape_for_log(path.as_bytes()),
        Err(_) => format!("inode {}", file.id().inode),
    }
}
