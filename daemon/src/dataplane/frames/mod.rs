//! Length-prefixed frames on a connection: any number, one after the other, each acknowledged once its sink
//! has the whole of it. Memory per connection doesn't depend on what a header says.

mod receive;
mod store;

use std::time::Instant;

use super::account::{Access, Caller};
use super::connection::Connection;
use super::context::Worker;
use super::error::{TransferError, spool_refusal};
use super::input::Input;
use super::lingering_close::{LINGER_BYTES_MAX, linger, wait_until_acknowledged};
use crate::config::SinkChoice;
use crate::protocol::frame::FrameError;
use crate::telemetry::FrameRefusal;
use receive::Frames;

/// Acknowledgements that are held back while further frames lie ready, so that a burst of small frames is
/// answered in one segment.
const ACKNOWLEDGEMENTS_HELD_MAX: usize = 256;

/// Why a connection ends after a frame without `done`.
const FRAME_REFUSED: &str = "a frame was refused";

/// Takes frames until either side ends the connection, and says why that is.
pub(super) async fn serve(worker: &Worker, connection: &Connection, input: Input) -> &'static str {
    let mut frames = Frames { worker, connection, input, unacknowledged: 0 };
    loop {
        let size = match frames.next_header().await {
            Ok(Some(Ok(size))) => size,
            Ok(Some(Err(error))) => {
                frames.refuse(&error).await;
                return FRAME_REFUSED;
            }
            Ok(None) => return "the peer closed it",
            Err(error) if !frames.input.is_empty() => {
                frames.refuse_cut_header(error).await;
                return FRAME_REFUSED;
            }
            Err(error) => {
                wait_until_acknowledged(worker, connection).await;
                return error.closes_because();
            }
        };
        if !frames.take(size).await {
            return FRAME_REFUSED;
        }
        if frames.worker.is_draining() && frames.is_last() {
            frames.end_drained().await;
            return TransferError::Drained.closes_because();
        }
    }
}

impl Frames<'_> {
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
        let is_whole = result.is_ok();
        self.account(size, received, started, result);
        if !is_whole {
            self.end_refused().await;
            return false;
        }
        self.worker.counters.frames_received.add(1);
        self.unacknowledged += 1;
        self.unacknowledged < ACKNOWLEDGEMENTS_HELD_MAX || self.acknowledge().await.is_ok()
    }

    /// Whether nothing follows a frame that the daemon should still take, now that it stops: nobody can be told to send
    /// no more, so what was sent by then is taken, and what a client goes on to send isn't.
    fn is_last(&self) -> bool {
        self.worker.is_past_idle_grace() || !self.has_more()
    }

    /// Acknowledges what was taken, and lets the peer read that.
    async fn end_drained(&mut self) {
        if self.has_more() {
            return self.end_refused().await;
        }
        if self.acknowledge().await.is_ok() {
            wait_until_acknowledged(self.worker, self.connection).await;
        }
    }

    /// A header that can't be accepted: the connection ends without `done`.
    async fn refuse(&mut self, error: &FrameError) {
        let reason = match error {
            FrameError::Negative { .. } => FrameRefusal::Negative,
            FrameError::OverLimit { .. } => FrameRefusal::OverLimit,
            FrameError::HeaderTruncated { .. } | FrameError::Truncated { .. } => FrameRefusal::Truncated,
            FrameError::HeaderLate { .. } | FrameError::Late { .. } => FrameRefusal::TimedOut,
            FrameError::TooSlow { .. } => FrameRefusal::TooSlow,
            FrameError::Evicted => FrameRefusal::Evicted,
            FrameError::Drained { .. } => FrameRefusal::Drained,
        };
        let result = match reason {
            FrameRefusal::Negative | FrameRefusal::OverLimit => TransferError::Refused,
            FrameRefusal::TimedOut => TransferError::TimedOut,
            FrameRefusal::TooSlow => TransferError::TooSlow,
            FrameRefusal::Evicted => TransferError::Evicted,
            FrameRefusal::Drained => TransferError::Drained,
            FrameRefusal::Truncated | FrameRefusal::SinkFailed | FrameRefusal::NoRoom => {
                TransferError::PeerGone
            }
        };
        self.report(reason, error);
        self.write_line(0, Instant::now(), Some(&error.to_string()), &Err(result));
        self.end_refused().await;
    }

    /// A header that did not become whole, for what the wait for it ended with.
    async fn refuse_cut_header(&mut self, error: TransferError) {
        let received = self.input.bytes().len();
        let error = match self.connection.blame(error) {
            TransferError::TimedOut => {
                let timeout_ms = self.worker.live().settings.receive_timeout_ms;
                FrameError::HeaderLate { received, timeout_ms }
            }
            TransferError::TooSlow => FrameError::TooSlow { received: 0 },
            TransferError::Evicted => FrameError::Evicted,
            TransferError::Drained => FrameError::Drained { received: 0 },
            _ => FrameError::HeaderTruncated { received },
        };
        self.refuse(&error).await;
    }

    fn report(&self, reason: FrameRefusal, error: &FrameError) {
        self.worker.counters.frames_refused.add(reason, 1);
        tracing::warn!(peer = %self.connection.client(), %error, "frame refused");
    }

    /// Frames taken before the refused one are still acknowledged, and the peer gets to read that.
    async fn end_refused(&mut self) {
        if self.acknowledge().await.is_err() {
            return;
        }
        if self.connection.is_evicted() {
            // Others wait for its place, and there is nothing more to be told.
            wait_until_acknowledged(self.worker, self.connection).await;
        } else {
            linger(self.worker, self.connection, LINGER_BYTES_MAX).await;
        }
    }

    fn account(&self, expected: u64, received: u64, started: Instant, result: Result<(), TransferError>) {
        let result = result.map_err(|error| self.connection.blame(error));
        let timeout_ms = self.worker.live().settings.receive_timeout_ms;
        let refused = match &result {
            Ok(()) => None,
            // Told by what failed.
            Err(TransferError::Sink(error)) => {
                let counters = &self.worker.counters;
                let space = spool_refusal(error);
                space.into_iter().for_each(|reason| counters.space_refusals.add(reason, 1));
                let reason = space.map_or(FrameRefusal::SinkFailed, |_| FrameRefusal::NoRoom);
                counters.frames_refused.add(reason, 1);
                None
            }
            Err(TransferError::Disk(_)) => {
                self.worker.counters.frames_refused.add(FrameRefusal::SinkFailed, 1);
                None
            }
            Err(TransferError::TimedOut) => {
                Some((FrameRefusal::TimedOut, FrameError::Late { expected, received, timeout_ms }))
            }
            Err(TransferError::TooSlow) => Some((FrameRefusal::TooSlow, FrameError::TooSlow { received })),
            Err(TransferError::Evicted) => Some((FrameRefusal::Evicted, FrameError::Evicted)),
            Err(TransferError::Drained) => Some((FrameRefusal::Drained, FrameError::Drained { received })),
            Err(_) => Some((FrameRefusal::Truncated, FrameError::Truncated { expected, received })),
        };
        if let Some((reason, error)) = &refused {
            self.report(*reason, error);
        }
        let reason = refused.map(|(_, error)| error.to_string());
        self.write_line(received, started, reason.as_deref(), &result);
    }

    fn write_line(
        &self,
        received: u64,
        started: Instant,
        reason: Option<&str>,
        result: &Result<(), TransferError>,
    ) {
        let id = self.worker.request_ids.make();
        let access = Access {
            peer: self.connection.client(),
            protocol: "frame",
            method: "RECEIVE",
            path: b"-",
            status: 0,
            bytes_in: received,
            bytes_out: 0,
            started,
            engine: "none",
            reason,
            caller: Caller { id: id.as_bytes(), ..Caller::default() },
        };
        access.finish(self.worker, result);
    }
}
