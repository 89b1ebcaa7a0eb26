//! A transfer under way: its socket, its deadlines, its turns and its tally, the same for every engine.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::super::account::Tally;
use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::disk::DiskError;
use super::super::error::{PeerGone, TransferError};
use super::super::socket::not_yet;
use super::choice::Engine;
use super::kernel::{Kernel, Source};
use super::system::System;
use crate::job::{JobEnd, StreamProgress};
use crate::limits::Reserved;

/// Bytes that a transfer may hand to the kernel in one call and before others get their turn: about 100 µs of work.
/// More turns cost throughput (in turns of 128 KiB: a quarter of it).
const TURN_BYTES: u64 = 2 << 20;

/// Bytes of one turn for sockets that TCP paces: what such a socket holds is sent from timer interrupts, packet by
/// packet. In small turns it holds little, and 64 connections that fetch 1 MiB each get five times as much.
const TURN_BYTES_PACED: u64 = 128 << 10;

/// Bytes that may wait for a peer without being counted: a head with its few fields, once a connection.
const UNCOUNTED_BYTES_MAX: usize = 4 << 10;

/// Parts of a multipart body in one turn: each costs a few calls however short it is, together about 100 µs.
const TURN_PARTS: u64 = 32;

/// Who asked for a stream: told of its progress and its end, and free to lose interest.
pub(in super::super) struct JobCaller {
    pub(in super::super) progress: Arc<StreamProgress>,
    end: RefCell<oneshot::Sender<JobEnd>>,
}

impl JobCaller {
    pub(in super::super) fn new(progress: Arc<StreamProgress>, end: oneshot::Sender<JobEnd>) -> JobCaller {
        JobCaller { progress, end: RefCell::new(end) }
    }

    /// Tells how the stream ended.
    pub(in super::super) fn tell(self, end: JobEnd) {
        // Nobody may be listening any more.
        let _ = self.end.into_inner().send(end);
    }

    /// Why nobody wants the stream any more, if so.
    fn loss_of_interest(&self, context: &mut Context<'_>) -> Option<TransferError> {
        let is_lost = self.end.borrow_mut().poll_closed(context).is_ready();
        let is_evicted = || self.progress.is_evicted();
        is_lost.then(|| if is_evicted() { TransferError::Evicted } else { TransferError::Cancelled })
    }
}

/// The room that the socket has after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It took all that it was given, and may take more.
    Left,
    /// It took less.
    UsedUp,
}

/// One range, or several of one response, on their way to one peer.
pub(in super::super) struct Transfer<'a, K: Kernel = System<'a>> {
    pub(super) kernel: K,
    pub(in super::super) tally: Tally,
    caller: Option<&'a JobCaller>,
    timeout_ms: u64,
    turn_bytes: u64,
    /// Payload at the end of the next head.
    text_bytes: u32,
    /// Whether there was time for the file to change since it was last looked at.
    may_have_changed: Cell<bool>,
    /// Places of the file that were seen before the waits.
    pub(super) witnesses: <K::File as Source>::Witnesses,
}

impl<'a> Transfer<'a> {
    /// An answer to a request.
    pub(in super::super) fn new(worker: &'a Worker, connection: &'a Connection) -> Transfer<'a> {
        Transfer::on(System { worker, connection }, worker.live().settings.send_timeout_ms)
    }

    /// A stream that the control plane asked for.
    pub(in super::super) fn of_stream(
        worker: &'a Worker,
        connection: &'a Connection,
        caller: &'a JobCaller,
    ) -> Transfer<'a> {
        let transfer = Transfer::on(System { worker, connection }, worker.live().settings.target_timeout_ms);
        // The target was connected to after the file was opened.
        transfer.note_wait();
        transfer.for_job(caller)
    }

    /// The worker that it runs on.
    pub(in super::super) fn worker(&self) -> &'a Worker {
        self.kernel.worker
    }

    /// The connection that it takes.
    pub(in super::super) fn connection(&self) -> &'a Connection {
        self.kernel.connection
    }
}

impl<'a, K: Kernel> Transfer<'a, K> {
    /// An answer whose peer has `timeout_ms` for each step.
    pub(super) fn on(kernel: K, timeout_ms: u64) -> Self {
        Transfer {
            kernel,
            tally: Tally::default(),
            caller: None,
            timeout_ms,
            turn_bytes: 0,
            text_bytes: 0,
            may_have_changed: Cell::new(false),
            witnesses: Default::default(),
        }
    }

    /// Adds a caller who is told of the transfer's progress.
    pub(super) fn for_job(self, caller: &'a JobCaller) -> Self {
        Transfer { caller: Some(caller), ..self }
    }

    /// Runs `work`, which reads the file, on a disk thread.
    pub(in super::super) fn on_disk_thread<R: Send + 'static>(
        &self,
        file: &K::File,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> impl Future<Output = Result<R, DiskError>> {
        // Streams are asked for by who has the token, and go to a target that asked for nothing.
        self.kernel.on_disk_thread(file, self.caller.is_some(), work)
    }

    /// Notes that the next bytes are of another file, which was opened a while ago.
    pub(in super::super) fn begin_file(&mut self) {
        self.witnesses = Default::default();
        self.note_wait();
    }

    /// There was time for the file to change.
    pub(in super::super) fn note_wait(&self) {
        self.may_have_changed.set(true);
    }

    /// Whether there was time for the file to change since this was last asked.
    pub(super) fn take_wait(&self) -> bool {
        self.may_have_changed.replace(false)
    }

    /// Looks at a place of what is being sent.
    pub(super) fn look(&mut self, file: &K::File, start: u64, end: u64) {
        file.look(&mut self.witnesses, start, end);
    }

    /// Bytes for one call, and for one turn.
    pub(super) fn turn_bytes_max(&self) -> u64 {
        if self.kernel.is_paced() { TURN_BYTES_PACED } else { TURN_BYTES }
    }

    /// The next head ends with so many bytes of text that are payload: what stands between two parts.
    pub(in super::super) fn note_text(&mut self, bytes: usize) {
        self.text_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    }

    /// Where the payload of a head begins that is sent now.
    pub(super) fn take_text(&mut self, head_bytes: usize) -> usize {
        head_bytes.saturating_sub(std::mem::take(&mut self.text_bytes) as usize)
    }

    /// Sends a head; payload follows at once.
    pub(super) async fn send_head(&mut self, head: Vec<u8>) -> Result<(), TransferError> {
        if head.is_empty() { Ok(()) } else { self.send_all(&head, true).await }
    }

    /// Sends bytes of which none but [noted text](Transfer::note_text) is payload.
    pub(in super::super) async fn send_all(&mut self, bytes: &[u8], more: bool) -> Result<(), TransferError> {
        let payload = self.take_text(bytes.len())..bytes.len();
        self.send_payload(bytes, payload, more).await
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
            match not_yet(self.kernel.send(&bytes[sent..], more))? {
                Some(count) => {
                    let of_payload = overlap(&payload, sent..sent + count);
                    sent += count;
                    self.took(Engine::Copy, of_payload, Room::Left).await?;
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
            *room = Some(self.kernel.reserve(self.caller.is_some(), bytes)?);
        }
        Ok(())
    }

    /// Sends what the socket takes at once of a head and a body that are in memory, and says how many bytes that was.
    /// Those in `payload` are counted. It can't wait, so that a short answer needs no future.
    pub(in super::super) fn send_now(
        &mut self,
        head: &[u8],
        body: &[u8],
        payload: Range<usize>,
    ) -> Result<usize, PeerGone> {
        let taken = match body {
            [] => self.kernel.send(head, false),
            body => self.kernel.send_both(head, body),
        };
        let Some(sent) = not_yet(taken)? else { return Ok(0) };
        self.count(Engine::Copy, overlap(&payload, 0..sent));
        Ok(sent)
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

    /// Sends both pieces where only so many bytes of the body are payload, the rest is framing, and `room` may be what
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
            match not_yet(self.kernel.send_both(&head[of_head..], &body[sent - of_head..]))? {
                Some(count) => {
                    let of_payload = overlap(&payload, sent..sent + count);
                    sent += count;
                    self.took(Engine::Copy, of_payload, Room::Left).await?;
                }
                None => {
                    self.hold(bytes, room)?;
                    self.wait_writable().await?;
                }
            }
        }
        Ok(())
    }

    /// The socket took something by `engine`, `bytes` of it payload: it is counted, and then the transfer waits where
    /// the socket has no room left or its turn is used up.
    pub(super) fn took(
        &mut self,
        engine: Engine,
        bytes: u64,
        room: Room,
    ) -> impl Future<Output = Result<(), TransferError>> {
        self.count(engine, bytes);
        self.spend(bytes, room)
    }

    /// Counts what the socket took by `engine`, `bytes` of it payload. All that any peer is sent comes by here,
    /// whichever way it takes, and nothing else counts it.
    fn count(&mut self, engine: Engine, bytes: u64) {
        self.tally.begin();
        if bytes > 0 {
            self.tally.add(engine.label(), bytes);
            self.kernel.counters().bytes_sent.add(engine.label(), bytes);
            if let Some(caller) = self.caller {
                caller.progress.add_bytes_sent(bytes);
            }
        }
    }

    /// Whether the transfer waits once the socket took so much payload.
    pub(super) fn waits_after(&self, bytes: u64, room: Room) -> bool {
        room == Room::UsedUp || self.turn_bytes + bytes >= self.turn_bytes_max()
    }

    async fn spend(&mut self, bytes: u64, room: Room) -> Result<(), TransferError> {
        if !self.waits_after(bytes, room) {
            self.turn_bytes += bytes;
            return Ok(());
        }
        if room == Room::Left {
            self.kernel.yield_now().await;
        }
        self.wait_writable().await
    }

    /// One of several parts was sent: gives up the turn when it is used up, by bytes and parts together.
    pub(in super::super) async fn part_sent(&mut self) -> Result<(), TransferError> {
        self.spend(self.turn_bytes_max() / TURN_PARTS, Room::Left).await
    }

    /// Waits until the socket takes more.
    pub(super) async fn wait_writable(&mut self) -> Result<(), TransferError> {
        self.begin_wait();
        let mut wait = pin!(self.kernel.writable(self.timeout_ms));
        poll_fn(|context| self.poll_wait(wait.as_mut(), context)).await
    }

    /// Waits until the peer, which may still be taking what was sent, says something.
    pub(in super::super) async fn wait_readable(&mut self) -> Result<(), TransferError> {
        self.begin_wait();
        let mut wait = pin!(self.kernel.readable(self.timeout_ms));
        poll_fn(|context| self.poll_wait(wait.as_mut(), context)).await
    }

    fn begin_wait(&mut self) {
        self.turn_bytes = 0;
        self.note_wait();
    }

    /// `wait`, or the caller's loss of interest if that comes first. Waits on sockets may be dropped.
    fn poll_wait(
        &self,
        wait: Pin<&mut impl Future<Output = Result<(), TransferError>>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), TransferError>> {
        match self.caller.and_then(|caller| caller.loss_of_interest(context)) {
            Some(lost) => Poll::Ready(Err(lost)),
            None => wait.poll(context),
        }
    }
}

/// How many of the bytes that were sent are payload.
fn overlap(payload: &Range<usize>, sent: Range<usize>) -> u64 {
    sent.end.min(payload.end).saturating_sub(sent.start.max(payload.start)) as u64
}
