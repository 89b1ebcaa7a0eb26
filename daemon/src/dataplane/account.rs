//! Accounts for transfers: each is counted, and written as one access line.

use std::borrow::Cow;
use std::time::Instant;

use super::context::Worker;
use super::error::TransferError;
use crate::limits::Peer;
use crate::protocol::http1::caller::AGENT_BYTES_MAX;
use crate::protocol::name::{escaped_for_log, escaped_up_to, sentence_up_to};
use crate::telemetry::{AccessLine, EngineLabel, Label, Outcome, Status};

/// The longest part of a `Range` that a line shows: some ten ranges.
const RANGE_BYTES_MAX: usize = 128;

/// The longest reason that a line gives: a sentence, or two.
const REASON_BYTES_MAX: usize = 256;

/// The text of a line for a value that there isn't.
const NOTHING: &str = "-";

/// Bytes moved, by engine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    bytes: [u64; EngineLabel::ALL.len()],
    is_begun: bool,
}

impl Tally {
    /// Counts bytes that `engine` handed to the kernel.
    pub(super) fn add(&mut self, engine: EngineLabel, bytes: u64) {
        self.bytes[engine.index()] += bytes;
    }

    /// Something of the answer has been handed to the kernel, if only of its head.
    pub(super) fn begin(&mut self) {
        self.is_begun = true;
    }

    /// Whether anything has.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// All bytes.
    pub(super) fn total(&self) -> u64 {
        self.bytes.iter().sum()
    }

    /// The engine that moved most of them.
    pub(super) fn engine(&self) -> &'static str {
        let most = EngineLabel::ALL.iter().max_by_key(|engine| self.bytes[engine.index()]);
        most.filter(|_| self.total() > 0).map_or("none", |engine| engine.label())
    }
}

/// One line's worth of a transfer.
pub(super) struct Access<'a> {
    pub(super) peer: Peer,
    /// `http`, `frame`, `raw`.
    pub(super) protocol: &'static str,
    /// The HTTP method; `RECEIVE` for a frame, `STREAM` for a stream of ours.
    pub(super) method: &'a str,
    /// The request target as it came; `-` where there is none.
    pub(super) path: &'a [u8],
    /// The HTTP status, 0 for what isn't HTTP.
    pub(super) status: u16,
    /// Payload bytes that came.
    pub(super) bytes_in: u64,
    /// Payload bytes that went.
    pub(super) bytes_out: u64,
    pub(super) started: Instant,
    pub(super) engine: &'static str,
    /// Why it ended as it did, where that is known better than by how it failed.
    pub(super) reason: Option<&'a str>,
    pub(super) caller: Caller<'a>,
}

/// The fields of a request that a line quotes: its range, and who made it.
#[derive(Default)]
pub(super) struct Caller<'a> {
    pub(super) range: Option<&'a [u8]>,
    pub(super) agent: Option<&'a [u8]>,
    /// Visible ASCII.
    pub(super) id: &'a [u8],
}

impl Access<'_> {
    /// Counts the transfer and writes its line.
    pub(super) fn finish(self, worker: &Worker, result: &Result<(), TransferError>) {
        let outcome = match result {
            Ok(()) if self.status >= 400 => Outcome::Refused,
            Ok(()) => Outcome::Complete,
            Err(error) => error.outcome(),
        };
        worker.counters.transfers.add(outcome, 1);
        if self.status > 0 {
            worker.counters.requests.add(Status::of(self.status), 1);
        }
        report_failure(result, self.path);
        if worker.live().settings.writes_access_lines() {
            let failure = result.as_ref().err().map(ToString::to_string);
            let reason = self.reason.or(failure.as_deref()).unwrap_or(NOTHING);
            self.write_line(worker, outcome, reason);
        }
    }

    fn write_line(&self, worker: &Worker, outcome: Outcome, reason: &str) {
        worker.access_log.write(&AccessLine {
            peer: self.peer,
            protocol: self.protocol,
            method: self.method,
            path: &escaped_for_log(self.path),
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            started: self.started,
            engine: self.engine,
            outcome: outcome.label(),
            reason: &sentence_up_to(reason, REASON_BYTES_MAX),
            range: &shown(self.caller.range, RANGE_BYTES_MAX),
            agent: &shown(self.caller.agent, AGENT_BYTES_MAX),
            id: std::str::from_utf8(self.caller.id).unwrap_or(NOTHING),
        });
    }
}

/// A field of a request, as far as a line shows it.
fn shown(value: Option<&[u8]>, bytes_max: usize) -> Cow<'_, str> {
    value.map_or(Cow::Borrowed(NOTHING), |value| escaped_up_to(value, bytes_max))
}

/// A failure of ours is a warning with its reason; a peer that went away isn't.
fn report_failure(result: &Result<(), TransferError>, path: &[u8]) {
    if let Err(error) = result
        && error.is_ours()
    {
        tracing::warn!(path = &*escaped_for_log(path), %error, "transfer failed");
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use crate::telemetry::EngineLabel;

    #[test]
    fn the_engine_that_moved_most_is_named() {
        let mut tally = Tally::default();
        assert_eq!(tally.engine(), "none");
        tally.add(EngineLabel::Copy, 10);
        tally.add(EngineLabel::Splice, 11);
        assert_eq!(tally.engine(), "splice");
        assert_eq!(tally.total(), 21);
    }
}
