//! What the daemon tells about itself: counters per worker, their exposition, and log lines.
//!
//! A counter is written by one thread and read by the one that answers `GET /metrics`; relaxed atomics are
//! enough, since no figure promises to be in step with another.

mod access_log;
mod counters;
mod exposition;
mod labels;
mod log_queue;
pub mod logging;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use access_log::{AccessLine, AccessLog};
pub use counters::{ControlCounters, Counter, CounterFamily, Gauge, UploadGauges, WorkerCounters};
pub use labels::{EngineLabel, FrameRefusal, Label, Outcome, Status, UploadOutcome};
pub use log_queue::LogQueue;

/// A worker whose last heartbeat is older is stalled: twenty missed ticks of its loop, and above what a loaded
/// host delays a thread by.
pub const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(2);

/// All counters of one daemon, shared by its planes.
pub struct Telemetry {
    /// Heartbeats count milliseconds from here.
    started: Instant,
    /// One set of counters a worker, in the order of their numbers.
    pub workers: Vec<Arc<WorkerCounters>>,
    /// Counters of the control plane.
    pub control: ControlCounters,
    /// How many uploads there are.
    pub uploads: UploadGauges,
    /// Where log lines go.
    pub log: LogQueue,
    draining: AtomicBool,
    driver: &'static str,
}

/// The state of the workers as /health sees it.
#[derive(Debug, PartialEq, Eq)]
pub enum Health {
    /// All workers turn their loops.
    Serving,
    /// The daemon is about to stop.
    Draining,
    /// This worker hasn't turned its loop for [`HEARTBEAT_AGE_MAX`].
    Stalled(usize),
}

impl Telemetry {
    /// Counters for `workers` workers driven by `driver` (`io_uring` or `epoll`), whose log lines go to `log`.
    pub fn new(workers: usize, driver: &'static str, log: LogQueue) -> Arc<Telemetry> {
        Arc::new(Telemetry {
            started: Instant::now(),
            workers: (0..workers).map(|_| Arc::new(WorkerCounters::default())).collect(),
            control: ControlCounters::default(),
            uploads: UploadGauges::default(),
            log,
            draining: AtomicBool::new(false),
            driver,
        })
    }

    /// Marks worker `number` as alive now. Called from inside its event loop only.
    pub fn beat(&self, number: usize) {
        if let Some(worker) = self.workers.get(number) {
            worker.heartbeat_ms.set(self.now_ms());
        }
    }

    /// From now on [`Telemetry::health`] says that the daemon drains.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What /health answers.
    pub fn health(&self) -> Health {
        if self.draining.load(Ordering::Relaxed) {
            return Health::Draining;
        }
        let stalled = (0..self.workers.len()).find(|number| self.heartbeat_age(*number) > HEARTBEAT_AGE_MAX);
        stalled.map_or(Health::Serving, Health::Stalled)
    }

    /// Time since worker `number` last turned its loop.
    pub fn heartbeat_age(&self, number: usize) -> Duration {
        let last_ms = self.workers.get(number).map_or(0, |worker| worker.heartbeat_ms.get());
        Duration::from_millis(self.now_ms().saturating_sub(last_ms))
    }

    /// Connections of the data plane that are open now.
    pub fn connections_open(&self) -> u64 {
        self.workers.iter().map(|worker| worker.connections_open()).sum()
    }

    /// The driver's name as metrics show it.
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    /// All counters as OpenMetrics text, with its content type.
    pub fn expose(self: &Arc<Self>) -> (&'static str, String) {
        (exposition::CONTENT_TYPE, exposition::text(self))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, Label, LogQueue, Outcome, Telemetry};

    #[test]
    fn draining_outranks_everything() {
        let telemetry = Telemetry::new(1, "epoll", LogQueue::nowhere());
        telemetry.beat(0);
        assert_eq!(telemetry.health(), Health::Serving);
        telemetry.start_draining();
        assert_eq!(telemetry.health(), Health::Draining);
    }

    #[test]
    fn exposition_sums_over_workers_and_ends_as_openmetrics_does() {
        let telemetry = Telemetry::new(2, "epoll", LogQueue::nowhere());
        telemetry.workers[0].transfers.add(Outcome::Complete, 2);
        telemetry.workers[1].transfers.add(Outcome::Complete, 3);
        let (_, text) = telemetry.expose();
        let line = format!("streamd_transfers_total{{outcome=\"{}\"}} 5", Outcome::Complete.label());
        assert!(text.lines().any(|found| found == line), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
