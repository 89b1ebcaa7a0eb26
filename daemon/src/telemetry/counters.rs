//! The counters.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use super::labels::{
    EngineLabel, FrameRefusal, Label, Limit, Outcome, ProxyRefusal, SpaceRefusal, Status, UploadOutcome,
};

/// A count that only grows. One thread adds to it, so the addition itself needn't be atomic: a locked instruction
/// costs twenty cycles, several times in each request.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Returns the count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that is set.
#[derive(Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One counter for each value of a label.
pub struct CounterFamily<L: Label> {
    counters: Box<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for CounterFamily<L> {
    fn default() -> Self {
        CounterFamily { counters: L::ALL.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> CounterFamily<L> {
    /// Adds `amount` to the counter of `label`.
    pub fn add(&self, label: L, amount: u64) {
        if let Some(counter) = self.counters.get(label.index()) {
            counter.add(amount);
        }
    }

    /// Returns the count of `label` so far.
    pub fn get(&self, label: L) -> u64 {
        self.counters.get(label.index()).map_or(0, Counter::get)
    }

    /// Returns the sum over all labels so far.
    pub fn total(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }
}

/// The counters of one worker, aligned so that two workers never write to one cache line (128 bytes: x86-64
/// prefetches lines in pairs).
#[derive(Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    /// When the worker last turned its loop, in milliseconds since the daemon started.
    pub heartbeat_ms: Gauge,
    /// The number of the reload whose settings the worker uses.
    pub settings_generation: Gauge,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections that ended.
    pub connections_closed: Counter,
    /// Connections closed since their first bytes were neither a frame nor HTTP.
    pub connections_unknown: Counter,
    /// Connections refused for their PROXY header.
    pub proxy_headers_refused: CounterFamily<ProxyRefusal>,
    /// Times that accepting paused, for want of descriptors or for the connection limit.
    pub accept_pauses: Counter,
    /// Requests and connections that were refused or ended for a limit.
    pub limited: CounterFamily<Limit>,
    /// HTTP requests by the status of their answer.
    pub requests: CounterFamily<Status>,
    /// Transfers by how they ended.
    pub transfers: CounterFamily<Outcome>,
    /// Payload bytes sent, by engine.
    pub bytes_sent: CounterFamily<EngineLabel>,
    /// Windows that were cold when their turn came.
    pub windows_cold: Counter,
    /// Windows that weren't believed to be in memory by a look at a few places.
    pub windows_disbelieved: Counter,
    /// Times that the worker waited for a disk.
    pub disk_waits: Counter,
    /// The longest of these waits, in microseconds.
    pub disk_wait_longest_us: Gauge,
    /// Frames taken whole.
    pub frames_received: Counter,
    /// Frames that got no `done`.
    pub frames_refused: CounterFamily<FrameRefusal>,
    /// Payload bytes of frames.
    pub bytes_received: Counter,
    /// Uploads and frames that were refused for want of room.
    pub space_refusals: CounterFamily<SpaceRefusal>,
    /// Requests that brought an upload or a part of one, by how they ended.
    pub uploads: CounterFamily<UploadOutcome>,
    /// Bytes of uploads that were written, whatever the outcome.
    pub bytes_uploaded: Counter,
    /// Bytes of uploads that were written past the page cache (O_DIRECT).
    pub bytes_uploaded_direct: Counter,
}

impl WorkerCounters {
    /// Returns the number of connections that are open now.
    pub fn connections_open(&self) -> u64 {
        // Closed is read first: the other way round a connection that comes and goes between the two reads
        // would make the difference wrap.
        let closed = self.connections_closed.get();
        self.connections_accepted.get().saturating_sub(closed)
    }
}

/// The number and size of uploads, updated every second; 0 where uploads are off.
#[derive(Default)]
pub struct UploadGauges {
    /// Uploads that are written to.
    pub writers: Gauge,
    /// Uploads that aren't published, including those with a writer.
    pub partials: Gauge,
    /// Bytes of the unpublished uploads, in whole blocks.
    pub partial_bytes: Gauge,
    /// Bytes that were allocated for them ahead of what has come.
    pub partial_bytes_ahead: Gauge,
}

/// The used part of the spool, updated every second; 0 where frames aren't stored.
#[derive(Default)]
pub struct SpoolGauges {
    /// Bytes of stored frames, in whole blocks.
    pub bytes: Gauge,
    /// Stored frames.
    pub files: Gauge,
    /// Bytes that frames on their way in take.
    pub incoming_bytes: Gauge,
    /// Frames on their way in that take room.
    pub incoming_files: Gauge,
}

/// The state of the root's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootState {
    /// The path leads to the root, or there is no root.
    Served,
    /// The path leads to another directory or to none; the former one is served.
    Replaced,
    /// The directory that is served has no name any more, so that nothing is found in it.
    Removed,
}

/// The state of the root, updated every second.
#[derive(Default)]
pub struct RootGauge(Gauge);

impl RootGauge {
    /// Sets the state.
    pub fn set(&self, state: RootState) {
        self.0.set(state as u64);
    }

    /// Returns the current state.
    pub fn get(&self) -> RootState {
        let states = [RootState::Replaced, RootState::Removed];
        states.into_iter().find(|state| *state as u64 == self.0.get()).unwrap_or(RootState::Served)
    }
}

/// The counters of the control plane.
#[derive(Default)]
pub struct ControlCounters {
    /// When the control plane last turned its loop, in milliseconds since the daemon started.
    pub heartbeat_ms: Gauge,
    /// Requests by the status of their answer.
    pub requests: CounterFamily<Status>,
    /// Streams by how they ended.
    pub streams: CounterFamily<Outcome>,
    /// Streams that run now.
    pub streams_running: Gauge,
    /// Requests and connections that were refused or ended for a limit.
    pub limited: CounterFamily<Limit>,
}
