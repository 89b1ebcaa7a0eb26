//! A client thread: a ring, its share of the connections, and their counts.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::client::Client;
use super::connection;
use super::operation::{break_off, pause};
use super::phase::Phase;
use super::tally::Tally;
use super::work::Load;

/// The submission entries; a full queue is flushed by one more call.
const RING_ENTRIES: u32 = 4096;

/// The time without a further first answer, or a byte of an upload, after which the start has failed. A segment
/// that was lost is sent again after one, three and seven seconds (tcp(7)).
const STALL_TIME_MAX: Duration = Duration::from_secs(10);

/// The interval at which a thread looks whether it has to end.
const STOP_CHECK: Duration = Duration::from_millis(10);

/// A client thread that is to be started.
pub(super) struct ClientThread {
    /// The number of the thread within the load, from 0.
    pub(super) number: usize,
    pub(super) load: Load,
    pub(super) phase: Arc<Phase>,
    /// The channel that is told once, when all connections of the thread have had an answer or one has failed.
    pub(super) ready: Sender<io::Result<()>>,
    /// The channel that gets the thread's counts at its end.
    pub(super) tallies: Sender<Tally>,
}

impl ClientThread {
    /// Starts the thread.
    pub(super) fn spawn(self) -> Result<()> {
        let tally = Tally::new()?;
        let name = format!("client-{}", self.number);
        let body = move || {
            pin(&self.load.cores, self.number);
            let (phase, tallies) = (Arc::clone(&self.phase), self.tallies.clone());
            let run = self.run(tally);
            let tally = tokio_uring::builder().entries(RING_ENTRIES).uring_builder(&ring()).start(run);
            phase.thread_ended();
            let _ = tallies.send(tally);
        };
        std::thread::Builder::new().name(name).spawn(body).map(drop).context("starting a client thread")
    }

    async fn run(self, tally: Tally) -> Tally {
        let (threads, number) = (self.load.threads, self.number);
        let connections = share(self.load.connections, threads, number);
        let client = Rc::new(Client::new(self.load, self.phase, tally, connections));
        let tasks: Vec<_> = (0..connections)
            .map(|index| {
                tokio_uring::spawn(connection::run(Rc::clone(&client), index, index * threads + number))
            })
            .collect();
        wait_until_warm(&client, connections, self.ready).await;
        while !client.phase.is_stopping() && !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
            if pause(STOP_CHECK).await.is_err() {
                break;
            }
        }
        end(&client, tasks).await;
        client.tally.borrow().clone()
    }
}

/// Makes the builder of the ring, whose completions wait until the thread enters the kernel anyway (COOP_TASKRUN,
/// Linux 5.19) instead of interrupting it: 4.9 µs instead of 12.8 for a request of 1 KiB. An older kernel gets a
/// plain ring.
fn ring() -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_coop_taskrun();
    if builder.build(1).is_err() {
        return io_uring::IoUring::builder();
    }
    builder
}

/// Returns the number of connections of thread `number`.
fn share(connections: usize, threads: usize, number: usize) -> usize {
    connections / threads + usize::from(number < connections % threads)
}

fn pin(cores: &[usize], number: usize) {
    if cores.is_empty() {
        return;
    }
    let mut set = CpuSet::new();
    set.set(cores[number % cores.len()]);
    // Where pinning is refused the run goes on without it; the report says where threads may run.
    let _ = sched_setaffinity(None, &set);
}

/// Tells `ready` when every connection has had its first answer, or the first failure.
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

/// Breaks all connections off, which ends the operations that wait on them: a runtime that is dropped with a
/// receive outstanding can hang.
async fn end(client: &Client, tasks: Vec<tokio::task::JoinHandle<()>>) {
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        let streams: Vec<_> = client.streams.borrow().iter().flatten().cloned().collect();
        for stream in streams {
            // A connection that has ended already can't be broken off.
            let _ = break_off(&stream).await;
        }
        if pause(STOP_CHECK).await.is_err() {
            return;
        }
    }
}
