//! Length-prefixed frames on a connection: any number, one after the other, each acknowledged once its sink
//! has the whole of it. Memory per connection doesn't depend on what a header says.

mod store;

use std::time::Instant;

use rustix::io::ioctl_fionread;

use super::account::Access;
use super::error::TransferError;
use super::input::{Input, Patience};
use super::linger::{LINGER_BYTES_MAX, linger, settle};
use super::registry::{Connection, Phase};
use super::socket::GATHERED_BYTES;
use super::worker::Worker;
use crate::config::SinkChoice;
use crate::protocol::frame::{ACKNOWLEDGEMENT, FrameError, HEADER_BYTES, decode_header};
use crate::telemetry::FrameRefusal;

/// Acknowledgements that are held back while further frames lie ready, so that a burst of small frames is
/// answered in one segment.
const ACKNOWLEDGEMENTS_HELD_MAX: usize = 256;

/// A connection that brings frames.
struct Frames<'a> {
    worker: &'a Worker,
    connection: &'a Connection,
    input: Input,
    /// Frames taken and not acknowledged yet.
    unacknowledged: usize,
}

/// Takes frames until either side ends the connection.
pub(super) async fn serve(worker: &Worker, connection: &Connection, input: Input) {
    let mut frames = Frames { worker, connection, input, unacknowledged: 0 };
    loop {
        let size = match frames.next_header().await {
            Ok(Some(Ok(size))) => size,
            Ok(Some(Err(error))) => return frames.refuse(&error).await,
            Ok(None) => return,
            Err(TransferError::TimedOut) if !frames.input.is_empty() => return frames.refuse_late().await,
            Err(_) => return settle(worker, connection).await,
        };
        if !frames.take(size).await {
            return;
        }
        if frames.worker.is_draining() && frames.is_last() {
            return frames.end_drained().await;
        }
    }
}

impl Frames<'_> {
    /// The next frame's size. None: the connection ended between frames.
    async fn next_header(&mut self) -> Result<Option<Result<u64, FrameError>>, TransferError> {
        let live = self.worker.live();
        let mut patience = Patience::new(self.worker, live.settings.receive_timeout_ms);
        loop {
            if let Some(header) = self.input.bytes().first_chunk::<HEADER_BYTES>() {
                let size = decode_header(*header, live.settings.frame_bytes_max);
                self.input.consume(HEADER_BYTES);
                return Ok(Some(size));
            }
            self.acknowledge().await?;
            let received = self.input.bytes().len() as u64;
            if !patience.receive(self.worker, self.connection, &mut self.input).await? {
                let cut_short = FrameError::Truncated { expected: HEADER_BYTES as u64, received };
                return Ok((received > 0).then_some(Err(cut_short)));
            }
        }
    }

    /// Takes one frame's payload. False: the connection ends.
    async fn take(&mut self, size: u64) -> bool {
        let started = Instant::now();
        let sink = self.worker.live().settings.sink;
        let mut received = 0;
        let result = match sink {
            SinkChoice::Discard => self.discard(size, &mut received).await,
            SinkChoice::Store => store::store(self, size, &mut received).await,
        };
        self.worker.counters.bytes_received.add(received);
        self.account(size, received, started, &result);
        let Ok(()) = result else {
            self.end_refused().await;
            return false;
        };
        self.worker.counters.frames_received.add(1);
        self.unacknowledged += 1;
        self.unacknowledged < ACKNOWLEDGEMENTS_HELD_MAX || self.acknowledge().await.is_ok()
    }

    /// Whether nothing follows a frame that the daemon should still take, now that it stops: nobody can be told to send
    /// no more, so what was sent by then is taken, and what a client goes on to send isn't.
    fn is_last(&self) -> bool {
        self.worker.is_past_idle_grace() || !self.has_more()
    }

    /// Whether anything of the next frame has come. Where the kernel doesn't say, the next receive does.
    fn has_more(&self) -> bool {
        !self.input.is_empty() || ioctl_fionread(&self.connection.socket).is_ok_and(|bytes| bytes > 0)
    }

    /// Acknowledges what was taken, and lets the peer read that.
    async fn end_drained(&mut self) {
        if self.has_more() {
            return self.end_refused().await;
        }
        if self.acknowledge().await.is_ok() {
            settle(self.worker, self.connection).await;
        }
    }

    /// Drops a payload inside the kernel.
    async fn discard(&mut self, size: u64, received: &mut u64) -> Result<(), TransferError> {
        self.take_from_input(size, received);
        let socket = &self.connection.socket;
        let mut is_slow = false;
        while *received < size {
            *received += self.discard_now(size - *received)?;
            if *received == size {
                break;
            }
            let gathers = socket.gather(!is_slow && size - *received > u64::from(GATHERED_BYTES));
            match self.wait_readable().await {
                // What has come is too little to be woken for, but it has come.
                Err(TransferError::TimedOut) if gathers => {
                    let late = self.discard_now(size - *received)?;
                    if late == 0 {
                        return Err(TransferError::TimedOut);
                    }
                    *received += late;
                    is_slow = true;
                }
                result => result?,
            }
        }
        socket.gather(false);
        Ok(())
    }

    /// Drops what is there of the next `bytes_max` bytes, and says how much that was.
    fn discard_now(&self, bytes_max: u64) -> Result<u64, TransferError> {
        let mut scratch = self.worker.discard.borrow_mut();
        let length = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(scratch.len());
        match self.connection.socket.try_discard(&mut scratch[..length])? {
            Some(0) => Err(TransferError::PeerGone),
            count => Ok(count.unwrap_or(0) as u64),
        }
    }

    /// Drops what of the payload has been received already.
    fn take_from_input(&mut self, size: u64, received: &mut u64) {
        let here = (size - *received).min(self.input.bytes().len() as u64);
        self.input.consume(usize::try_from(here).unwrap_or(usize::MAX));
        *received += here;
    }

    /// Waits for more of a payload; frames taken before are acknowledged first.
    async fn wait_readable(&mut self) -> Result<(), TransferError> {
        self.acknowledge().await?;
        let deadline = self.worker.clock.deadline(self.worker.live().settings.receive_timeout_ms);
        self.connection.readable(Phase::Receiving, deadline).await
    }

    /// Sends `done` for each frame taken.
    async fn acknowledge(&mut self) -> Result<(), TransferError> {
        if self.unacknowledged == 0 {
            return Ok(());
        }
        let bytes = ACKNOWLEDGEMENT.repeat(std::mem::take(&mut self.unacknowledged));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match self.connection.socket.try_send(rest, false)? {
                Some(count) => rest = &rest[count..],
                None => {
                    let deadline = self.worker.clock.deadline(self.worker.live().settings.send_timeout_ms);
                    self.connection.writable(deadline).await?;
                }
            }
        }
        Ok(())
    }

    /// A header that can't be accepted: the connection ends without `done`.
    async fn refuse(&mut self, error: &FrameError) {
        let reason = match error {
            FrameError::Negative { .. } => FrameRefusal::Negative,
            FrameError::OverLimit { .. } => FrameRefusal::OverLimit,
            FrameError::Truncated { .. } => FrameRefusal::Truncated,
        };
        self.refuse_because(reason, error).await;
    }

    /// A header that did not become complete in time.
    async fn refuse_late(&mut self) {
        let received = self.input.bytes().len() as u64;
        let error = FrameError::Truncated { expected: HEADER_BYTES as u64, received };
        self.refuse_because(FrameRefusal::TimedOut, &error).await;
    }

    async fn refuse_because(&mut self, reason: FrameRefusal, error: &FrameError) {
        self.worker.counters.frames_refused.add(reason, 1);
        tracing::warn!(peer = %self.connection.socket.peer(), %error, "frame refused");
        self.end_refused().await;
    }

    /// Frames taken before the refused one are still acknowledged, and the peer gets to read that.
    async fn end_refused(&mut self) {
        if self.acknowledge().await.is_ok() {
            linger(self.worker, self.connection, LINGER_BYTES_MAX).await;
        }
    }

    fn account(&self, size: u64, received: u64, started: Instant, result: &Result<(), TransferError>) {
        let reason = match result {
            Ok(()) => None,
            Err(TransferError::TimedOut) => Some(FrameRefusal::TimedOut),
            Err(TransferError::Sink(_) | TransferError::Busy) => Some(FrameRefusal::SinkFailed),
            Err(_) => Some(FrameRefusal::Truncated),
        };
        let peer = self.connection.socket.peer();
        if let Some(reason) = reason {
            self.worker.counters.frames_refused.add(reason, 1);
            let error = FrameError::Truncated { expected: size, received };
            if reason != FrameRefusal::SinkFailed {
                tracing::warn!(%peer, %error, "frame refused");
            }
        }
        let access = Access {
            peer,
            protocol: "frame",
            method: "RECEIVE",
            path: "-",
            status: 0,
            bytes: received,
            started,
            engine: "none",
        };
        access.finish(self.worker, result);
    }
}
