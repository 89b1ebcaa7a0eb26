//! The state that all tasks of a worker share: its connections, its clock, its access to files and disks, its counters,
//! and the settings that are in force.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::clock::Clock;
use super::connection::Connection;
use super::disk::Disk;
use super::disk_waits::DiskWaits;
use super::error::PeerGone;
use super::idle_targets::IdleTargets;
use super::pipe_pool::PipePool;
use super::platform;
use super::publications::Publications;
use super::readiness::ReadinessEvents;
use super::registry::Registry;
use super::room_requests::RoomRequests;
use super::served::Served;
use super::socket::Socket;
use crate::config::Live;
use crate::files::archive::Archives;
use crate::files::{FileCache, Generation, Listings, Spool, Synthetic};
use crate::limits::{AddressShares, Descriptors, Full, Holder, Plane, Reserved, TICK, Tick};
use crate::protocol::http1::request::Wanted;
use crate::protocol::name::Name;
use crate::sys::uring::RingFeatures;
use crate::telemetry::{AccessLog, Limit, RequestIds, Telemetry, WorkerCounters};

/// Time after which a connection without a request counts as idle when the daemon drains or needs its place, in
/// milliseconds. Whoever has just connected, or has just been answered, may have sent one by then (an intercontinental
/// round trip takes 300 ms); that one is answered, as the last. Others must reckon with a close at any time (RFC 9112
/// 9.5).
pub(super) const IDLE_GRACE_MS: u64 = 500;

/// Least time between two lines about connections that were refused, in milliseconds: whoever connects must not write
/// the log.
const REFUSAL_LINE_MS: u64 = 1_000;

/// Length lent to receives whose bytes are dropped; never touched, so it costs address space only.
const DISCARD_BYTES: usize = 4 << 20;

/// Bytes asked for in one receive: a head of any length, or many pipelined ones.
pub(super) const RECEIVE_BYTES: usize = 16 << 10;

/// Longest host that is remembered as admitted: a name of the longest kind (RFC 1035 2.3.4), and a port.
const ADMITTED_HOST_BYTES_MAX: usize = 253 + 6;

/// The driver of the workers' event loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring.
    Uring(RingFeatures),
    /// epoll.
    Epoll,
}

impl Driver {
    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Uring(_) => "io_uring",
            Driver::Epoll => "epoll",
        }
    }
}

/// What all workers share for reading and writing files.
#[derive(Clone)]
pub struct Resources {
    /// The directory that is served now.
    pub served: watch::Receiver<Arc<Served>>,
    /// The listings of directories.
    pub listings: Arc<Listings>,
    /// The archives of its directories.
    pub archives: Arc<Archives>,
    /// The directory of stored frames, where frames are stored.
    pub spool: Option<Arc<Spool>>,
    /// Random bytes for streams.
    pub synthetic: Synthetic,
    /// The places that each address holds, of both planes.
    pub shares: AddressShares,
    /// How many descriptors the process may have.
    pub descriptors_max: Option<u64>,
}

/// That the daemon stops.
#[derive(Clone, Copy)]
pub(super) struct Drain {
    pub(super) began: Instant,
    /// When what still runs is broken off.
    pub(super) deadline: Instant,
}

/// The parts that a worker is built from.
pub(super) struct Setup {
    pub(super) number: usize,
    pub(super) driver: Driver,
    pub(super) live: watch::Receiver<Arc<Live>>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) resources: Resources,
    pub(super) room_requests: Arc<RoomRequests>,
    pub(super) drain: Arc<OnceLock<Drain>>,
}

/// The state that all tasks of a worker share.
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) counters: Arc<WorkerCounters>,
    driver: Driver,
    pub(super) resources: Resources,
    pub(super) registry: Rc<Registry>,
    pub(super) readiness: ReadinessEvents,
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
    /// The `Host` of the last request that was admitted by it: most requests that follow name the same one.
    admitted_host: RefCell<Vec<u8>>,
    /// The listener that it came by: another may have other names.
    admitted_at: Cell<u16>,
    /// The fields of requests on which some answer depends.
    pub(super) wanted: Cell<Wanted>,
    served: RefCell<Rc<Served>>,
    live: RefCell<Rc<Live>>,
    live_changes: RefCell<watch::Receiver<Arc<Live>>>,
    served_changes: RefCell<watch::Receiver<Arc<Served>>>,
    pub(super) telemetry: Arc<Telemetry>,
    /// The room that workers ask of each other where they are full.
    pub(super) room_requests: Arc<RoomRequests>,
    descriptors: Cell<Descriptors>,
    /// The tick before which no further refused connection is told of.
    refusals_silent_until: Cell<Tick>,
    drain: Arc<OnceLock<Drain>>,
    pub(super) accepting: Cell<usize>,
}

impl Worker {
    /// Makes the worker of the calling thread, whose event loop waits for `readiness`.
    pub(super) fn new(setup: Setup, disk: Disk, readiness: ReadinessEvents) -> Worker {
        let Setup { number, driver, live: live_changes, telemetry, resources, .. } = setup;
        let live = Rc::new(Live::clone(&live_changes.borrow()));
        let served = Rc::new(Served::clone(&resources.served.borrow()));
        let descriptors = Descriptors::divide(resources.descriptors_max, &live.settings);
        let counters = telemetry.workers.get(number).cloned().unwrap_or_default();
        Worker {
            number,
            counters: Arc::clone(&counters),
            driver,
            served_changes: RefCell::new(resources.served.clone()),
            resources,
            registry: Rc::default(),
            readiness,
            clock: Clock::new(TICK),
            pipes: PipePool::of(descriptors.pipes_max),
            disk,
            waits: DiskWaits::new(number, counters),
            publications: Publications::default(),
            files: FileCache::of(descriptors.known_files_max),
            idle_targets: IdleTargets::default(),
            scratch: RefCell::new(vec![0; DISCARD_BYTES]),
            received: RefCell::new(vec![0; RECEIVE_BYTES].into_boxed_slice()),
            response: Cell::default(),
            streams_running: Cell::new(0),
            access_log: AccessLog::new(telemetry.log.clone(), live.settings.log_format),
            request_ids: RequestIds::default(),
            began: platform::now(),
            admitted_host: RefCell::default(),
            admitted_at: Cell::default(),
            wanted: Cell::new(wanted_by(&served)),
            served: RefCell::new(served),
            live: RefCell::new(live),
            live_changes: RefCell::new(live_changes),
            telemetry,
            room_requests: setup.room_requests,
            descriptors: Cell::new(descriptors),
            refusals_silent_until: Cell::new(Tick::FIRST),
            drain: setup.drain,
            accepting: Cell::new(0),
        }
    }

    /// Returns the settings in force: the worker's own copy, since each request asks for several.
    pub(super) fn live(&self) -> Rc<Live> {
        Rc::clone(&self.live.borrow())
    }

    /// Returns the host of which it is known that requests for it are admitted at this listener; empty where none is.
    pub(super) fn admitted_at(&self, listener: u16) -> Ref<'_, [u8]> {
        let is_here = self.admitted_at.get() == listener;
        Ref::map(self.admitted_host.borrow(), |host| if is_here { &host[..] } else { &[][..] })
    }

    /// Requests for `host` are admitted at this listener, until the settings change.
    pub(super) fn note_admitted(&self, listener: u16, host: &[u8]) {
        self.admitted_at.set(listener);
        let mut admitted = self.admitted_host.borrow_mut();
        admitted.clear();
        if host.len() <= ADMITTED_HOST_BYTES_MAX {
            admitted.extend_from_slice(host);
        }
    }

    /// When a request that comes now began, for its access line; where none is written the time doesn't matter.
    pub(super) fn request_began(&self) -> Instant {
        if self.live.borrow().settings.writes_access_lines() { platform::now() } else { self.began }
    }

    /// Returns what is served: the worker's own copy. Whoever asks for several things of one share asks once.
    pub(super) fn served(&self) -> Rc<Served> {
        Rc::clone(&self.served.borrow())
    }

    /// Whether any share takes uploads.
    pub(super) fn takes_uploads(&self) -> bool {
        !self.served.borrow().uploads().is_empty()
    }

    /// Whether the share that a name belongs to takes uploads.
    pub(super) fn takes_upload_of(&self, name: &Name) -> bool {
        self.takes_uploads()
            && self.served.borrow().find(name).is_some_and(|(served, _)| served.uploads.is_some())
    }

    /// Returns how often uploads have changed files of any share, and reloads the shares: facts about a file from
    /// before may be outdated.
    pub(super) fn generation(&self) -> Generation {
        let served = self.served.borrow();
        Generation::of(served.number(), served.publications())
    }

    /// Room for memory that waits for a peer, who is counted as `holder`.
    pub(super) fn reserve(&self, holder: Holder, bytes: usize) -> Result<Reserved, Full> {
        let bytes_max = self.live.borrow().settings.waiting_bytes_max;
        self.telemetry.budget.reserve(Plane::Data(holder), bytes as u64, bytes_max)
    }

    /// Goes by the settings and the shares that a reload has put in place of those of before.
    pub(super) fn follow_changes(&self) {
        let mut served = self.served_changes.borrow_mut();
        if served.has_changed().unwrap_or(false) {
            let served = Rc::new(Served::clone(&served.borrow_and_update()));
            self.wanted.set(wanted_by(&served));
            *self.served.borrow_mut() = served;
        }
        let mut changes = self.live_changes.borrow_mut();
        if changes.has_changed().unwrap_or(false) {
            let live = Rc::new(Live::clone(&changes.borrow_and_update()));
            let generation = live.generation;
            let descriptors = Descriptors::divide(self.resources.descriptors_max, &live.settings);
            self.pipes.limit(descriptors.pipes_max);
            self.descriptors.set(descriptors);
            *self.live.borrow_mut() = live;
            self.admitted_host.borrow_mut().clear();
            self.counters.settings_generation.set(generation);
        }
    }

    /// How the daemon stops, once it does.
    pub(super) fn drain(&self) -> Option<Drain> {
        self.drain.get().copied()
    }

    /// Whether the daemon stops: nothing new is begun.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.get().is_some()
    }

    /// Whether it has been stopping for so long that clients could have stopped sending of their own.
    pub(super) fn is_past_idle_grace(&self) -> bool {
        self.drain.get().is_some_and(|drain| {
            platform::now().saturating_duration_since(drain.began) > Duration::from_millis(IDLE_GRACE_MS)
        })
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

    /// Returns the limits of the settings, as far as there are descriptors for them.
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
            if self.clock.now() >= self.refusals_silent_until.get() {
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
    pub(super) async fn yield_now(&self) {
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
}

/// The fields of requests on which an answer of one of these shares depends.
fn wanted_by(served: &Served) -> Wanted {
    let mut shares = served.shares().iter().map(|served| &served.share);
    Wanted {
        origin: shares.clone().any(|share| share.cors().is_some()),
        accept_encoding: shares.any(|share| !share.settings.precompressed.is_empty()),
    }
}
