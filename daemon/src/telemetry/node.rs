//! The telemetry of the daemon as a whole: the counters of all its threads, and whether they are alive.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::counters::{
    ControlCounters, Gauge, RootGauge, RootState, SpoolGauges, UploadGauges, WorkerCounters,
};
use super::disk::DiskState;
use super::log_queue::LogQueue;
use crate::limits::Budget;

/// The age of a heartbeat from which a worker counts as stalled: twenty missed ticks of its loop, and above the
/// delays of threads on a loaded host.
pub const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(2);

/// The heartbeat of a worker that has ended: in the future, so that its age stays 0.
const RETIRED: u64 = u64::MAX;

/// All counters of one daemon, shared by its planes.
pub struct Telemetry {
    /// The start of the daemon, from which heartbeats count milliseconds.
    started: Instant,
    /// The counters of each worker, in the order of their numbers.
    pub workers: Vec<Arc<WorkerCounters>>,
    /// Counters of the control plane.
    pub control: ControlCounters,
    /// The number and size of uploads.
    pub uploads: UploadGauges,
    /// The function that reports the state of the disk threads.
    disk: OnceLock<Box<dyn Fn() -> DiskState + Send + Sync>>,
    /// The state of the root's path.
    pub root: RootGauge,
    /// The used part of the spool.
    pub spool: SpoolGauges,
    /// The bytes that wait for readers, counted where they are limited.
    pub budget: Arc<Budget>,
    /// The queue of log lines.
    pub log: LogQueue,
    draining: AtomicBool,
    driver: &'static str,
}

/// A loop that has to turn for the daemon to be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A worker, by its number.
    Worker(usize),
    /// The control plane.
    Control,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Worker(number) => write!(formatter, "worker {number}"),
            Part::Control => formatter.write_str("control plane"),
        }
    }
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
    /// Mounts that don't answer hold every disk thread.
    DiskStuck,
    /// All workers turn, and find nothing: the root was removed.
    RootRemoved,
}

impl Telemetry {
    /// Makes counters for `workers` workers driven by `driver` (`io_uring` or `epoll`), whose log lines go to
    /// `log`.
    pub fn new(workers: usize, driver: &'static str, log: LogQueue) -> Arc<Telemetry> {
        Arc::new(Telemetry {
            started: Instant::now(),
            workers: (0..workers).map(|_| Arc::new(WorkerCounters::default())).collect(),
            control: ControlCounters::default(),
            uploads: UploadGauges::default(),
            disk: OnceLock::new(),
            root: RootGauge::default(),
            spool: SpoolGauges::default(),
            budget: Arc::default(),
            log,
            draining: AtomicBool::new(false),
            driver,
        })
    }

    /// Sets the function that reports the state of the disk threads.
    pub fn watch_disk(&self, report: impl Fn() -> DiskState + Send + Sync + 'static) {
        // There is one set of disk threads, so it is never set twice.
        let _ = self.disk.set(Box::new(report));
    }

    /// Returns the current state of the disk threads.
    pub fn disk(&self) -> DiskState {
        self.disk.get().map(|report| report()).unwrap_or_default()
    }

    /// Marks worker `number` as alive now. Called from inside its event loop only.
    pub fn beat(&self, number: usize) {
        if let Some(worker) = self.workers.get(number) {
            worker.heartbeat_ms.set(self.now_ms());
        }
    }

    /// Marks worker `number` as ended: nobody waits for its heartbeat any more.
    pub fn retire(&self, number: usize) {
        if let Some(worker) = self.workers.get(number) {
            worker.heartbeat_ms.set(RETIRED);
        }
    }

    /// Whether every worker that still turns uses the settings of reload number `generation`, or later ones.
    pub fn have_adopted(&self, generation: u64) -> bool {
        let has_ended = |worker: &WorkerCounters| worker.heartbeat_ms.get() == RETIRED;
        self.workers.iter().all(|worker| worker.settings_generation.get() >= generation || has_ended(worker))
    }

    /// Marks the control plane as alive now. Called from inside its event loop only.
    pub fn beat_control(&self) {
        self.control.heartbeat_ms.set(self.now_ms());
    }

    /// Makes [`Telemetry::health`] say from now on that the daemon drains.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the daemon is about to stop. Each request asks this, for which [`Telemetry::health`] looks at too
    /// much.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Returns the answer of /health.
    pub fn health(&self) -> Health {
        if self.is_draining() {
            return Health::Draining;
        }
        if let Some(worker) = self.stalled_worker() {
            return Health::Stalled(worker);
        }
        if self.disk().is_stuck {
            return Health::DiskStuck;
        }
        if self.root.get() == RootState::Removed { Health::RootRemoved } else { Health::Serving }
    }

    /// Returns a loop that hasn't turned for [`HEARTBEAT_AGE_MAX`], while draining too.
    pub fn stuck(&self) -> Option<Part> {
        let is_control = self.age_of(&self.control.heartbeat_ms) > HEARTBEAT_AGE_MAX;
        self.stalled_worker().map(Part::Worker).or(is_control.then_some(Part::Control))
    }

    fn stalled_worker(&self) -> Option<usize> {
        (0..self.workers.len()).find(|number| self.heartbeat_age(*number) > HEARTBEAT_AGE_MAX)
    }

    /// Returns the time since worker `number` last turned its loop.
    pub fn heartbeat_age(&self, number: usize) -> Duration {
        self.workers.get(number).map_or(Duration::ZERO, |worker| self.age_of(&worker.heartbeat_ms))
    }

    fn age_of(&self, heartbeat_ms: &Gauge) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(heartbeat_ms.get()))
    }

    /// Returns the payload bytes that the data plane has sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.workers.iter().map(|worker| worker.bytes_sent.total()).sum()
    }

    /// Returns the payload bytes that the data plane has received so far, in frames and in uploads.
    pub fn bytes_received(&self) -> u64 {
        self.workers.iter().map(|worker| worker.bytes_received.get() + worker.bytes_uploaded.get()).sum()
    }

    /// Returns the number of the data plane's connections that are open now.
    pub fn connections_open(&self) -> u64 {
        self.workers.iter().map(|worker| worker.connections_open()).sum()
    }

    /// Returns the driver's name as metrics show it.
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::super::exposition::Exposition;
    use super::super::labels::{Label, Outcome};
    use super::super::log_queue::LogQueue;
    use super::{Health, Part, Telemetry};

    #[test]
    fn draining_outranks_everything() {
        let telemetry = Telemetry::new(1, "epoll", LogQueue::nowhere());
        telemetry.beat(0);
        assert_eq!(telemetry.health(), Health::Serving);
        telemetry.start_draining();
        assert_eq!(telemetry.health(), Health::Draining);
    }

    #[test]
    fn whatever_has_not_turned_for_long_is_stuck_until_it_turns_or_ends() {
        let mut telemetry = Telemetry::new(3, "epoll", LogQueue::nowhere());
        let started = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        Arc::get_mut(&mut telemetry).unwrap().started = started;
        assert_eq!(telemetry.stuck(), Some(Part::Worker(0)));
        telemetry.beat(0);
        telemetry.beat(2);
        assert_eq!(telemetry.stuck(), Some(Part::Worker(1)));
        telemetry.start_draining();
        assert_eq!(telemetry.stuck(), Some(Part::Worker(1)));
        telemetry.retire(1);
        assert_eq!(telemetry.stuck(), Some(Part::Control));
        assert_eq!(telemetry.heartbeat_age(1), Duration::ZERO);
        telemetry.beat_control();
        assert_eq!(telemetry.stuck(), None);
    }

    #[test]
    fn exposition_sums_over_workers_and_ends_as_openmetrics_does() {
        let telemetry = Telemetry::new(2, "epoll", LogQueue::nowhere());
        telemetry.workers[0].transfers.add(Outcome::Complete, 2);
        telemetry.workers[1].transfers.add(Outcome::Complete, 3);
        let text = Exposition::OpenMetrics.text(&telemetry);
        let line = format!("streamd_transfers_total{{outcome=\"{}\"}} 5", Outcome::Complete.label());
        assert!(text.lines().any(|found| found == line), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn the_older_format_has_the_same_samples_and_names_them_as_they_are() {
        let telemetry = Telemetry::new(2, "epoll", LogQueue::nowhere());
        let samples = |text: &str| {
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        let [new, old] = [Exposition::OpenMetrics, Exposition::Text].map(|of| of.text(&telemetry));
        let without_ages =
            |text: &str| samples(text).into_iter().filter(|line| !line.contains("_age_")).collect::<Vec<_>>();
        assert_eq!(without_ages(&new), without_ages(&old));
        assert!(samples(&old).len() > 50 && !old.contains("# EOF") && !old.contains("# UNIT"), "{old}");
        for sample in samples(&old) {
            let name = sample.split(['{', ' ']).next().unwrap_or_default();
            assert!(old.contains(&format!("# HELP {name} ")), "{name}");
            assert!(old.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
