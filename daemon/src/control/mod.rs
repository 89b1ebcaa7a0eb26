//! The control plane: health, streams and metrics over HTTP/1, on a thread of its own.
//!
//! It moves no payload and never waits for a worker's thread: a stream is handed over as a [`StreamJob`] and
//! its end comes back through a channel.
//!
//! [`StreamJob`]: crate::job::StreamJob

mod auth;
mod body;
mod caller;
mod connection;
mod error;
mod gate;
mod half_close;
mod head_deadline;
mod listen;
mod listeners;
mod lookup;
mod metrics;
mod pages;
mod query;
mod refusal_log;
mod registry;
mod response;
mod routes;
mod shared;
mod slots;
mod stream;
mod streams;
mod target;
#[cfg(test)]
mod tests;
mod write_pace;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use self::listeners::Listeners;
use self::lookup::Lookups;
use self::refusal_log::RefusalLog;
use self::registry::StreamRegistry;
use self::shared::Shared;
use self::target::OwnDataPlane;
use crate::config::{Live, thread_remedy};
use crate::job::Mailboxes;
use crate::limits::{AddressShares, Heap};
use crate::telemetry::Telemetry;

/// The parts of the daemon that the control plane is given.
pub struct ControlContext {
    /// The sockets of its listeners, bound and listening.
    pub sockets: Vec<OwnedFd>,
    /// The settings in force, read anew for each request.
    pub live: watch::Receiver<Arc<Live>>,
    /// The counters and the workers' heartbeats.
    pub telemetry: Arc<Telemetry>,
    /// The workers' mailboxes, which take streams.
    pub mailboxes: Mailboxes,
    /// The bound addresses of the own data plane, each with the place of its listener; the first is the target of a
    /// stream that names none. Where it is unspecified, streams go to the loopback address of its family.
    pub data_addresses: Vec<(u16, SocketAddr)>,
    /// The shares of each address, of both planes.
    pub shares: AddressShares,
    /// The most descriptors that the process may have.
    pub descriptors_max: Option<u64>,
}

/// Why the control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A listener can't be used.
    #[error("a listener of the control plane can't be used: {0}")]
    Listener(#[source] io::Error),
    /// No event loop can be made: descriptors or memory ran out.
    #[error(
        "the control plane's event loop can't be set up: {0}; look at the limits on open files and memory"
    )]
    Runtime(#[source] io::Error),
    /// No thread can be started.
    #[error("the control plane's thread can't be started: {0}{remedy}", remedy = thread_remedy(.0))]
    Thread(#[source] io::Error),
    /// The thread ended before it answered anything.
    #[error("the control plane's thread ended as soon as it was started; the lines before this say why")]
    Ended,
}

/// A running control plane. Dropping it without [`ControlPlane::stop`] stops it too, but waits for nothing.
pub struct ControlPlane {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// The interval of the loop's heartbeats: twice within the time that the service manager's watchdog usually waits
/// for, and four times before the workers would count as stuck.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// The beats between two looks at the memory that is free: 2 s. Whoever watches a daemon after a burst looks
/// later, and bursts that follow each other don't pay for new pages each time. This thread does it, since no
/// worker should.
const HEAP_LOOK_BEATS: u64 = 4;

/// Starts the control plane on a thread of its own; when this returns, it answers.
pub fn start(context: ControlContext) -> Result<ControlPlane, ControlError> {
    let runtime =
        Builder::new_current_thread().enable_io().enable_time().build().map_err(ControlError::Runtime)?;
    let listeners = {
        let _entered = runtime.enter();
        Listeners::new(context.sockets).map_err(ControlError::Listener)?
    };
    let shared = Arc::new(Shared {
        live: context.live,
        registry: StreamRegistry::new(Arc::clone(&context.telemetry)),
        telemetry: context.telemetry,
        mailboxes: context.mailboxes,
        own: OwnDataPlane::new(context.data_addresses),
        shares: context.shares,
        descriptors_max: context.descriptors_max,
        refusals: RefusalLog::default(),
        lookups: Lookups::default(),
        request_ids: Mutex::default(),
    });
    let (stop, stopped) = watch::channel(false);
    let (turns, first_turn) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("streamd-control".to_owned())
        .spawn(move || run(runtime, listeners, shared, stopped, turns))
        .map_err(ControlError::Thread)?;
    first_turn.recv().map_err(|_| ControlError::Ended)?;
    Ok(ControlPlane { stop, thread })
}

fn run(
    runtime: Runtime,
    listeners: Listeners,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    turns: mpsc::Sender<()>,
) {
    runtime.spawn(beat(Arc::clone(&shared.telemetry), turns));
    runtime.block_on(listen::run(listeners, shared, stopped));
}

/// Tells once that the loop runs, and then beats for as long as it does.
async fn beat(telemetry: Arc<Telemetry>, turns: mpsc::Sender<()>) {
    telemetry.beat_control();
    let _ = turns.send(());
    let mut ticks = tokio::time::interval(HEARTBEAT);
    let mut heap = Heap::default();
    for beat in 1_u64.. {
        ticks.tick().await;
        telemetry.beat_control();
        if beat.is_multiple_of(HEAP_LOOK_BEATS) {
            heap.give_back();
        }
    }
}

impl ControlPlane {
    /// Stops accepting, lets running requests finish for at most a second, and joins the thread.
    pub fn stop(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the control plane's thread had panicked");
        }
    }
}
