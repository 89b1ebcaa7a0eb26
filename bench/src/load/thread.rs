//! One client thread: a ring, its share of the connections, and their counts.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::Semaphore;
use tokio_uring::net::TcpStream;

use super::operation::{DiscardMemory, break_off, pause};
use super::pace::Schedule;
use super::plan::Load;
use super::tally::Tally;
use super::{Phase, connection};

/// Submission entries; a full queue is flushed by one more call.
const RING_ENTRIES: u32 = 4096;

/// Time without a further first answer, or a byte of an upload, after which the start has failed. A segment that was
/// lost is sent again after one, three and seven seconds (tcp(7)).
const STALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Connects under way at once: what overflows a server's queue of new connections (1,024 and more) is dropped, and
/// tried again by the kernel a second later.
const CONNECTS_AT_ONCE_MAX: usize = 256;

/// How often a thread looks whether it shall end.
const STOP_CHECK: Duration = Duration::from_millis(10);

/// What the connections of a thread share.
pub(super) struct Client {
    pub(super) load: Load,
    pub(super) phase: Arc<Phase>,
    pub(super) schedule: Schedule,
    pub(super) discard: DiscardMemory,
    pub(super) tally: RefCell<Tally>,
    /// Turns to connect.
    pub(super) connects: Semaphore,
    /// Connections that have had their first answer.
    pub(super) warm: Cell<usize>,
    /// Bytes of uploads that have gone, whether they count or not.
    pub(super) bytes_moved: Cell<u64>,
    /// The sockets that are open, by connection, so that they can be broken off at the end.
    pub(super) streams: RefCell<Vec<Option<Rc<TcpStream>>>>,
}

/// Starts the thread. `ready` is told once, when all its connections have had an answer or one has failed.
pub(super) fn spawn(
    number: usize,
    load: Load,
    phase: Arc<Phase>,
    ready: Sender<io::Result<()>>,
    tallies: Sender<Tally>,
) -> Result<()> {
    let tally = Tally::new()?;
    let ended_phase = Arc::clone(&phase);
    let body = move || {
        pin(&load.cores, number);
        let connections = share(load.connections, load.threads, number);
        let tally = tokio_uring::builder().entries(RING_ENTRIES).uring_builder(&ring()).start(run(
            load,
            phase,
            connections,
            number,
            tally,
            ready,
        ));
        ended_phase.thread_ended();
        let _ = tallies.send(tally);
    };
    std::thread::Builder::new()
        .name(format!("client-{number}"))
        .spawn(body)
        .map(drop)
        .context("starting a client thread")
}

/// Completions wait until the thread enters the kernel anyway (COOP_TASKRUN, Linux 5.19) instead of interrupting it:
/// 4.9 µs instead of 12.8 for a request of 1 KiB. An older kernel gets a plain ring.
fn ring() -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_coop_taskrun();
    if builder.build(1).is_err() {
        return io_uring::IoUring::builder();
    }
    builder
}

/// The connections of thread `number`.
fn share(connections: usize, threads: usize, number: usize) -> usize {
    connections / threads + usize::from(number < connections % threads)
}

fn pin(cores: &[usize], number: usize) {
    if cores.is_empty() {
        return;
    }
    let mut set = CpuSet::new();
    set.set(cores[number % cores.len()]);
    // Where it is refused the run goes on unpinned; the report says where threads may run.
    let _ = sched_setaffinity(None, &set);
}

async fn run(
    load: Load,
    phase: Arc<Phase>,
    connections: usize,
    number: usize,
    tally: Tally,
    ready: Sender<io::Result<()>>,
) -> Tally {
    let schedule = Schedule::new(load.pace, load.threads);
    let threads = load.threads;
    let client = Rc::new(Client {
        load,
        phase,
        schedule,
        discard: DiscardMemory::new(),
        tally: RefCell::new(tally),
        connects: Semaphore::new(CONNECTS_AT_ONCE_MAX),
        warm: Cell::new(0),
        bytes_moved: Cell::new(0),
        streams: RefCell::new(vec![None; connections]),
    });
    client.tally.borrow_mut().connection_bytes = vec![0; connections];
    let tasks: Vec<_> = (0..connections)
        .map(|index| tokio_uring::spawn(connection::run(Rc::clone(&client), index, index * threads + number)))
        .collect();
    wait_until_warm(&client, connections, ready).await;
    while !client.phase.is_stopping() && !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        if pause(STOP_CHECK).await.is_err() {
            break;
        }
    }
    end(&client, tasks).await;
    client.tally.borrow().clone()
}

/// Says `ready` when every connection has had its first answer, or what failed first.
async fn wait_until_warm(client: &Client, connections: usize, ready: Sender<io::Result<()>>) {
    let progress = || (client.warm.get(), client.bytes_moved.get());
    let (mut last, mut last_progress) = (progress(), Instant::now());
    while client.warm.get() < connections && !client.phase.is_stopping() {
        let failure = client.tally.borrow().errors.keys().next().cloned();
        if progress() != last {
            (last, last_progress) = (progress(), Instant::now());
        }
        let stalled = (last_progress.elapsed() > STALL_TIME_MAX)
            .then(|| format!("no more than {} of {connections} connections were answered", last.0));
        if let Some(what) = failure.or(stalled) {
            let _ = ready.send(Err(io::Error::other(what)));
            return;
        }
        if pause(STOP_CHECK).await.is_err() {
            break;
        }
    }
    let _ = ready.send(Ok(()));
}

/// Breaks all connections off, which ends what waits on them: a runtime that is dropped with a receive outstanding
/// can hang.
async fn end(client: &Client, tasks: Vec<tokio::task::JoinHandle<()>>) {
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        let streams: Vec<_> = client.streams.borrow().iter().flatten().cloned().collect();
        for stream in streams {
            // One that has ended already can't be broken off.
            let _ = break_off(&stream).await;
        }
        if pause(STOP_CHECK).await.is_err() {
            return;
        }
    }
}
