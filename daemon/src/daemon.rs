//! The daemon as a value: started from checked settings, reloaded, drained. The binary and the tests use it
//! alike.

mod sweeper;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::{mpsc, watch};

use crate::config::{DriverChoice, Live, SinkChoice, listen_remedy};
use crate::control::{self, ControlContext, ControlError, ControlPlane};
use crate::dataplane::{DataPlane, DataPlaneError, Driver, Resources, WorkerEnded};
use crate::files::upload::{UploadError, Uploads};
use crate::files::{FileError, Root, Spool, SpoolError, Synthetic};
use crate::sandbox::{Sandbox, SandboxError};
use crate::sys::uring::{self, RingRefused};
use crate::systemd::Listeners;
use crate::telemetry::{LogQueue, Telemetry};
use sweeper::Sweeper;

/// Connections that may wait for the control plane to accept them.
const CONTROL_BACKLOG: i32 = 1024;

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The root can't be opened.
    #[error("root {}: {reason}", path.display())]
    Root {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: FileError,
    },
    /// Nothing can be uploaded below the root.
    #[error("uploads below {}: {reason}", path.display())]
    Uploads {
        /// The root.
        path: PathBuf,
        /// What is wrong with it.
        reason: UploadError,
    },
    /// The spool can't be used.
    #[error("spool {}: {reason}", path.display())]
    Spool {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: SpoolError,
    },
    /// `driver = "uring"` and the kernel says no.
    #[error("driver uring: {0}; --driver auto would fall back to epoll")]
    Driver(RingRefused),
    /// What binding needed can't be given up.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The control address can't be listened on.
    #[error("control_listen {address}: {reason}{}", listen_remedy("control_listen", .reason))]
    ControlListen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
    /// The data plane could not start.
    #[error(transparent)]
    DataPlane(#[from] DataPlaneError),
    /// The control plane could not start.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The source of synthetic bytes could not be made.
    #[error("memory for synthetic streams: {0}")]
    Synthetic(io::Error),
    /// The thread that sweeps uploads could not be started.
    #[error("the thread that sweeps uploads: {0}")]
    Sweeper(io::Error),
}

impl DaemonError {
    /// Whether the configuration is at fault rather than the moment.
    pub fn is_configuration(&self) -> bool {
        matches!(self, DaemonError::Root { .. } | DaemonError::Uploads { .. } | DaemonError::Spool { .. })
    }

    /// What the system said, where that is what went wrong.
    pub fn errno(&self) -> Option<i32> {
        match self {
            DaemonError::ControlListen { reason, .. }
            | DaemonError::DataPlane(
                DataPlaneError::Listen { reason, .. }
                | DataPlaneError::Worker { reason, .. }
                | DataPlaneError::Disk(reason),
            )
            | DaemonError::Synthetic(reason)
            | DaemonError::Sweeper(reason) => reason.raw_os_error(),
            _ => None,
        }
    }
}

/// A running daemon.
pub struct Daemon {
    data: DataPlane,
    control: ControlPlane,
    sweeper: Option<Sweeper>,
    data_address: SocketAddr,
    live: watch::Sender<Arc<Live>>,
    telemetry: Arc<Telemetry>,
    ended: mpsc::UnboundedReceiver<WorkerEnded>,
}

impl Daemon {
    /// Starts both planes; when this returns, every worker accepts. Access lines go to `log`.
    pub fn start(live: Live, log: &LogQueue) -> Result<Daemon, DaemonError> {
        Daemon::start_on(Listeners::default(), live, log, &Sandbox::off())
    }

    /// Like [`Daemon::start`], on listeners that a service manager passed as far as there are some, at the addresses
    /// that the settings name by then. The caller's thread is in `sandbox`, and gives up what binding needed.
    pub fn start_on(
        passed: Listeners,
        live: Live,
        log: &LogQueue,
        sandbox: &Sandbox,
    ) -> Result<Daemon, DaemonError> {
        let passed_planes = passed.planes();
        let driver = choose_driver(live.settings.driver)?;
        let bound = DataPlane::bind(&live, passed.data)?;
        let listener = bind_control(live.settings.control_listen, passed.control)?;
        sandbox.after_binding()?;
        let data_address = bound.address();
        let resources = resources(&live)?;
        let telemetry = Telemetry::new(live.settings.workers, driver.name(), log.clone());
        let (sender, receiver) = watch::channel(Arc::new(live));
        let (ended_sender, ended) = mpsc::unbounded_channel();
        let data = DataPlane::start(bound, driver, &receiver, &telemetry, &resources, &ended_sender)?;
        let control = control::start(ControlContext {
            listener,
            live: receiver.clone(),
            telemetry: Arc::clone(&telemetry),
            mailboxes: data.mailboxes(),
            data_address,
        })?;
        let sweeper = resources.uploads.map(|uploads| Sweeper::start(uploads, receiver, &telemetry));
        let sweeper = sweeper.transpose().map_err(DaemonError::Sweeper)?;
        let daemon = Daemon { data, control, sweeper, data_address, live: sender, telemetry, ended };
        daemon.announce(driver, passed_planes);
        Ok(daemon)
    }

    /// The address of the data plane.
    pub fn data_address(&self) -> SocketAddr {
        self.data_address
    }

    /// The address of the control plane.
    pub fn control_address(&self) -> SocketAddr {
        self.control.address()
    }

    /// The daemon's counters.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Puts in force what of `new` can change in a running daemon, and names the settings that need a restart.
    pub fn reload(&self, new: Live) -> Vec<String> {
        let (live, needs_restart) = self.live.borrow().reload(new);
        self.live.send_replace(Arc::new(live));
        needs_restart
    }

    /// What is in force.
    pub fn live(&self) -> Arc<Live> {
        self.live.borrow().clone()
    }

    /// Waits until a worker ends by itself, which is always a fault.
    pub async fn worker_ended(&mut self) -> Option<WorkerEnded> {
        self.ended.recv().await
    }

    /// Stops accepting, lets transfers finish for at most `drain_timeout_ms`, and ends both planes. Blocks until
    /// then; /health answers 503 meanwhile.
    pub fn drain(self) {
        let timeout = Duration::from_millis(self.live.borrow().settings.drain_timeout_ms);
        tracing::info!(connections = self.telemetry.connections_open(), "draining");
        self.telemetry.start_draining();
        self.data.drain(timeout);
        drop(self.sweeper);
        self.control.stop();
        tracing::info!("stopped");
    }

    fn announce(&self, driver: Driver, inherited: &str) {
        let live = self.live.borrow();
        tracing::info!(
            data = %self.data_address,
            control = %self.control.address(),
            workers = live.settings.workers,
            driver = driver.name(),
            inherited,
            version = env!("CARGO_PKG_VERSION"),
            "listening"
        );
    }
}

fn choose_driver(choice: DriverChoice) -> Result<Driver, DaemonError> {
    match (choice, uring::probe()) {
        (DriverChoice::Epoll, _) => Ok(Driver::Epoll),
        (_, Ok(features)) => Ok(Driver::Uring(features)),
        (DriverChoice::Uring, Err(refused)) => Err(DaemonError::Driver(refused)),
        (DriverChoice::Auto, Err(refused)) => {
            tracing::warn!(reason = %refused, "falling back to epoll");
            Ok(Driver::Epoll)
        }
    }
}

fn resources(live: &Live) -> Result<Resources, DaemonError> {
    let settings = &live.settings;
    let root = settings.root.as_deref().map(|path| open_root(path, settings.uploads)).transpose()?;
    let uploads = root.as_ref().filter(|_| settings.uploads).map(|root| {
        let path = settings.root.clone().unwrap_or_default();
        Uploads::open(Arc::clone(root)).map_err(|reason| DaemonError::Uploads { path, reason })
    });
    let spool =
        settings.spool.as_deref().filter(|_| settings.sink == SinkChoice::Store).map(|path| {
            Spool::open(path).map_err(|reason| DaemonError::Spool { path: path.to_owned(), reason })
        });
    Ok(Resources {
        root,
        uploads: uploads.transpose()?,
        spool: spool.transpose()?,
        synthetic: Synthetic::new().map_err(DaemonError::Synthetic)?,
    })
}

fn open_root(path: &Path, with_uploads: bool) -> Result<Arc<Root>, DaemonError> {
    let root = Root::open(path).map_err(|reason| DaemonError::Root { path: path.to_owned(), reason })?;
    // Without uploads nobody records digests, and a look for some would only cost time.
    Ok(Arc::new(if with_uploads { root.reading_digests() } else { root }))
}

fn bind_control(address: SocketAddr, passed: Option<TcpListener>) -> Result<TcpListener, DaemonError> {
    let bind = || {
        if let Some(passed) = passed {
            // Again, which only changes the length of the queue.
            SockRef::from(&passed).listen(CONTROL_BACKLOG)?;
            return Ok(passed);
        }
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for connections in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(CONTROL_BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bind().map_err(|reason| DaemonError::ControlListen { address, reason })
}
