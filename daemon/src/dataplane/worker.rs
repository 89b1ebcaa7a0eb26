//! One worker: a thread with an event loop of its own, a listener of its own, and connections that never leave
//! it. Nothing in the loop waits for a disk.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use tokio::sync::{mpsc, watch};

use super::arrivals::Arrivals;
use super::clock::Clock;
use super::connection::Connection;
use super::disk::{Disk, DiskThreads};
use super::disk_waits::DiskWaits;
use super::error::PeerGone;
use super::idle_targets::IdleTargets;
use super::pipe_pool::PipePool;
use super::plane::{Drain, Driver, Resources, Served};
use super::publications::Publications;
use super::registry::Registry;
use super::room::Asked;
use super::socket::Socket;
use super::{accept, pacing, stream};
use crate::config::Live;
use crate::files::FileCache;
use crate::job::StreamJob;
use crate::limits::{Descriptors, PaceMinimum, Plane, Reserved, TICK};
use crate::sys::uring;
use crate::telemetry::{AccessLog, Limit, RequestIds, Telemetry, WorkerCounters};

/// Time after which a connection without a request counts as idle when the daemon drains or needs its place, in
/// milliseconds. Whoever has just connected, or has just been answered, may have sent one by then (an intercontinental
/// round trip takes 300 ms); that one is answered, as the last. Others must reckon with a close at any time (RFC 9112
/// 9.5).
pub(super) const IDLE_GRACE_MS: u64 = 500;

/// Time that connections get to notice that they were broken off at the end of a drain.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// Bits of a generation that count what uploads have changed: enough for a million a second in three years.
const PUBLICATIONS_BITS: u32 = 48;
/// Least time between two lines about connections that were refused, in milliseconds: whoever connects must not write
/// the log.
const REFUSAL_LINE_MS: u64 = 1_000;

/// Length lent to receives whose bytes are dropped; never touched, so it costs address space only.
const DISCARD_BYTES: usize = 4 << 20;

/// Longest wait for the locked memory of the rings that were tried at the start, which took as much.
const RING_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes asked for in one receive: a head of any length, or many pipelined ones.
pub(super) const RECEIVE_BYTES: usize = 16 << 10;

/// Longest host that is remembered as admitted: a name of the longest kind (RFC 1035 2.3.4), and a port.
const ADMITTED_HOST_BYTES_MAX: usize = 253 + 6;

/// What a worker is started with.
pub(super) struct Assignment {
    pub(super) number: usize,
    /// The core to stay on, where there is one core for each worker.
    pub(super) core: Option<usize>,
    pub(super) driver: Driver,
    pub(super) listener: TcpListener,
    /// Whether a service manager passed it: it is shared, and outlives the daemon.
    pub(super) is_listener_passed: bool,
    pub(super) jobs: mpsc::Receiver<StreamJob>,
    pub(super) live: watch::Receiver<Arc<Live>>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) resources: Resources,
    pub(super) disk_threads: DiskThreads,
    pub(super) asked: Arc<Asked>,
    pub(super) drain: Arc<OnceLock<Drain>>,
}

/// The state that all tasks of a worker share.
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) counters: Arc<WorkerCounters>,
    driver: Driver,
    pub(super) resources: Resources,
    /// Whether TCP paces accepted connections.
    pub(super) is_paced: bool,
    pub(super) registry: Rc<Registry>,
    pub(super) arrivals: Arrivals,
    pub(super) clock: Clock,
    pub(super) pipes: PipePool,
    pub(super) disk: Disk,
    pub(super) waits: DiskWaits,
    pub(super) publications: Publications,
    pub(super) files: FileCache,
    pub(super) idle_targets: IdleTargets,
    /// Lent to receives whose bytes are dropped.
    scratch: RefCell<Vec<u8>>,
    /// Where requests are received, to be copied away or used up before the next wait.
    pub(super) received: RefCell<Box<[u8]>>,
    /// Where responses are written, taken by one at a time and put back once it is sent.
    pub(super) response: Cell<Vec<u8>>,
    /// Streams that have been taken and not ended.
    pub(super) streams_running: Cell<usize>,
    pub(super) access_log: AccessLog,
    pub(super) request_ids: RequestIds,
    began: Instant,
    /// What `Host` said in the last request that was admitted by it: most that follow say the same.
    pub(super) admitted_host: RefCell<Vec<u8>>,
    served: RefCell<Rc<Served>>,
    live: RefCell<Rc<Live>>,
    live_changes: RefCell<watch::Receiver<Arc<Live>>>,
    served_changes: RefCell<watch::Receiver<Arc<Served>>>,
    telemetry: Arc<Telemetry>,
    /// What workers ask of each other where they are full.
    pub(super) asked: Arc<Asked>,
    descriptors: Cell<Descriptors>,
    /// The tick before which no further refused connection is told of.
    refusals_silent_until: Cell<u64>,
    drain: Arc<OnceLock<Drain>>,
    accepting: Cell<bool>,
}

/// Runs a worker to its end on this thread. `ready` is told once, when it accepts or when it can't.
pub(super) fn run(assignment: Assignment, ready: &std::sync::mpsc::Sender<io::Result<()>>) {
    if let Some(core) = assignment.core {
        pin_to(core);
    }
    match assignment.driver {
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
    let Assignment { listener, is_listener_passed, jobs, .. } = assignment;
    let is_paced = pacing::is_on(&listener);
    let made = monoio::net::TcpListener::from_std(listener).and_then(|made| Ok((made, Arrivals::new()?)));
    let (listener, arrivals) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = ready.send(Err(error));
            return true;
        }
    };
    let live = Rc::new(Live::clone(&assignment.live.borrow()));
    let served = Rc::new(Served::clone(&assignment.resources.served.borrow()));
    let descriptors = Descriptors::divide(assignment.resources.descriptors_max, &live.settings);
    let counters = assignment.telemetry.workers.get(assignment.number).cloned().unwrap_or_default();
    let worker = Rc::new(Worker {
        number: assignment.number,
        counters: Arc::clone(&counters),
        driver: assignment.driver,
        served_changes: RefCell::new(assignment.resources.served.clone()),
        resources: assignment.resources,
        is_paced,
        registry: Rc::default(),
        arrivals,
        clock: Clock::new(TICK),
        pipes: PipePool::default(),
        disk: Disk::new(&assignment.disk_threads),
        waits: DiskWaits::new(assignment.number, counters),
        publications: Publications::default(),
        files: FileCache::of(descriptors.known_files_max),
        idle_targets: IdleTargets::default(),
        scratch: RefCell::new(vec![0; DISCARD_BYTES]),
        received: RefCell::new(vec![0; RECEIVE_BYTES].into_boxed_slice()),
        response: Cell::default(),
        streams_running: Cell::new(0),
        access_log: AccessLog::new(assignment.telemetry.log.clone(), live.settings.log_format),
        request_ids: RequestIds::default(),
        began: Instant::now(),
        admitted_host: RefCell::default(),
        served: RefCell::new(served),
        live: RefCell::new(live),
        live_changes: RefCell::new(assignment.live),
        telemetry: assignment.telemetry,
        asked: assignment.asked,
        descriptors: Cell::new(descriptors),
        refusals_silent_until: Cell::new(0),
        drain: assignment.drain,
        accepting: Cell::new(true),
    });
    worker.telemetry.beat(worker.number);
    monoio::spawn(accept_to_the_end(Rc::clone(&worker), listener, is_listener_passed));
    monoio::spawn(tell_arrivals(Rc::clone(&worker)));
    monoio::spawn(stream::take_jobs(Rc::clone(&worker), jobs));
    let _ = ready.send(Ok(()));
    let ended_whole = worker.turn_until_drained().await;
    worker.telemetry.retire(worker.number);
    ended_whole
}

async fn accept_to_the_end(worker: Rc<Worker>, listener: monoio::net::TcpListener, is_passed: bool) {
    accept::run(Rc::clone(&worker), listener, is_passed).await;
    worker.accepting.set(false);
}

async fn tell_arrivals(worker: Rc<Worker>) {
    worker.arrivals.tell(&worker.registry).await;
}

impl Worker {
    /// What is in force: the worker's own copy, since several are asked for in each request.
    pub(super) fn live(&self) -> Rc<Live> {
        Rc::clone(&self.live.borrow())
    }

    /// Requests for `host` are admitted, until the settings change.
    pub(super) fn note_admitted(&self, host: &[u8]) {
        let mut admitted = self.admitted_host.borrow_mut();
        admitted.clear();
        if host.len() <= ADMITTED_HOST_BYTES_MAX {
            admitted.extend_from_slice(host);
        }
    }

    /// When a request that comes now began, for its access line; where none is written the time doesn't matter.
    pub(super) fn request_began(&self) -> Instant {
        if self.live.borrow().settings.writes_access_lines() { Instant::now() } else { self.began }
    }

    /// What is served: the worker's own copy. Whoever asks for several things of one root asks once.
    pub(super) fn served(&self) -> Rc<Served> {
        Rc::clone(&self.served.borrow())
    }

    /// Whether uploads are taken, which no reload changes.
    pub(super) fn takes_uploads(&self) -> bool {
        self.served.borrow().uploads.is_some()
    }

    /// What uploads have changed so far below the root: what is known of a file from before may not be so any more.
    pub(super) fn generation(&self) -> u64 {
        let served = self.served.borrow();
        let published = served.uploads.as_ref().map_or(0, |uploads| uploads.generation());
        (served.number << PUBLICATIONS_BITS) | published
    }

    /// Room for memory that waits for a peer. None where too much of it does.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Reserved> {
        let bytes_max = self.live.borrow().settings.waiting_bytes_max;
        self.telemetry.budget.reserve(Plane::Data, bytes as u64, bytes_max)
    }

    /// Whether the daemon stops: nothing new is begun.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.get().is_some()
    }

    /// Whether it has been stopping for so long that clients could have stopped sending of their own.
    pub(super) fn is_past_idle_grace(&self) -> bool {
        self.drain.get().is_some_and(|drain| drain.began.elapsed() > Duration::from_millis(IDLE_GRACE_MS))
    }

    /// Whether the daemon has as many connections as it may.
    pub(super) fn is_full(&self) -> bool {
        self.telemetry.connections_open() >= self.descriptors().connections_max as u64
    }

    /// Why there is no room for further connections.
    pub(super) fn full_reason(&self) -> &'static str {
        if self.descriptors().connections_max < self.live.borrow().settings.connections_max {
            "connections_max is reached, as the limit of open files lowers it: raise LimitNOFILE= (or ulimit -n)"
        } else {
            "connections_max is reached"
        }
    }

    /// What the settings say as far as there are descriptors for it.
    pub(super) fn descriptors(&self) -> Descriptors {
        self.descriptors.get()
    }

    /// How many workers there are.
    pub(super) fn workers(&self) -> usize {
        self.telemetry.workers.len()
    }

    /// Counts a connection for its client. False: its address holds as many as it may, and it has to go.
    pub(super) fn admit(&self, connection: &Connection) -> bool {
        let connections_max = self.live.borrow().settings.address_connections_max as u64;
        let is_admitted = connection.take_share(&self.resources.shares.connections, connections_max);
        if !is_admitted {
            self.counters.limited.add(Limit::AddressConnections, 1);
            if self.clock.ticks() >= self.refusals_silent_until.get() {
                self.refusals_silent_until.set(self.clock.deadline(REFUSAL_LINE_MS).tick);
                let error = format!("its address holds {connections_max}, which is address_connections_max");
                tracing::info!(peer = %connection.client(), error, "connection refused");
            }
        }
        is_admitted
    }

    /// Drops up to `bytes_max` bytes that have arrived, inside the kernel, and says how many: None where there are none
    /// now, 0 where the peer has ended.
    pub(super) fn discard(&self, socket: &Socket, bytes_max: u64) -> Result<Option<usize>, PeerGone> {
        let mut scratch = self.scratch.borrow_mut();
        let length = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(scratch.len());
        socket.try_discard(&mut scratch[..length])
    }

    /// Lets every other task that is ready run before this one goes on.
    pub(super) async fn let_others_turn(&self) {
        match self.driver {
            // Whoever waits for a completion goes once through the ring anyway. A task that woke itself would keep
            // completions from being reaped: with DEFER_TASKRUN only a waiting enter does that.
            Driver::Uring(_) => {}
            // Readiness that is there already is returned without a look at epoll; a task that wakes itself is
            // queued behind the others, and monoio polls epoll between two rounds of its queue.
            Driver::Epoll => {
                let mut is_queued = false;
                std::future::poll_fn(|context| {
                    if std::mem::replace(&mut is_queued, true) {
                        return Poll::Ready(());
                    }
                    context.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
            }
        }
    }

    async fn turn_until_drained(&self) -> bool {
        loop {
            monoio::time::sleep(TICK).await;
            self.tick();
            let Some(drain) = self.drain.get() else { continue };
            self.idle_targets.clear();
            self.registry.close_idle(self.clock.ticks(), self.clock.deadline(IDLE_GRACE_MS).timeout_ticks);
            let past_deadline = Instant::now() >= drain.deadline;
            if !self.has_ended() && past_deadline {
                self.break_off().await;
            }
            if self.has_ended() || past_deadline {
                self.end_arrivals().await;
                return self.has_ended();
            }
        }
    }

    fn tick(&self) {
        self.clock.advance();
        self.waits.tick(&self.clock);
        self.access_log.flush();
        self.telemetry.beat(self.number);
        let minimum = PaceMinimum::of(&self.live.borrow().settings);
        let too_slow = self.registry.sweep(self.clock.ticks(), &minimum);
        self.counters.limited.add(Limit::Progress, too_slow);
        self.make_room_for_others();
        self.idle_targets.expire(self.clock.ticks());
        self.files.expire(self.clock.ticks()).into_iter().for_each(|file| self.disk.release(file));
        self.disk.sweep(self.live.borrow().settings.disk_timeout_ms);
        let mut served = self.served_changes.borrow_mut();
        if served.has_changed().unwrap_or(false) {
            *self.served.borrow_mut() = Rc::new(Served::clone(&served.borrow_and_update()));
        }
        let mut changes = self.live_changes.borrow_mut();
        if changes.has_changed().unwrap_or(false) {
            let live = Rc::new(Live::clone(&changes.borrow_and_update()));
            let generation = live.generation;
            self.descriptors.set(Descriptors::divide(self.resources.descriptors_max, &live.settings));
            *self.live.borrow_mut() = live;
            self.admitted_host.borrow_mut().clear();
            self.counters.settings_generation.set(generation);
        }
    }

    fn has_ended(&self) -> bool {
        !self.accepting.get() && self.registry.len() == 0 && self.streams_running.get() == 0
    }

    /// The drain took too long: ends what is left.
    async fn break_off(&self) {
        let connections = self.registry.len();
        tracing::warn!(worker = self.number, connections, "drain_timeout_ms is over: breaking off");
        self.registry.abort_all();
        let end = Instant::now() + ABORT_GRACE;
        while !self.has_ended() && Instant::now() < end {
            monoio::time::sleep(TICK).await;
            self.access_log.flush();
        }
    }

    async fn end_arrivals(&self) {
        self.arrivals.stop();
        while !self.arrivals.has_stopped() {
            monoio::time::sleep(Duration::ZERO).await;
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
