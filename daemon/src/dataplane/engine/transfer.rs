//! A transfer under way: its socket, its deadlines, its turns and its tally, the same for every engine.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::oneshot;

use super::super::account::Tally;
use super::super::connection::{Connection, Phase};
use super::super::context::Worker;
use super::super::disk::Owner;
use super::super::error::TransferError;
use super::choice::Engine;
use crate::files::{SourceFile, Witnesses};
use crate::job::{JobEnd, StreamProgress};
use crate::limits::Reserved;

/// Bytes that a transfer may hand to the kernel in one call and before others get their turn: about 100 µs of work.
/// More turns cost throughput (in turns of 128 KiB: a quarter of it).
const TURN_BYTES: u64 = 2 << 20;

/// The same for sockets that TCP paces: what such a socket holds is sent from timer interrupts, packet by packet. In
/// small turns it holds little, and 64 connections that fetch 1 MiB each get five times as much.
const TURN_BYTES_PACED: u64 = 128 << 10;

/// Bytes that may wait for a peer without being counted: a head with its few fields, once a connection.
const UNCOUNTED_BYTES_MAX: usize = 4 << 10;

/// Parts of a multipart body in one turn: each costs a few calls however short it is, together about 100 µs.
const TURN_PARTS: u64 = 32;

/// Who asked for a stream: told of its progress and its end, and free to lose interest.
pub(in super::super) struct Asker {
    pub(in super::super) progress: Arc<StreamProgress>,
    end: RefCell<oneshot::Sender<JobEnd>>,
}

impl Asker {
    pub(in super::super) fn new(progress: Arc<StreamProgress>, end: oneshot::Sender<JobEnd>) -> Asker {
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
                let is_evicted = self.progress.is_evicted();
                let ended = if is_evicted { TransferError::Evicted } else { TransferError::Cancelled };
                return Poll::Ready(Err(ended));
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
    /// Whether there was time for the file to change since it was last looked at.
    may_have_changed: Cell<bool>,
    /// What was seen of the file before the waits.
    pub(super) witnesses: Witnesses,
}

impl<'a> Transfer<'a> {
    /// An answer to a request.
    pub(in super::super) fn new(worker: &'a Worker, connection: &'a Connection) -> Transfer<'a> {
        let timeout_ms = worker.live().settings.send_timeout_ms;
        Transfer {
            worker,
            connection,
            tally: Tally::default(),
            asker: None,
            timeout_ms,
            turn_bytes: 0,
            may_have_changed: Cell::new(false),
            witnesses: Witnesses::default(),
        }
    }

    /// A stream that the control plane asked for.
    pub(in super::super) fn of_stream(
        worker: &'a Worker,
        connection: &'a Connection,
        asker: &'a Asker,
    ) -> Transfer<'a> {
        let timeout_ms = worker.live().settings.target_timeout_ms;
        // The target was connected to after the file was opened.
        let may_have_changed = Cell::new(true);
        Transfer { asker: Some(asker), timeout_ms, may_have_changed, ..Transfer::new(worker, connection) }
    }

    /// Whose share of a lane what it has done of this file takes.
    pub(in super::super) fn owner(&self, file: &SourceFile) -> Owner {
        // Streams are asked for by who has the token, and go to a target that asked for nothing.
        let group = if self.asker.is_some() { None } else { self.connection.group() };
        Owner { mount: file.mount(), group }
    }

    /// There was time for the file to change.
    pub(in super::super) fn note_wait(&self) {
        self.may_have_changed.set(true);
    }

    /// Whether there was time for the file to change since this was last asked.
    pub(super) fn take_wait(&self) -> bool {
        self.may_have_changed.replace(false)
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
        self.send_payload(bytes, 0..0, more).await
    }

    /// Sends bytes of which those in `payload` are, and are counted as the kernel takes them.
    pub(in super::super) async fn send_payload(
        &mut self,
        bytes: &[u8],
        payload: Range<usize>,
        more: bool,
    ) -> Result<(), TransferError> {
        let mut sent = 0;
        let mut room = None;
        while sent < bytes.len() {
            match self.connection.socket.try_send(&bytes[sent..], more)? {
                Some(count) => {
                    self.count_copied(&payload, sent..sent + count);
                    sent += count;
                }
                None => {
                    self.hold(bytes.len(), &mut room)?;
                    self.wait_writable().await?;
                }
            }
        }
        Ok(())
    }

    /// Counts memory that waits for the peer, unless `room` says that it is counted already.
    fn hold(&self, bytes: usize, room: &mut Option<Reserved>) -> Result<(), TransferError> {
        if bytes > UNCOUNTED_BYTES_MAX && room.is_none() {
            // As for a lane: a stream is nobody's address.
            let holder = if self.asker.is_some() { None } else { self.connection.group() };
            *room = Some(self.worker.reserve(holder, bytes)?);
        }
        Ok(())
    }

    /// Something was handed to the kernel: bytes from a buffer of ours, in which `payload` is.
    fn count_copied(&mut self, payload: &Range<usize>, sent: Range<usize>) {
        self.tally.begin();
        let of_payload = sent.end.min(payload.end).saturating_sub(sent.start.max(payload.start));
        if of_payload > 0 {
            self.count(Engine::Copy, of_payload as u64);
        }
    }

    /// Sends a head and a whole body that is in memory.
    pub(in super::super) async fn send_both(
        &mut self,
        head: &[u8],
        body: &[u8],
    ) -> Result<(), TransferError> {
        let mut room = None;
        self.send_counted(head, body, body.len(), &mut room).await
    }

    /// The same, where only so many bytes of the body are payload and the rest is its framing, and `room` may be what
    /// counts them already.
    pub(in super::super) async fn send_counted(
        &mut self,
        head: &[u8],
        body: &[u8],
        payload_bytes: usize,
        room: &mut Option<Reserved>,
    ) -> Result<(), TransferError> {
        let bytes = head.len() + body.len();
        let payload = head.len()..head.len() + payload_bytes;
        let mut sent = 0;
        while sent < bytes {
            let of_head = sent.min(head.len());
            match self.connection.socket.try_send_both(&head[of_head..], &body[sent - of_head..])? {
                Some(count) => {
                    self.count_copied(&payload, sent..sent + count);
                    sent += count;
                }
                None => {
                    self.hold(bytes, room)?;
                    self.wait_writable().await?;
                }
            }
        }
        Ok(())
    }

    /// Counts payload that `engine` handed to the kernel, and gives up the turn when it is used up.
    pub(super) async fn sent(&mut self, engine: Engine, bytes: u64) -> Result<(), TransferError> {
        self.count(engine, bytes);
        self.spend(bytes).await
    }

    /// Whether a turn is used up with `bytes` more.
    pub(super) fn ends_turn(&self, bytes: u64) -> bool {
        self.turn_bytes + bytes >= self.turn_bytes_max()
    }

    /// Gives up the turn where it is used up with so much payload, which is counted already.
    pub(in super::super) async fn spend(&mut self, bytes: u64) -> Result<(), TransferError> {
        let ends_turn = self.ends_turn(bytes);
        self.turn_bytes += bytes;
        if !ends_turn {
            return Ok(());
        }
        self.worker.let_others_turn().await;
        self.wait_writable().await
    }

    /// One of several parts was sent: gives up the turn when it is used up, by bytes and parts together.
    pub(in super::super) async fn part_sent(&mut self) -> Result<(), TransferError> {
        self.spend(self.turn_bytes_max() / TURN_PARTS).await
    }

    /// Counts payload that was handed to the kernel.
    pub(in super::super) fn count(&mut self, engine: Engine, bytes: u64) {
        self.tally.add(engine.label(), bytes);
        self.worker.counters.bytes_sent.add(engine.label(), bytes);
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
        self.note_wait();
        match self.asker {
            None => wait.await,
            Some(asker) => asker.unless_cancelled(wait).await,
        }
    }
}
