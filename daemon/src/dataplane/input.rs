//! The bytes that a connection has received and not used yet.

use super::clock::Deadline;
use super::connection::{Connection, Phase};
use super::context::{RECEIVE_BYTES, Worker};
use super::error::TransferError;
use crate::limits::Reserved;
use crate::protocol::http1::request::HEAD_BYTES_MAX;

/// Memory that a connection may hold of what has been received and not used without that being counted: a usual head,
/// and of a cookie jar's a part.
const UNCOUNTED_BYTES_MAX: usize = 4 << 10;

/// Received bytes. Holds no memory while empty, so that an idle connection costs none.
#[derive(Default)]
pub(super) struct Input {
    buffer: Vec<u8>,
    used: usize,
    /// Where it holds much. Boxed: most connections never do.
    room: Option<Box<Reserved>>,
}

impl Input {
    /// Returns the bytes that are there.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Whether nothing is there.
    pub(super) fn is_empty(&self) -> bool {
        self.used == self.buffer.len()
    }

    /// Removes the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.buffer.len());
        if self.is_empty() {
            *self = Input::default();
        }
    }

    /// Takes all that is there.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let Input { mut buffer, used, .. } = std::mem::take(self);
        buffer.drain(..used);
        buffer
    }

    /// Puts bytes back that belong to what comes next; nothing may have come meanwhile.
    pub(super) fn put_back(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.is_empty());
        *self = Input { buffer: bytes, ..Input::default() };
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Counts what is held while something is waited for, for whom the connection is.
    pub(super) fn hold(&mut self, worker: &Worker, connection: &Connection) -> Result<(), TransferError> {
        if self.buffer.capacity() > UNCOUNTED_BYTES_MAX && self.room.is_none() {
            // As much as a head may have, and what came with its end.
            let room = worker.reserve(connection.group(), HEAD_BYTES_MAX + RECEIVE_BYTES)?;
            self.room = Some(Box::new(room));
        }
        Ok(())
    }

    /// Waits for more and appends it. False: the peer has ended.
    async fn receive(
        &mut self,
        worker: &Worker,
        connection: &Connection,
        phase: Phase,
        deadline: Deadline,
    ) -> Result<bool, TransferError> {
        self.hold(worker, connection)?;
        loop {
            let waited = connection.readable(phase, deadline).await;
            let mut received = worker.received.borrow_mut();
            match (connection.socket.try_receive(&mut received[..])?, waited) {
                (Some(count), _) => {
                    if count > 0 {
                        tracing::trace!(peer = %connection.client(), bytes = count, "received");
                    }
                    self.append(&received[..count]);
                    return Ok(count > 0);
                }
                // Bytes that came together with the interrupt have just been received; here nothing came.
                (None, Err(error)) => return Err(error),
                // Readiness can be a false alarm (a segment with a bad checksum): select(2), BUGS.
                (None, Ok(())) => {}
            }
        }
    }
}

/// How long a connection is waited for: `idle_timeout_ms` before anything has come, then so long for the whole
/// of what has begun, however it trickles in.
#[derive(Clone, Copy)]
pub(super) struct ReadDeadline {
    idle: Deadline,
    begun_timeout_ms: u64,
    begun: Option<Deadline>,
}

impl ReadDeadline {
    /// From now on; what begins must be complete within `begun_timeout_ms`.
    pub(super) fn new(worker: &Worker, begun_timeout_ms: u64) -> ReadDeadline {
        let idle = worker.clock.deadline(worker.live().settings.idle_timeout_ms);
        ReadDeadline { idle, begun_timeout_ms, begun: None }
    }

    /// Something has begun, even if nothing of it is in the input.
    pub(super) fn begin(&mut self, worker: &Worker) {
        let timeout_ms = self.begun_timeout_ms;
        self.begun.get_or_insert_with(|| worker.clock.deadline(timeout_ms));
    }

    /// Waits for more of `input`. False: the peer has ended.
    pub(super) async fn receive(
        &mut self,
        worker: &Worker,
        connection: &Connection,
        input: &mut Input,
    ) -> Result<bool, TransferError> {
        if !input.is_empty() {
            self.begin(worker);
        }
        match self.begun {
            None => input.receive(worker, connection, Phase::Idle, self.idle).await,
            Some(deadline) => input.receive(worker, connection, Phase::Receiving, deadline).await,
        }
    }
}
