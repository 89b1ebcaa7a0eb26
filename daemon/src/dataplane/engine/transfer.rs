//! A transfer under way: its socket, its deadlines, its turns and its tally, the same for every engine.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::oneshot;

use super::super::account::Tally;
use super::super::error::TransferError;
use super::super::registry::{Connection, Phase};
use super::super::worker::Worker;
use crate::job::{JobEnd, Progress};
use crate::telemetry::EngineLabel;

/// Bytes that a transfer may hand to the kernel in one call and before others get their turn: about 100 µs of work.
/// More turns cost throughput (in turns of 128 KiB: a quarter of it).
const TURN_BYTES: u64 = 2 << 20;

/// The same for sockets that TCP paces: what such a socket holds is sent from timer interrupts, packet by packet. In
/// small turns it holds little, and 64 connections that fetch 1 MiB each get five times as much.
const TURN_BYTES_PACED: u64 = 128 << 10;

/// Who asked for a stream: told of its progress and its end, and free to lose interest.
pub(in super::super) struct Asker {
    pub(in super::super) progress: Arc<Progress>,
    end: RefCell<oneshot::Sender<JobEnd>>,
}

impl Asker {
    pub(in super::super) fn new(progress: Arc<Progress>, end: oneshot::Sender<JobEnd>) -> Asker {
        Asker { progress, end: RefCell::new(end) }
    }

    /// Tells how the stream ended.
    pub(in super::super) fn tell(self, end: JobEnd) {
        // Nobody may be listening any more.
        let _ = self.end.into_inner().send(end);
    }

    /// `wait`, or the asker's loss of interest if that comes first. Waits on sockets may be dropped.
    async fn unless_cancelled(
        &self,
        wait: impl Future<Output = Result<(), TransferError>>,
    ) -> Result<(), TransferError> {
        let mut wait = pin!(wait);
        poll_fn(|context| {
            if self.end.borrow_mut().poll_closed(context).is_ready() {
                return Poll::Ready(Err(TransferError::Cancelled));
            }
            wait.as_mut().poll(context)
        })
        .await
    }
}

/// One range, or several of one response, on their way to one peer.
pub(in super::super) struct Transfer<'a> {
    pub(in super::super) worker: &'a Worker,
    pub(in super::super) connection: &'a Connection,
    pub(in super::super) tally: Tally,
    asker: Option<&'a Asker>,
    timeout_ms: u64,
    turn_bytes: u64,
}

impl<'a> Transfer<'a> {
    /// An answer to a request.
    pub(in super::super) fn new(worker: &'a Worker, connection: &'a Connection) -> Transfer<'a> {
        let timeout_ms = worker.live().settings.send_timeout_ms;
        Transfer { worker, connection, tally: Tally::default(), asker: None, timeout_ms, turn_bytes: 0 }
    }

    /// A stream that the control plane asked for.
    pub(in super::super) fn of_stream(
        worker: &'a Worker,
        connection: &'a Connection,
        asker: &'a Asker,
    ) -> Transfer<'a> {
        let timeout_ms = worker.live().settings.target_timeout_ms;
        Transfer { asker: Some(asker), timeout_ms, ..Transfer::new(worker, connection) }
    }

    /// Bytes for one call, and for one turn.
    pub(super) fn turn_bytes_max(&self) -> u64 {
        if self.worker.is_paced { TURN_BYTES_PACED } else { TURN_BYTES }
    }

    /// Sends bytes that aren't payload; payload follows at once.
    pub(super) async fn send_head(&mut self, head: Vec<u8>) -> Result<(), TransferError> {
        if head.is_empty() { Ok(()) } else { self.send_all(&head, true).await }
    }

    /// Sends bytes that aren't counted as payload.
    pub(in super::super) async fn send_all(&mut self, bytes: &[u8], more: bool) -> Result<(), TransferError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.connection.socket.try_send(rest, more)? {
                Some(count) => rest = &rest[count..],
                None => self.wait_writable().await?,
            }
        }
        Ok(())
    }

    /// Sends a head and a whole body that is in memory.
    pub(in super::super) async fn send_both(
        &mut self,
        head: &[u8],
        body: &[u8],
    ) -> Result<(), TransferError> {
        let (mut head, mut body) = (head, body);
        while !head.is_empty() || !body.is_empty() {
            match self.connection.socket.try_send_both(head, body)? {
                Some(count) => {
                    let of_head = count.min(head.len());
                    head = &head[of_head..];
                    body = &body[count - of_head..];
                }
                None => self.wait_writable().await?,
            }
        }
        Ok(())
    }

    /// Counts payload that `engine` handed to the kernel, and gives up the turn when it is used up.
    pub(super) async fn sent(&mut self, engine: EngineLabel, bytes: u64) -> Result<(), TransferError> {
        self.count(engine, bytes);
        self.turn_bytes += bytes;
        if self.turn_bytes < self.turn_bytes_max() {
            return Ok(());
        }
        self.worker.let_others_turn().await;
        self.wait_writable().await
    }

    /// Counts payload that was handed to the kernel.
    pub(in super::super) fn count(&mut self, engine: EngineLabel, bytes: u64) {
        self.tally.add(engine, bytes);
        self.worker.counters.bytes_sent.add(engine, bytes);
        if let Some(asker) = self.asker {
            asker.progress.add_bytes_sent(bytes);
        }
    }

    /// Waits until the socket takes more.
    pub(super) async fn wait_writable(&mut self) -> Result<(), TransferError> {
        let deadline = self.worker.clock.deadline(self.timeout_ms);
        self.wait(self.connection.writable(deadline)).await
    }

    /// Waits until the peer, which may still be taking what was sent, says something.
    pub(in super::super) async fn wait_readable(&mut self) -> Result<(), TransferError> {
        let deadline = self.worker.clock.deadline(self.timeout_ms);
        self.wait(self.connection.readable(Phase::Sending, deadline)).await
    }

    async fn wait(
        &mut self,
        wait: impl Future<Output = Result<(), TransferError>>,
    ) -> Result<(), TransferError> {
        self.turn_bytes = 0;
        match self.asker {
            None => wait.await,
            Some(asker) => asker.unless_cancelled(wait).await,
        }
    }
}
