//! The control plane: health, streams and metrics over HTTP/1, on a thread of its own.
//!
//! It moves no payload and never waits for a worker's thread: a stream is handed over as a [`StreamJob`] and
//! its end comes back through a channel.
//!
//! [`StreamJob`]: crate::job::StreamJob

mod auth;
mod body;
mod connection;
mod error;
mod head_deadline;
mod listen;
mod query;
mod refusal_log;
mod registry;
mod response;
mod routes;
mod streams;
mod target;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use self::refusal_log::RefusalLog;
use self::registry::Registry;
use self::target::OwnDataPlane;
use crate::config::Live;
use crate::job::Mailboxes;
use crate::telemetry::Telemetry;

/// Threads that resolve target names: getaddrinfo(3) blocks, and behind a dead name server it does so for
/// many seconds. More lookups than this wait their turn, within their own time-out.
const LOOKUP_THREADS_MAX: usize = 8;

/// What the control plane works with.
pub struct ControlContext {
    /// Bound and listening.
    pub listener: std::net::TcpListener,
    /// The settings in force; read anew for each request.
    pub live: watch::Receiver<Arc<Live>>,
    /// Counters and the workers' heartbeats.
    pub telemetry: Arc<Telemetry>,
    /// Where streams are handed over.
    pub mailboxes: Mailboxes,
    /// Bound address of the own data plane, the target of a stream that names none. Where it is unspecified,
    /// streams go to the loopback address of its family.
    pub data_address: SocketAddr,
}

/// Why the control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The listener can't be used.
    #[error("the control plane's listener can't be used: {0}")]
    Listener(#[source] io::Error),
    /// No event loop: descriptors or memory ran out.
    #[error(
        "the control plane's event loop can't be set up: {0}; look at the limits on open files and memory"
    )]
    Runtime(#[source] io::Error),
    /// No thread.
    #[error("the control plane's thread can't be started: {0}; look at the limit on threads (ulimit -u)")]
    Thread(#[source] io::Error),
    /// The thread ended before it answered anything.
    #[error("the control plane's thread ended as soon as it was started; the lines before this say why")]
    Ended,
}

/// A running control plane. Dropping it without [`ControlPlane::stop`] stops it too, but waits for nothing.
pub struct ControlPlane {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// How often its loop says that it turns: twice within what the service manager's watchdog usually waits for, and four
/// times before the workers would count as stuck.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Starts the control plane on a thread of its own; when this returns, it answers.
pub fn start(context: ControlContext) -> Result<ControlPlane, ControlError> {
    let address = context.listener.local_addr().map_err(ControlError::Listener)?;
    context.listener.set_nonblocking(true).map_err(ControlError::Listener)?;
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(LOOKUP_THREADS_MAX)
        .thread_name("streamd-lookup")
        .build()
        .map_err(ControlError::Runtime)?;
    let listener = {
        let _entered = runtime.enter();
        TcpListener::from_std(context.listener).map_err(ControlError::Listener)?
    };
    let shared = Arc::new(Shared {
        live: context.live,
        registry: Registry::new(Arc::clone(&context.telemetry)),
        telemetry: context.telemetry,
        mailboxes: context.mailboxes,
        own: OwnDataPlane::new(context.data_address),
        refusals: RefusalLog::default(),
    });
    let (stop, stopped) = watch::channel(false);
    let (turns, first_turn) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("streamd-control".to_owned())
        .spawn(move || run(runtime, listener, shared, stopped, turns))
        .map_err(ControlError::Thread)?;
    first_turn.recv().map_err(|_| ControlError::Ended)?;
    Ok(ControlPlane { address, stop, thread })
}

fn run(
    runtime: Runtime,
    listener: TcpListener,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    turns: mpsc::Sender<()>,
) {
    runtime.spawn(beat(Arc::clone(&shared.telemetry), turns));
    runtime.block_on(listen::run(listener, shared, stopped));
    // Dropping the runtime would wait for name lookups, which can't be interrupted.
    runtime.shutdown_background();
}

/// Tells once that the loop turns, and then beats for as long as it does.
async fn beat(telemetry: Arc<Telemetry>, turns: mpsc::Sender<()>) {
    telemetry.beat_control();
    let _ = turns.send(());
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        telemetry.beat_control();
    }
}

impl ControlPlane {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets running requests finish for at most a second, and joins the thread.
    pub fn stop(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the control plane's thread had panicked");
        }
    }
}

/// What all requests share.
struct Shared {
    live: watch::Receiver<Arc<Live>>,
    telemetry: Arc<Telemetry>,
    registry: Arc<Registry>,
    mailboxes: Mailboxes,
    own: OwnDataPlane,
    refusals: RefusalLog,
}

impl Shared {
    fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.borrow())
    }
}
