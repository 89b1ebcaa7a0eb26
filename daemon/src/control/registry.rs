//! The registry of streams: those that run, and the last ones that ended.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::Notify;

use super::error::outcome_of;
use crate::job::{JobEnd, StreamError, StreamProgress};
use crate::limits::{AddressGroup, Holder, Share};
use crate::protocol::problem::shortened;
use crate::telemetry::{Outcome, Telemetry};

/// The most ended streams that are remembered: enough to look up what just went wrong.
pub(super) const ENDED_STREAMS_MAX: usize = 256;

/// The most bytes of a source's name that are kept: more than somebody would read. A request may name 8 KiB.
const SOURCE_BYTES_MAX: usize = 1024;

/// The most bytes that are kept of the reason for which a stream failed: a sentence, or two.
const ERROR_BYTES_MAX: usize = 256;

/// A stream at one moment.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StreamView {
    pub(super) id: String,
    pub(super) state: StreamState,
    /// The source: `synthetic`, or the file's path.
    pub(super) source: String,
    pub(super) target: SocketAddr,
    /// The bytes asked for; 0 until a file whose length wasn't given is open.
    pub(super) bytes_requested: u64,
    pub(super) bytes_sent: u64,
    pub(super) elapsed_us: u64,
    pub(super) throughput_bytes_per_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) engine: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// The state of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StreamState {
    /// Bytes are moving, or the target has still to acknowledge them.
    Running,
    /// All bytes were sent and acknowledged.
    Done,
    /// The stream ended early.
    Failed,
}

/// All streams that can be asked about.
pub(super) struct StreamRegistry {
    streams: Mutex<Streams>,
    telemetry: Arc<Telemetry>,
}

#[derive(Default)]
struct Streams {
    slots_taken: usize,
    /// The number of the next stream: younger ones have higher numbers.
    next: u64,
    running: BTreeMap<u64, RunningStream>,
    ended: BTreeMap<u64, StreamView>,
    /// The numbers of the ended streams, the latest end at the back.
    ends: VecDeque<u64>,
}

struct RunningStream {
    id: String,
    source: String,
    target: SocketAddr,
    started: Instant,
    progress: Arc<StreamProgress>,
    holder: Holder,
    eviction: Arc<Eviction>,
}

/// A signal by which a stream is told to make room.
#[derive(Default)]
pub(super) struct Eviction {
    notify: Notify,
    /// Whether the stream's place is another's already.
    is_given_away: AtomicBool,
}

/// The room for one stream below the limit; given back when dropped.
pub(super) struct Slot {
    registry: Arc<StreamRegistry>,
    share: Share,
    eviction: Arc<Eviction>,
}

/// A running stream. Dropped before its end, it counts as cancelled: its client went away.
pub(super) struct Running {
    slot: Slot,
    number: u64,
    has_ended: bool,
}

impl StreamRegistry {
    /// Makes a registry without streams.
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Arc<StreamRegistry> {
        Arc::new(StreamRegistry { streams: Mutex::default(), telemetry })
    }

    /// Whether `streams_max` streams are running.
    pub(super) fn is_full(&self, streams_max: usize) -> bool {
        self.lock().slots_taken >= streams_max
    }

    /// Ends the stream of this address that has sent the fewest bytes in its time, and gives its place away at
    /// once; false where none is running.
    pub(super) fn evict_slowest(&self, group: AddressGroup) -> bool {
        let mut streams = self.lock();
        let candidates = streams
            .running
            .values()
            .filter(|stream| stream.holder == Some(group) && !stream.eviction.is_given_away());
        let Some(slowest) = candidates.min_by_key(|stream| stream.throughput()) else { return false };
        slowest.eviction.give_away();
        streams.slots_taken -= 1;
        true
    }

    /// Takes room for one more stream, unless `streams_max` are running. `share` is its part of its address's
    /// limit.
    pub(super) fn reserve(self: &Arc<Self>, streams_max: usize, share: Share) -> Option<Slot> {
        let mut streams = self.lock();
        if streams.slots_taken >= streams_max {
            return None;
        }
        streams.slots_taken += 1;
        self.telemetry.control.streams_running.set(streams.slots_taken as u64);
        Some(Slot { registry: Arc::clone(self), share, eviction: Arc::default() })
    }

    /// Shows the streams whose numbers are below `end`, the youngest first, for as long as `show` wants more.
    /// Returns the number of the last one where it stopped, below which it can go on: a stream keeps its number
    /// when it ends, so that none is shown twice or left out.
    pub(super) fn show_below(&self, end: u64, mut show: impl FnMut(&StreamView) -> bool) -> Option<u64> {
        let streams = self.lock();
        let mut running = streams.running.range(..end).rev().peekable();
        let mut ended = streams.ended.range(..end).rev().peekable();
        loop {
            let is_running = match (running.peek(), ended.peek()) {
                (None, None) => return None,
                (Some((running, _)), Some((ended, _))) => running > ended,
                (running, _) => running.is_some(),
            };
            let (number, wants_more) = if is_running {
                let (number, stream) = running.next()?;
                (*number, show(&stream.view(None)))
            } else {
                let (number, view) = ended.next()?;
                (*number, show(view))
            };
            if !wants_more {
                return Some(number);
            }
        }
    }

    /// Returns the stream of this id.
    pub(super) fn find(&self, id: &str) -> Option<StreamView> {
        let streams = self.lock();
        let running = streams.running.values().find(|stream| stream.id == id).map(|stream| stream.view(None));
        running.or_else(|| streams.ended.values().find(|view| view.id == id).cloned())
    }

    fn end(&self, number: u64, end: &JobEnd) -> Option<StreamView> {
        let mut streams = self.lock();
        let view = streams.running.remove(&number)?.view(Some(end));
        if streams.ends.len() == ENDED_STREAMS_MAX
            && let Some(oldest) = streams.ends.pop_front()
        {
            streams.ended.remove(&oldest);
        }
        streams.ends.push_back(number);
        streams.ended.insert(number, view.clone());
        drop(streams);
        self.telemetry.control.streams.add(end.as_ref().map_or_else(outcome_of, |_| Outcome::Complete), 1);
        Some(view)
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Eviction {
    fn give_away(&self) {
        self.is_given_away.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }

    fn is_given_away(&self) -> bool {
        self.is_given_away.load(Ordering::Relaxed)
    }

    /// Waits until the stream has to make room.
    pub(super) async fn due(&self) {
        self.notify.notified().await;
    }
}

impl Slot {
    /// Returns the signal by which the stream is told to make room.
    pub(super) fn eviction(&self) -> Arc<Eviction> {
        Arc::clone(&self.eviction)
    }

    /// Fills the slot with a stream that starts now.
    pub(super) fn start(
        self,
        id: String,
        source: &str,
        target: SocketAddr,
        progress: Arc<StreamProgress>,
    ) -> Running {
        // The name is copied at its own length, so that the longer text of the request is freed.
        let source = shortened(source, SOURCE_BYTES_MAX).into_owned();
        let mut streams = self.registry.lock();
        let number = streams.next;
        streams.next += 1;
        let stream = RunningStream {
            id,
            source,
            target,
            started: Instant::now(),
            progress,
            holder: self.share.holder(),
            eviction: Arc::clone(&self.eviction),
        };
        streams.running.insert(number, stream);
        drop(streams);
        Running { slot: self, number, has_ended: false }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut streams = self.registry.lock();
        if !self.eviction.is_given_away() {
            streams.slots_taken -= 1;
        }
        self.registry.telemetry.control.streams_running.set(streams.slots_taken as u64);
    }
}

impl Running {
    /// Records how the stream ended, gives its slot back, and returns its final view.
    pub(super) fn end(mut self, end: &JobEnd) -> Option<StreamView> {
        self.has_ended = true;
        self.slot.registry.end(self.number, end)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.slot.registry.end(self.number, &Err(StreamError::Cancelled));
        }
    }
}

impl RunningStream {
    fn throughput(&self) -> u64 {
        let elapsed_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        bytes_per_s(self.progress.bytes_sent(), elapsed_us)
    }

    fn view(&self, end: Option<&JobEnd>) -> StreamView {
        let bytes_sent = self.progress.bytes_sent();
        let elapsed_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let state = match end {
            None => StreamState::Running,
            Some(Ok(_)) => StreamState::Done,
            Some(Err(_)) => StreamState::Failed,
        };
        StreamView {
            id: self.id.clone(),
            state,
            source: self.source.clone(),
            target: self.target,
            bytes_requested: self.progress.bytes_requested(),
            bytes_sent,
            elapsed_us,
            throughput_bytes_per_s: bytes_per_s(bytes_sent, elapsed_us),
            engine: end.and_then(|end| end.as_ref().ok()).copied(),
            error: end
                .and_then(|end| end.as_ref().err())
                .map(|error| shortened(&error.to_string(), ERROR_BYTES_MAX).into_owned()),
        }
    }
}

fn bytes_per_s(bytes: u64, elapsed_us: u64) -> u64 {
    let rate = u128::from(bytes) * 1_000_000 / u128::from(elapsed_us.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ENDED_STREAMS_MAX, Eviction, Running, StreamRegistry, StreamState, bytes_per_s};
    use crate::job::{StreamError, StreamProgress};
    use crate::limits::{AddressGroup, Share, Shares};
    use crate::telemetry::{LogQueue, Outcome, Telemetry};

    fn share(address: &str) -> Share {
        let group = AddressGroup::of(address.parse().unwrap());
        Arc::<Shares>::default().take(group, 1, 1).unwrap()
    }

    fn start(registry: &Arc<StreamRegistry>, id: &str) -> Running {
        let slot = registry.reserve(usize::MAX, share("127.0.0.1")).unwrap();
        slot.start(id.to_owned(), "synthetic", "127.0.0.1:1".parse().unwrap(), Arc::default())
    }

    fn ids(registry: &StreamRegistry) -> Vec<String> {
        let mut ids = Vec::new();
        let mut end = Some(u64::MAX);
        // The streams are shown one by one, as the pages of a slow reader would.
        while let Some(below) = end {
            end = registry.show_below(below, |view| {
                ids.push(view.id.clone());
                false
            });
        }
        ids
    }

    #[test]
    fn slots_are_given_back_however_the_stream_ends() {
        let telemetry = Telemetry::new(0, "epoll", LogQueue::nowhere());
        let registry = StreamRegistry::new(Arc::clone(&telemetry));
        let first = registry.reserve(2, share("127.0.0.1")).unwrap();
        let second = start(&registry, "b");
        assert!(registry.reserve(2, share("127.0.0.1")).is_none());
        assert_eq!(telemetry.control.streams_running.get(), 2);
        drop(first);
        second.end(&Ok("sendfile")).unwrap();
        assert_eq!(telemetry.control.streams_running.get(), 0);
        drop(start(&registry, "c"));
        assert_eq!(telemetry.control.streams_running.get(), 0);
        assert_eq!(telemetry.control.streams.get(Outcome::Complete), 1);
        assert_eq!(telemetry.control.streams.get(Outcome::Cancelled), 1);
    }

    #[test]
    fn the_slowest_of_an_address_gives_its_place_away_once() {
        let registry = StreamRegistry::new(Telemetry::new(0, "epoll", LogQueue::nowhere()));
        let run = |id: &str, address: &str, bytes| {
            let slot = registry.reserve(3, share(address)).unwrap();
            let progress = Arc::new(StreamProgress::default());
            progress.add_bytes_sent(bytes);
            let eviction = slot.eviction();
            (eviction, slot.start(id.to_owned(), "synthetic", "127.0.0.1:1".parse().unwrap(), progress))
        };
        let is_evicted = |eviction: &Eviction| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let soon = std::time::Duration::from_millis(50);
            runtime.block_on(async { tokio::time::timeout(soon, eviction.due()).await }).is_ok()
        };
        let (fast_eviction, fast) = run("fast", "192.0.2.1", 1 << 40);
        let (slow_eviction, slow) = run("slow", "192.0.2.1", 1);
        let (_, other) = run("other", "192.0.2.2", 0);
        assert!(registry.is_full(3) && registry.reserve(3, share("192.0.2.3")).is_none());
        assert!(registry.evict_slowest(share("192.0.2.1").holder().unwrap()));
        assert!(is_evicted(&slow_eviction) && !is_evicted(&fast_eviction));
        let newcomer = registry.reserve(3, share("192.0.2.3")).unwrap();
        slow.end(&Err(StreamError::Evicted)).unwrap();
        assert!(registry.is_full(3), "its place isn't free a second time");
        assert!(registry.evict_slowest(share("192.0.2.1").holder().unwrap()) && is_evicted(&fast_eviction));
        assert!(!registry.evict_slowest(share("192.0.2.1").holder().unwrap()), "none is left");
        drop((fast, other, newcomer));
        assert!(!registry.is_full(1));
    }

    #[test]
    fn the_youngest_comes_first_and_each_end_shows() {
        let registry = StreamRegistry::new(Telemetry::new(0, "epoll", LogQueue::nowhere()));
        let (first, second, third) = (start(&registry, "a"), start(&registry, "b"), start(&registry, "c"));
        second.end(&Err(StreamError::TargetSilent(7))).unwrap();
        first.end(&Ok("copy")).unwrap();
        assert_eq!(ids(&registry), ["c", "b", "a"]);
        let failed = registry.find("b").unwrap();
        assert_eq!((failed.state, failed.engine), (StreamState::Failed, None));
        assert_eq!(failed.error.as_deref(), Some("the target was silent for 7 ms"));
        let done = registry.find("a").unwrap();
        assert_eq!((done.state, done.engine, done.error), (StreamState::Done, Some("copy"), None));
        assert_eq!(registry.find("c").unwrap().state, StreamState::Running);
        assert!(registry.find("d").is_none());
        drop(third);
        assert_eq!(registry.find("c").unwrap().state, StreamState::Failed);
    }

    #[test]
    fn only_the_last_ends_are_remembered() {
        let registry = StreamRegistry::new(Telemetry::new(0, "epoll", LogQueue::nowhere()));
        let oldest = start(&registry, "oldest");
        for number in 0..=ENDED_STREAMS_MAX {
            start(&registry, &number.to_string()).end(&Ok("copy")).unwrap();
        }
        assert_eq!(ids(&registry).len(), ENDED_STREAMS_MAX + 1);
        assert!(registry.find("0").is_none());
        assert!(registry.find("1").is_some());
        assert_eq!(ids(&registry).last().unwrap(), "oldest");
        drop(oldest);
    }

    #[test]
    fn throughput() {
        assert_eq!(bytes_per_s(1_000, 1_000_000), 1_000);
        assert_eq!(bytes_per_s(10, 0), 10_000_000);
        assert_eq!(bytes_per_s(u64::MAX, 1), u64::MAX);
        assert_eq!(bytes_per_s(0, 5), 0);
    }
}
