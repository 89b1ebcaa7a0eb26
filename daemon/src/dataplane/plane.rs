//! The data plane as a whole: starts the workers, tells them to drain, waits for them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity};
use tokio::sync::{mpsc, watch};

use super::context::{Drain, Driver, Resources, Setup};
use super::disk::{DiskThreads, MountNames, Pool, ShareMounts};
use super::listener::{self, Options, WorkerListener};
use super::room_requests::RoomRequests;
use super::served::Served;
use super::worker::{self, Assignment};
use crate::config::{ListenAddress, Listener, Live, PlaneChoice, Settings, listen_remedy, thread_remedy};
use crate::job::{MAILBOX_JOBS_MAX, Mailboxes, StreamJob};
use crate::sys::uring;
use crate::telemetry::Telemetry;

/// Why the data plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// An address can't be listened on.
    #[error("{key} {address}: {reason}{}", remedy(key, .reason))]
    Listen {
        /// The setting that it stands in.
        key: &'static str,
        /// The address.
        address: ListenAddress,
        /// The system's error.
        reason: io::Error,
    },
    /// A worker's thread could not be started.
    #[error("worker {number}: its thread can't be started: {reason}{}, or lower workers", thread_remedy(.reason))]
    Thread {
        /// The worker.
        number: usize,
        /// The system's error.
        reason: io::Error,
    },
    /// A worker's event loop could not be made.
    #[error(
        "worker {number}: its event loop ({}) can't be set up: {reason}{}",
        .driver.name(),
        loop_remedy(*.driver, .reason)
    )]
    EventLoop {
        /// The worker.
        number: usize,
        /// The driver that should have run it.
        driver: Driver,
        /// The system's error.
        reason: io::Error,
    },
    /// The disk threads could not be started.
    #[error("a disk thread can't be started: {0}{remedy}, or lower disk_threads", remedy = thread_remedy(.0))]
    Disk(io::Error),
}

/// The data plane's sockets have one option more that may be refused.
fn remedy(key: &str, reason: &io::Error) -> String {
    let of_address = listen_remedy(key, reason);
    match reason.kind() {
        io::ErrorKind::PermissionDenied => {
            of_address + ", a congestion control outside the allowed ones CAP_NET_ADMIN"
        }
        io::ErrorKind::NotFound => {
            ": this congestion control isn't loaded; see net.ipv4.tcp_available_congestion_control".to_owned()
        }
        _ => of_address,
    }
}

fn loop_remedy(driver: Driver, reason: &io::Error) -> String {
    let remedy = match driver {
        Driver::Uring(_) => uring::remedy(reason),
        Driver::Epoll => "look at the limits of open files (LimitNOFILE=, ulimit -n) and of memory",
    };
    format!(": {remedy}, or lower workers")
}

/// A worker that ended, expected or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerEnded(pub usize);

/// A listening socket that the data plane needn't bind: all workers share it.
#[derive(Debug)]
pub struct GivenSocket {
    /// The place of the listener whose socket it is.
    pub place: u16,
    /// The socket.
    pub socket: OwnedFd,
    /// Whether somebody else keeps it, so that it outlives the daemon.
    pub is_kept: bool,
}

/// Bound listeners, not yet served.
pub struct Bound {
    /// Those of each worker.
    workers: Vec<Vec<WorkerListener>>,
    /// The addresses of TCP, each with the place of its listener.
    addresses: Vec<(u16, SocketAddr)>,
}

/// Time beyond the drain's own that a worker gets to end before it is given up as stuck.
const JOIN_GRACE: Duration = Duration::from_secs(5);

/// The running workers.
pub struct DataPlane {
    workers: Vec<WorkerThread>,
    drain: Arc<OnceLock<Drain>>,
    mailboxes: Mailboxes,
    disk: Arc<Pool>,
}

impl DataPlane {
    /// Binds one socket of each listener for each worker, or lets all share the one that was given.
    pub fn bind(live: &Live, mut given: Vec<GivenSocket>) -> Result<Bound, DataPlaneError> {
        let count = live.settings.workers;
        let mut bound = Bound { workers: (0..count).map(|_| Vec::new()).collect(), addresses: Vec::new() };
        for (place, listener) in live.listeners.of(PlaneChoice::Data) {
            let failed = |reason| DataPlaneError::Listen {
                key: listener.key,
                address: listener.address.clone(),
                reason,
            };
            let given =
                given.iter().position(|given| given.place == place).map(|found| given.swap_remove(found));
            bound.add(place, listener, given, &live.settings).map_err(failed)?;
        }
        Ok(bound)
    }

    /// Starts the workers and waits until all accept. `ended` is told of each that ends.
    pub fn start(
        bound: Bound,
        driver: Driver,
        live: &watch::Receiver<Arc<Live>>,
        telemetry: &Arc<Telemetry>,
        resources: &Resources,
        ended: &mpsc::UnboundedSender<WorkerEnded>,
    ) -> Result<DataPlane, DataPlaneError> {
        let disk_threads = start_disk_threads(&live.borrow().settings, resources)?;
        let pool = Arc::clone(disk_threads.pool());
        let disk = Arc::clone(&pool);
        telemetry.watch_disk(move || pool.report());
        let cores = cores_for(bound.workers.len());
        let drain: Arc<OnceLock<Drain>> = Arc::default();
        let room_requests: Arc<RoomRequests> = Arc::default();
        let (mut workers, mut mailboxes, mut ready) = (Vec::new(), Vec::new(), Vec::new());
        for (number, listeners) in bound.workers.into_iter().enumerate() {
            let (sender, jobs) = mpsc::channel::<StreamJob>(MAILBOX_JOBS_MAX);
            mailboxes.push(sender);
            let setup = Setup {
                number,
                driver,
                live: live.clone(),
                telemetry: Arc::clone(telemetry),
                resources: resources.clone(),
                room_requests: Arc::clone(&room_requests),
                drain: Arc::clone(&drain),
            };
            let assignment = Assignment {
                core: cores.as_ref().and_then(|cores| cores.get(number).copied()),
                listeners,
                jobs,
                disk_threads: disk_threads.clone(),
                setup,
            };
            let (thread, started) = spawn(assignment, ended.clone())
                .map_err(|reason| DataPlaneError::Thread { number, reason })?;
            workers.push(thread);
            ready.push(started);
        }
        let plane = DataPlane { workers, drain, mailboxes: Mailboxes::new(mailboxes), disk };
        match wait_until_ready(&ready, driver) {
            Ok(()) => Ok(plane),
            Err(error) => {
                plane.drain(Duration::ZERO);
                Err(error)
            }
        }
    }

    /// Takes the mounts of what is about to be served: their work gets the part of a root's, and their names.
    pub fn take_mounts(&self, served: &Served) {
        self.disk.take_names(mount_names(served));
    }

    /// Where streams are handed in.
    pub fn mailboxes(&self) -> Mailboxes {
        self.mailboxes.clone()
    }

    /// From now on nothing new is begun; what runs gets `timeout` to finish.
    fn start_draining(&self, timeout: Duration) {
        let began = Instant::now();
        let _ = self.drain.set(Drain { began, deadline: began + timeout });
    }

    /// Drains, and waits for all workers to end. One that is stuck, in a system call that doesn't return say, is
    /// given up with an error in the log: the process must be able to end.
    pub fn drain(self, timeout: Duration) {
        self.start_draining(timeout);
        let end = Instant::now() + timeout + JOIN_GRACE;
        for (number, worker) in self.workers.into_iter().enumerate() {
            if worker.has_ended_by(end) {
                // A worker that panicked has been reported by the panic itself.
                let _ = worker.thread.join();
            } else {
                tracing::error!(worker = number, "a worker is stuck and was given up");
            }
        }
    }
}

impl Bound {
    /// The addresses of TCP that are listened on, each with the place of its listener.
    pub fn addresses(&self) -> &[(u16, SocketAddr)] {
        &self.addresses
    }

    /// Adds a listener to each worker.
    fn add(
        &mut self,
        place: u16,
        listener: &Listener,
        given: Option<GivenSocket>,
        settings: &Settings,
    ) -> io::Result<()> {
        let (count, congestion_control) = (self.workers.len(), settings.congestion_control.as_deref());
        let is_kept = given.as_ref().is_some_and(|given| given.is_kept);
        let is_shared = given.is_some();
        let sockets = match (given, listener.address.inet()) {
            (Some(given), _) => listener::share(given.socket, count, congestion_control)?,
            (None, Some(address)) => {
                listener::bind(address, count, Options { ipv6_only: listener.ipv6_only, congestion_control })?
            }
            (None, None) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let is_local = listener.address.path().is_some();
        if let (false, Some(socket)) = (is_local, sockets.first()) {
            self.addresses.push((place, socket.local_addr()?));
        }
        for (worker, socket) in self.workers.iter_mut().zip(sockets) {
            worker.push(WorkerListener { place, socket, is_local, is_shared, is_kept });
        }
        Ok(())
    }
}

fn start_disk_threads(settings: &Settings, resources: &Resources) -> Result<DiskThreads, DataPlaneError> {
    let names = mount_names(&resources.served.borrow());
    DiskThreads::start(settings.disk_threads, settings.disk_timeout_ms, names).map_err(DataPlaneError::Disk)
}

fn mount_names(served: &Served) -> MountNames {
    let names = served.shares().iter().map(|served| {
        let path = served.share.path.as_str().trim_end_matches('/').to_owned();
        ShareMounts { path, mounts: Arc::clone(served.root.mounts()) }
    });
    MountNames::new(names.collect())
}

type Ready = Receiver<io::Result<()>>;

struct WorkerThread {
    thread: JoinHandle<()>,
    /// Disconnected when the thread ends; nothing is ever sent.
    ended: Receiver<()>,
}

impl WorkerThread {
    fn has_ended_by(&self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        self.ended.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Tells that a worker's thread ends, even by a panic, in builds that unwind.
struct TellEnd {
    number: usize,
    supervisor: mpsc::UnboundedSender<WorkerEnded>,
    _drain: Sender<()>,
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        let _ = self.supervisor.send(WorkerEnded(self.number));
    }
}

fn spawn(
    assignment: Assignment,
    supervisor: mpsc::UnboundedSender<WorkerEnded>,
) -> io::Result<(WorkerThread, Ready)> {
    let number = assignment.setup.number;
    let (sender, ready) = channel();
    let (end, ended) = channel();
    let thread = std::thread::Builder::new().name(format!("streamd-{number}")).spawn(move || {
        let _tell = TellEnd { number, supervisor, _drain: end };
        worker::run(assignment, &sender);
    })?;
    Ok((WorkerThread { thread, ended }, ready))
}

fn wait_until_ready(ready: &[Ready], driver: Driver) -> Result<(), DataPlaneError> {
    for (number, started) in ready.iter().enumerate() {
        let result = started.recv().unwrap_or_else(|_| Err(io::Error::other("ended before it was ready")));
        result.map_err(|reason| DataPlaneError::EventLoop { number, driver, reason })?;
    }
    Ok(())
}

/// One core for each worker, where there are exactly as many. With fewer workers than cores pinning would pile
/// several daemons onto the first cores; with more it would pile up workers.
fn cores_for(workers: usize) -> Option<Vec<usize>> {
    let usable = sched_getaffinity(None).ok()?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| usable.is_set(*core)).collect();
    (cores.len() == workers).then_some(cores)
}
