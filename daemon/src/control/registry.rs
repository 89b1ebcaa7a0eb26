//! The streams that run, and the last ones that ended.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::error::outcome_of;
use crate::job::{JobEnd, Progress, StreamError};
use crate::telemetry::{Outcome, Telemetry};

/// Ended streams that are remembered: enough to look up what just went wrong.
pub(super) const ENDED_STREAMS_MAX: usize = 256;

/// A stream at one moment.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StreamView {
    pub(super) id: String,
    pub(super) state: StreamState,
    /// `synthetic`, or the file's path.
    pub(super) source: String,
    pub(super) target: SocketAddr,
    /// 0 until a file whose length wasn't given is open.
    pub(super) bytes_requested: u64,
    pub(super) bytes_sent: u64,
    pub(super) elapsed_us: u64,
    pub(super) throughput_bytes_per_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) engine: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StreamState {
    /// Bytes move, or its target has still to acknowledge them.
    Running,
    /// All bytes sent and acknowledged.
    Done,
    /// Ended early.
    Failed,
}

/// All streams that can be asked about.
pub(super) struct Registry {
    streams: Mutex<Streams>,
    telemetry: Arc<Telemetry>,
}

#[derive(Default)]
struct Streams {
    slots_taken: usize,
    /// The number of the next stream: younger ones have higher numbers.
    next: u64,
    running: BTreeMap<u64, RunningStream>,
    /// The latest end at the back.
    ended: VecDeque<(u64, StreamView)>,
}

struct RunningStream {
    id: String,
    source: String,
    target: SocketAddr,
    started: Instant,
    progress: Arc<Progress>,
}

/// The room for one stream below the limit; given back when dropped.
pub(super) struct Slot(Arc<Registry>);

/// A stream that runs. Dropped before its end, it counts as cancelled: its client went away.
pub(super) struct Running {
    slot: Slot,
    number: u64,
}

impl Registry {
    /// Without streams.
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Arc<Registry> {
        Arc::new(Registry { streams: Mutex::default(), telemetry })
    }

    /// Room for one more stream, unless `streams_max` are running.
    pub(super) fn reserve(self: &Arc<Self>, streams_max: usize) -> Option<Slot> {
        let mut streams = self.lock();
        if streams.slots_taken >= streams_max {
            return None;
        }
        streams.slots_taken += 1;
        self.telemetry.control.streams_running.set(streams.slots_taken as u64);
        Some(Slot(Arc::clone(self)))
    }

    /// All streams, the youngest first.
    pub(super) fn all(&self) -> Vec<StreamView> {
        let streams = self.lock();
        let running = streams.running.iter().map(|(number, stream)| (*number, stream.view(None)));
        let mut all: Vec<(u64, StreamView)> = running.chain(streams.ended.iter().cloned()).collect();
        drop(streams);
        all.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        all.into_iter().map(|(_, view)| view).collect()
    }

    /// The stream of this id.
    pub(super) fn find(&self, id: &str) -> Option<StreamView> {
        let streams = self.lock();
        let running = streams.running.values().find(|stream| stream.id == id).map(|stream| stream.view(None));
        running.or_else(|| streams.ended.iter().find(|(_, view)| view.id == id).map(|(_, view)| view.clone()))
    }

    fn end(&self, number: u64, end: &JobEnd) -> Option<StreamView> {
        let mut streams = self.lock();
        let view = streams.running.remove(&number)?.view(Some(end));
        if streams.ended.len() == ENDED_STREAMS_MAX {
            streams.ended.pop_front();
        }
        streams.ended.push_back((number, view.clone()));
        drop(streams);
        self.telemetry.control.streams.add(end.as_ref().map_or_else(outcome_of, |_| Outcome::Complete), 1);
        Some(view)
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Fills the slot with a stream that starts now.
    pub(super) fn start(
        self,
        id: String,
        source: String,
        target: SocketAddr,
        progress: Arc<Progress>,
    ) -> Running {
        let mut streams = self.0.lock();
        let number = streams.next;
        streams.next += 1;
        streams
            .running
            .insert(number, RunningStream { id, source, target, started: Instant::now(), progress });
        drop(streams);
        Running { slot: self, number }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut streams = self.0.lock();
        streams.slots_taken -= 1;
        self.0.telemetry.control.streams_running.set(streams.slots_taken as u64);
    }
}

impl Running {
    /// Records how the stream ended, gives its slot back, and shows it as it then stands.
    pub(super) fn end(self, end: &JobEnd) -> Option<StreamView> {
        self.slot.0.end(self.number, end)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Finds nothing if the end was recorded.
        self.slot.0.end(self.number, &Err(StreamError::Cancelled));
    }
}

impl RunningStream {
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
            error: end.and_then(|end| end.as_ref().err()).map(ToString::to_string),
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

    use super::{ENDED_STREAMS_MAX, Registry, Running, StreamState, bytes_per_s};
    use crate::job::StreamError;
    use crate::telemetry::{LogQueue, Outcome, Telemetry};

    fn start(registry: &Arc<Registry>, id: &str) -> Running {
        let slot = registry.reserve(usize::MAX).unwrap();
        slot.start(id.to_owned(), "synthetic".to_owned(), "127.0.0.1:1".parse().unwrap(), Arc::default())
    }

    fn ids(registry: &Registry) -> Vec<String> {
        registry.all().into_iter().map(|view| view.id).collect()
    }

    #[test]
    fn slots_are_given_back_however_the_stream_ends() {
        let telemetry = Telemetry::new(0, "epoll", LogQueue::nowhere());
        let registry = Registry::new(Arc::clone(&telemetry));
        let first = registry.reserve(2).unwrap();
        let second = start(&registry, "b");
        assert!(registry.reserve(2).is_none());
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
    fn the_youngest_comes_first_and_each_end_shows() {
        let registry = Registry::new(Telemetry::new(0, "epoll", LogQueue::nowhere()));
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
        let registry = Registry::new(Telemetry::new(0, "epoll", LogQueue::nowhere()));
        let oldest = start(&registry, "oldest");
        for number in 0..=ENDED_STREAMS_MAX {
            start(&registry, &number.to_string()).end(&Ok("copy")).unwrap();
        }
        assert_eq!(registry.all().len(), ENDED_STREAMS_MAX + 1);
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
