//! The daemon as a value: started from checked settings, reloaded, drained. The binary and the tests use it
//! alike.

mod bind;
mod error;
mod root_watch;
mod serving;
mod sweeper;
mod unix_socket;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::config::{DriverChoice, Exposure, ListenAddress, Live, PlaneChoice, Reach, Settings, SinkChoice};
use crate::control::{self, ControlContext, ControlPlane};
use crate::dataplane::{DataPlane, Driver, Resources, Served, WorkerEnded};
use crate::files::archive::Archives;
use crate::files::{Listings, Spool, Synthetic};
use crate::limits::{AddressShares, Descriptors, memory_limit_bytes};
use crate::sandbox::Sandbox;
use crate::sys::uring;
use crate::systemd::PassedSockets;
use crate::telemetry::{HEARTBEAT_AGE_MAX, LogQueue, Telemetry};
use bind::Listening;
pub use error::DaemonError;
use root_watch::{Open, Renewed, RootWatch};
use sweeper::Sweeper;

/// The interval of looks whether all workers use new settings, which they take up with their next tick.
const ADOPTION_LOOK: Duration = Duration::from_millis(2);

/// The divisor of this host's or cgroup's memory that gives the most which answers waiting for their readers may
/// take, whatever the settings say: an eighth, as the buffers of long bodies do.
const WAITING_SHARE: u64 = 8;

/// A running daemon.
pub struct Daemon {
    data: DataPlane,
    control: ControlPlane,
    /// The sweeper of the uploads of the shares that are served now.
    sweeper: Mutex<Option<Sweeper>>,
    spool: Option<Arc<Spool>>,
    root_watch: Option<RootWatch>,
    served: watch::Sender<Arc<Served>>,
    listening: Listening,
    live: watch::Sender<Arc<Live>>,
    telemetry: Arc<Telemetry>,
    ended: mpsc::UnboundedReceiver<WorkerEnded>,
}

impl Daemon {
    /// Starts both planes; when this returns, every worker accepts. Access lines go to `log`.
    pub fn start(live: Live, log: &LogQueue) -> Result<Daemon, DaemonError> {
        Daemon::start_on(PassedSockets::default(), live, log, &Sandbox::off())
    }

    /// Starts as [`Daemon::start`] does, on listeners that a service manager passed as far as there are some, at
    /// the addresses that the settings name by then. The caller's thread is in `sandbox`, and gives up the rights
    /// that binding needed.
    pub fn start_on(
        passed: PassedSockets,
        live: Live,
        log: &LogQueue,
        sandbox: &Sandbox,
    ) -> Result<Daemon, DaemonError> {
        let passed_planes = passed.planes();
        let driver = choose_driver(&live.settings)?;
        let (listening, bound, sockets) = bind::bind(&live, passed)?;
        sandbox.after_binding()?;
        let data_addresses = bound.addresses().to_vec();
        let (served_sender, served) = watch::channel(Arc::new(serving::open_all(&live.shares, 0)?));
        let telemetry = Telemetry::new(live.settings.workers, driver.name(), log.clone());
        telemetry.budget.cap(memory_limit_bytes() / WAITING_SHARE);
        let resources = resources(&live.settings, &served, &telemetry)?;
        let (sender, receiver) = watch::channel(Arc::new(live));
        let (ended_sender, ended) = mpsc::unbounded_channel();
        let data = DataPlane::start(bound, driver, &receiver, &telemetry, &resources, &ended_sender)?;
        let control = control::start(ControlContext {
            sockets,
            live: receiver.clone(),
            telemetry: Arc::clone(&telemetry),
            mailboxes: data.mailboxes(),
            data_addresses,
            shares: resources.shares.clone(),
            descriptors_max: resources.descriptors_max,
        })?;
        let served = served.borrow().clone();
        let sweeper = Mutex::new(start_sweeper(&served, &resources.spool, &telemetry)?);
        let root_watch = start_root_watch(&receiver.borrow().settings, &served, sandbox, &telemetry)?;
        let daemon = Daemon {
            data,
            control,
            sweeper,
            spool: resources.spool,
            root_watch,
            served: served_sender,
            listening,
            live: sender,
            telemetry,
            ended,
        };
        daemon.announce(driver, passed_planes);
        Ok(daemon)
    }

    /// Returns the first address of TCP that a plane listens on.
    pub fn address(&self, plane: PlaneChoice) -> Option<SocketAddr> {
        self.listening.addresses(plane).find_map(ListenAddress::inet)
    }

    /// Returns the daemon's counters.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Puts in force the part of `new` that can change in a running daemon, and returns the settings that need a
    /// restart. When this returns, every worker uses the new settings; a stuck worker is waited for no longer than
    /// until it counts as stuck.
    pub fn reload(&self, new: Live) -> Vec<String> {
        let old = self.live();
        let (live, needs_restart) = old.reload(new);
        if Exposure::of(&live) != Exposure::of(&old) {
            announce_exposure(&live);
        }
        let generation = live.generation;
        // The shares come first: a worker that uses the new settings must use the new roots too.
        self.renew_shares(&live);
        self.live.send_replace(Arc::new(live));
        self.await_adoption(generation);
        needs_restart
    }

    /// Serves the shares of these settings, each from the directory that its root's path leads to by now. Running
    /// transfers go on with those of before.
    fn renew_shares(&self, live: &Live) {
        let Some(watch) = &self.root_watch else { return };
        let before = self.served.borrow().clone();
        let renewed = watch.renew(Arc::clone(&before), &live.shares, live.generation);
        let renewed = renewed.unwrap_or_else(|reason| {
            let served = Arc::new(serving::without_new(&before, &live.shares, live.generation));
            let is_same = serving::are_same(&before, &served);
            let failed = vec![("/".to_owned(), reason)];
            Renewed { served: (!is_same).then_some(served), opened: Vec::new(), failed }
        });
        for (share, reason) in &renewed.failed {
            tracing::error!(share, reason, "the root could not be reopened: the former one stays");
        }
        let Some(served) = renewed.served else { return };
        match start_sweeper(&served, &self.spool, &self.telemetry) {
            Ok(sweeper) => *self.sweeper.lock().unwrap_or_else(PoisonError::into_inner) = sweeper,
            Err(error) => tracing::error!(%error, "uploads below the new roots are not swept"),
        }
        self.data.take_mounts(&served);
        self.served.send_replace(served);
        for share in renewed.opened {
            let is_new = before.at(&share).is_none();
            let what = if is_new { "the root was opened" } else { "the root was reopened" };
            tracing::info!(share, "{what}");
        }
    }

    fn await_adoption(&self, generation: u64) {
        let end = Instant::now() + HEARTBEAT_AGE_MAX;
        while !self.telemetry.have_adopted(generation) {
            if Instant::now() >= end {
                tracing::warn!("a worker doesn't go by the new settings yet");
                return;
            }
            std::thread::park_timeout(ADOPTION_LOOK);
        }
    }

    /// Returns the settings in force.
    pub fn live(&self) -> Arc<Live> {
        self.live.borrow().clone()
    }

    /// Waits until a worker ends by itself, which is always a fault.
    pub async fn worker_ended(&mut self) -> Option<WorkerEnded> {
        self.ended.recv().await
    }

    /// Stops accepting, lets transfers finish for at most `drain_timeout_ms`, and ends both planes. Blocks until
    /// then; /health answers 503 meanwhile.
    pub fn drain(mut self) {
        let timeout = Duration::from_millis(self.live.borrow().settings.drain_timeout_ms);
        tracing::info!(connections = self.telemetry.connections_open(), "draining");
        self.telemetry.start_draining();
        // Whoever comes from now on finds no socket; who has connected is still accepted.
        self.listening.remove_sockets(PlaneChoice::Data);
        self.data.drain(timeout);
        drop((self.sweeper, self.root_watch));
        self.listening.remove_sockets(PlaneChoice::Control);
        self.control.stop();
        tracing::info!("stopped");
    }

    fn announce(&self, driver: Driver, inherited: &str) {
        let live = self.live.borrow();
        self.listening.log();
        let first =
            |plane| self.listening.addresses(plane).next().map(ToString::to_string).unwrap_or_default();
        tracing::info!(
            data = %first(PlaneChoice::Data),
            control = %first(PlaneChoice::Control),
            workers = live.settings.workers,
            driver = driver.name(),
            inherited,
            version = env!("CARGO_PKG_VERSION"),
            "listening"
        );
        announce_exposure(&live);
    }
}

/// Logs who may do what from now on.
fn announce_exposure(live: &Live) {
    let Exposure { reading, frames, uploads, control, proxies } = Exposure::of(live);
    tracing::info!(reading, frames, uploads, control, proxies, "open to");
}

/// Chooses the driver. Every worker's ring is tried before anything listens: one that is refused later would end
/// all the others.
fn choose_driver(settings: &Settings) -> Result<Driver, DaemonError> {
    if settings.driver == DriverChoice::Epoll {
        return Ok(Driver::Epoll);
    }
    match uring::probe_all(settings.workers) {
        Ok(features) => Ok(Driver::Uring(features)),
        Err(refused) if settings.driver == DriverChoice::Uring => Err(DaemonError::Driver(refused)),
        Err(refused) => {
            tracing::warn!(reason = %refused, "falling back to epoll");
            Ok(Driver::Epoll)
        }
    }
}

fn resources(
    settings: &Settings,
    served: &watch::Receiver<Arc<Served>>,
    telemetry: &Telemetry,
) -> Result<Resources, DaemonError> {
    let spool =
        settings.spool.as_deref().filter(|_| settings.sink == SinkChoice::Store).map(|path| {
            Spool::open(path).map_err(|reason| DaemonError::Spool { path: path.to_owned(), reason })
        });
    Ok(Resources {
        served: served.clone(),
        listings: Arc::new(Listings::new(Arc::clone(&telemetry.budget))),
        archives: Arc::new(Archives::new(Arc::clone(&telemetry.budget))),
        spool: spool.transpose()?,
        synthetic: Synthetic::new().map_err(DaemonError::Synthetic)?,
        shares: AddressShares::default(),
        descriptors_max: Descriptors::of_process(),
    })
}

fn start_sweeper(
    served: &Served,
    spool: &Option<Arc<Spool>>,
    telemetry: &Arc<Telemetry>,
) -> Result<Option<Sweeper>, DaemonError> {
    let is_needed = !served.uploads().is_empty() || spool.is_some();
    let sweeper = is_needed.then(|| Sweeper::start(served, spool.clone(), telemetry));
    sweeper.transpose().map_err(DaemonError::Sweeper)
}

/// Starts the watch over the roots, unless there are none and no reload may bring some.
fn start_root_watch(
    settings: &Settings,
    served: &Arc<Served>,
    sandbox: &Sandbox,
    telemetry: &Arc<Telemetry>,
) -> Result<Option<RootWatch>, DaemonError> {
    if served.shares().is_empty() && settings.roots_allowed.is_empty() {
        return Ok(None);
    }
    let is_confined = sandbox.reach() == Reach::Sandbox;
    let open: Open = Box::new(move |share| {
        let may_be_read = || serving::open_root(share).map(|root| root.may_be_read());
        if is_confined && !may_be_read().map_err(|error| error.to_string())? {
            return Err("the sandbox shows the directory that was there at the start: restart".to_owned());
        }
        serving::open(share).map_err(|error| error.to_string())
    });
    let watch = RootWatch::start(Arc::clone(served), open, telemetry);
    watch.map(Some).map_err(DaemonError::RootWatch)
}
