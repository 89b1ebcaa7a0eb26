//! One worker: a thread with an event loop of its own, listeners of its own, and connections that never leave
//! it. Nothing in the loop waits for a disk.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use tokio::sync::mpsc;

use super::accept::{self, Source};
use super::context::{Driver, IDLE_GRACE_MS, Setup, Worker};
use super::disk::{Disk, DiskThreads};
use super::listener::WorkerListener;
use super::readiness::ReadinessEvents;
use super::{platform, stream};
use crate::job::StreamJob;
use crate::limits::{PaceMinimum, TICK};
use crate::sys::uring;
use crate::telemetry::Limit;

/// Time that connections get to notice that they were broken off at the end of a drain.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// Longest wait for the locked memory of the rings that were tried at the start, which took as much.
const RING_PATIENCE: Duration = Duration::from_secs(5);

/// The parts that a worker is started with.
pub(super) struct Assignment {
    /// The core to stay on, where there is one core for each worker.
    pub(super) core: Option<usize>,
    pub(super) listeners: Vec<WorkerListener>,
    pub(super) jobs: mpsc::Receiver<StreamJob>,
    /// They end with the last worker that has them.
    pub(super) disk_threads: DiskThreads,
    pub(super) setup: Setup,
}

/// Runs a worker to its end on this thread. `ready` is told once, when it accepts or when it can't.
pub(super) fn run(assignment: Assignment, ready: &std::sync::mpsc::Sender<io::Result<()>>) {
    if let Some(core) = assignment.core {
        pin_to(core);
    }
    match assignment.setup.driver {
        Driver::Uring(features) => {
            let runtime = uring::patiently(RING_PATIENCE, || {
                let (builder, entries) = uring::builder(features);
                RuntimeBuilder::<TimeDriver<IoUringDriver>>::new()
                    .uring_builder(builder)
                    .with_entries(entries)
                    .build()
            });
            run_on(runtime, assignment, ready);
        }
        Driver::Epoll => {
            let runtime = RuntimeBuilder::<TimeDriver<LegacyDriver>>::new().build();
            run_on(runtime, assignment, ready);
        }
    }
}

fn run_on<D: monoio::Driver>(
    runtime: io::Result<monoio::Runtime<D>>,
    assignment: Assignment,
    ready: &std::sync::mpsc::Sender<io::Result<()>>,
) {
    let mut runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let ended_whole = runtime.block_on(serve(assignment, ready));
    if !ended_whole {
        // Tasks are left, some perhaps with work on a disk thread that hangs. Dropping them outside the loop
        // panics inside monoio (a socket's close needs its driver); the process is about to end anyway.
        std::mem::forget(runtime);
    }
}

/// The worker's main task. True: every other task has ended.
async fn serve(assignment: Assignment, ready: &std::sync::mpsc::Sender<io::Result<()>>) -> bool {
    let Assignment { listeners, jobs, disk_threads, setup, .. } = assignment;
    let sources: io::Result<Vec<Source>> = listeners.into_iter().map(Source::new).collect();
    let made = sources.and_then(|sources| Ok((sources, ReadinessEvents::new()?)));
    let (sources, readiness) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = ready.send(Err(error));
            return true;
        }
    };
    let worker = Rc::new(Worker::new(setup, Disk::new(&disk_threads), readiness));
    worker.telemetry.beat(worker.number);
    worker.accepting.set(sources.len());
    for source in sources {
        platform::spawn(accept_to_the_end(Rc::clone(&worker), source));
    }
    platform::spawn(deliver_readiness(Rc::clone(&worker)));
    platform::spawn(stream::take_jobs(Rc::clone(&worker), jobs));
    let _ = ready.send(Ok(()));
    let ended_whole = worker.turn_until_drained().await;
    worker.telemetry.retire(worker.number);
    ended_whole
}

async fn accept_to_the_end(worker: Rc<Worker>, source: Source) {
    accept::run(Rc::clone(&worker), source).await;
    worker.accepting.set(worker.accepting.get().saturating_sub(1));
}

async fn deliver_readiness(worker: Rc<Worker>) {
    worker.readiness.deliver(&worker.registry).await;
}

impl Worker {
    pub(super) async fn turn_until_drained(&self) -> bool {
        loop {
            platform::sleep(TICK).await;
            self.tick();
            let Some(drain) = self.drain() else { continue };
            self.idle_targets.clear();
            self.registry.close_idle(self.clock.now(), self.clock.deadline(IDLE_GRACE_MS).timeout_ticks);
            let past_deadline = platform::now() >= drain.deadline;
            if !self.has_ended() && past_deadline {
                self.break_off().await;
            }
            if self.has_ended() || past_deadline {
                self.end_readiness().await;
                return self.has_ended();
            }
        }
    }

    pub(super) fn tick(&self) {
        self.clock.advance();
        self.waits.tick(&self.clock);
        self.access_log.flush();
        self.telemetry.beat(self.number);
        let minimum = PaceMinimum::of(&self.live().settings);
        let too_slow = self.registry.sweep(self.clock.now(), &minimum);
        self.counters.limited.add(Limit::Progress, too_slow);
        self.make_room_for_others();
        self.idle_targets.expire(self.clock.now());
        self.files.expire(self.clock.now()).into_iter().for_each(|file| self.disk.release(file));
        self.resources.archives.expire();
        self.disk.sweep(self.live().settings.disk_timeout_ms);
        self.follow_changes();
    }

    fn has_ended(&self) -> bool {
        self.accepting.get() == 0 && self.registry.len() == 0 && self.streams_running.get() == 0
    }

    /// The drain took too long: ends what is left.
    async fn break_off(&self) {
        let connections = self.registry.len();
        tracing::warn!(worker = self.number, connections, "drain_timeout_ms is over: breaking off");
        self.registry.abort_all();
        let end = platform::now() + ABORT_GRACE;
        while !self.has_ended() && platform::now() < end {
            platform::sleep(TICK).await;
            self.access_log.flush();
        }
    }

    async fn end_readiness(&self) {
        self.readiness.stop();
        while !self.readiness.has_stopped() {
            platform::sleep(Duration::ZERO).await;
        }
    }
}

fn pin_to(core: usize) {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &cores) {
        tracing::warn!(core, %error, "a worker could not be pinned to its core");
    }
}
