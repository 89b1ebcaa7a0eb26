//! What a transfer did: counted, and written as one access line.

use std::net::SocketAddr;
use std::time::Instant;

use super::error::TransferError;
use super::worker::Worker;
use crate::config::LogLevel;
use crate::protocol::name::escaped_for_log;
use crate::telemetry::{AccessLine, EngineLabel, Label, Outcome, Status};

/// Bytes moved, by engine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    bytes: [u64; EngineLabel::ALL.len()],
}

impl Tally {
    /// Counts bytes that `engine` handed to the kernel.
    pub(super) fn add(&mut self, engine: EngineLabel, bytes: u64) {
        self.bytes[engine.index()] += bytes;
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
    pub(super) peer: SocketAddr,
    /// `http`, `frame`, `raw`.
    pub(super) protocol: &'static str,
    /// The HTTP method; `RECEIVE` for a frame, `STREAM` for a stream of ours.
    pub(super) method: &'a str,
    /// The request target as it came; `-` where there is none.
    pub(super) path: &'a str,
    /// The HTTP status, 0 where there is none.
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) started: Instant,
    pub(super) engine: &'static str,
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
        let settings = &worker.live().settings;
        if settings.access_log && settings.log_level >= LogLevel::Info {
            self.write_line(worker, outcome);
        }
    }

    fn write_line(self, worker: &Worker, outcome: Outcome) {
        worker.access_log.write(&AccessLine {
            peer: self.peer,
            protocol: self.protocol,
            method: self.method,
            path: &escaped_for_log(self.path),
            status: self.status,
            bytes: self.bytes,
            started: self.started,
            engine: self.engine,
            outcome: outcome.label(),
        });
    }
}

/// A failure of ours is a warning with its reason; a peer that went away isn't.
fn report_failure(result: &Result<(), TransferError>, path: &str) {
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
