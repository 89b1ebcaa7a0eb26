//! A request that is being answered. Whichever way it ends, it is counted once and has one access line.

use std::time::Instant;

use super::super::account::{Access, Caller};
use super::super::context::Worker;
use super::super::input::Input;
use super::super::lingering_close::LINGER_BYTES_MAX;
use super::super::registry::Registered;
use super::body::Discarded;
use super::response::Asked;
use super::sent::Sent;
use crate::protocol::http1::request::Request;
use crate::protocol::name::escaped_for_log;
use crate::telemetry::RequestId;

/// What becomes of a connection after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next request is read, once `left` bytes of this one's body have been dropped.
    NextRequest { left: u64 },
    /// The connection is closed, for this reason. The client sends nothing more, so that closing costs no byte of the
    /// answer; or there is nothing left to close.
    Close(&'static str),
    /// The connection is closed as soon as the client has taken the answer. It may still be sending, and at most
    /// `bytes_max` bytes of that are taken.
    Linger { bytes_max: u64 },
}

/// A request that is being answered.
pub(super) struct Exchange {
    pub(super) request: Request,
    id: RequestId,
    started: Instant,
    /// What became of a body that nobody wants.
    discarded: Discarded,
    pub(super) keep_alive: bool,
    /// Bytes that an upload's body brought.
    uploaded_bytes: u64,
}

impl Exchange {
    /// Begins to answer a request whose head came at `started`, and logs that.
    pub(super) fn begin(
        worker: &Worker,
        mut request: Request,
        discarded: Discarded,
        started: Instant,
    ) -> Exchange {
        let keep_alive = request.keep_alive && discarded.is_whole && !worker.is_draining();
        let id = worker.request_ids.name(request.caller.as_mut().and_then(|caller| caller.id.take()));
        let exchange = Exchange { request, id, started, discarded, keep_alive, uploaded_bytes: 0 };
        exchange.log_begin();
        exchange
    }

    fn log_begin(&self) {
        tracing::debug!(
            id = self.id.as_str(),
            method = self.request.method.as_str(),
            path = &*escaped_for_log(&*self.request.target),
            "request begins"
        );
    }

    /// The exchange of a request that has brought `uploaded_bytes` of an upload.
    pub(super) fn of_upload(self, uploaded_bytes: u64) -> Exchange {
        Exchange { uploaded_bytes, ..self }
    }

    /// The exchange once it has to wait. A reload may want access lines by the time it ends, and its line says how long
    /// it took.
    pub(super) fn timed(self, worker: &Worker) -> Exchange {
        if worker.live().settings.writes_access_lines() {
            return self;
        }
        Exchange { started: Instant::now(), ..self }
    }

    /// What of the request shapes every answer to it.
    pub(super) fn asked<'w>(&'w self, worker: &'w Worker) -> Asked<'w> {
        let Exchange { request, keep_alive, id, .. } = self;
        Asked { worker, method: request.method, version: request.version, keep_alive: *keep_alive, id }
    }

    /// Accounts for the answer, whole or not.
    pub(super) fn finish(
        &self,
        worker: &Worker,
        connection: &Registered,
        input: &Input,
        sent: Sent,
    ) -> After {
        let sent = sent.blamed(connection);
        let access = Access {
            peer: connection.client(),
            protocol: "http",
            method: self.request.method.as_str(),
            path: self.request.target.as_bytes(),
            status: sent.accounted_status(),
            bytes_in: self.uploaded_bytes + self.discarded.bytes,
            bytes_out: sent.tally.total(),
            started: self.started,
            engine: sent.tally.engine(),
            reason: sent.reason.as_deref(),
            caller: Caller {
                range: self.request.range.as_deref(),
                agent: self.request.caller.as_ref().and_then(|caller| caller.agent()),
                id: self.id.as_bytes(),
            },
        };
        let Sent { result, explained, is_last, .. } = sent;
        match explained {
            Some(error) if result.is_ok() => access.finish(worker, &Err(*error)),
            _ => access.finish(worker, &result),
        }
        if let Err(error) = &result {
            connection.socket.abort();
            return After::Close(error.closes_because());
        }
        let ending = Ending {
            keep_alive: self.keep_alive && !is_last,
            client_keeps: self.request.keep_alive,
            nothing_came: input.is_empty(),
        };
        after(ending, self.discarded)
    }
}

/// What decides whether a connection outlives a whole answer.
#[derive(Clone, Copy)]
struct Ending {
    /// Whether the answer says that the connection is kept.
    keep_alive: bool,
    /// Whether the request says so.
    client_keeps: bool,
    /// Whether nothing has come behind the request.
    nothing_came: bool,
}

fn after(ending: Ending, discarded: Discarded) -> After {
    if ending.keep_alive {
        return After::NextRequest { left: discarded.left };
    }
    let nothing_follows = discarded.is_whole && discarded.left == 0 && ending.nothing_came;
    if !ending.client_keeps && nothing_follows {
        return After::Close("the last answer was sent");
    }
    After::Linger { bytes_max: LINGER_BYTES_MAX.saturating_sub(discarded.bytes) }
}

#[cfg(test)]
mod tests {
    use super::{After, Discarded, Ending, LINGER_BYTES_MAX, after};

    #[test]
    fn a_connection_is_kept_or_closed_at_once_or_waited_for() {
        let whole = Discarded::NOTHING_LEFT;
        let kept = Ending { keep_alive: true, client_keeps: true, nothing_came: false };
        let last = Ending { keep_alive: false, client_keeps: false, nothing_came: true };
        let closed = After::Close("the last answer was sent");
        for (ending, discarded, expected) in [
            (kept, whole, After::NextRequest { left: 0 }),
            (kept, Discarded { left: 7, ..whole }, After::NextRequest { left: 7 }),
            (last, whole, closed),
            // A client that has more to send, or sends it already, would lose the answer to a reset.
            (Ending { client_keeps: true, ..last }, whole, After::Linger { bytes_max: LINGER_BYTES_MAX }),
            (Ending { nothing_came: false, ..last }, whole, After::Linger { bytes_max: LINGER_BYTES_MAX }),
            (last, Discarded { left: 1, ..whole }, After::Linger { bytes_max: LINGER_BYTES_MAX }),
            (last, Discarded::partly(100), After::Linger { bytes_max: LINGER_BYTES_MAX - 100 }),
            (last, Discarded::partly(u64::MAX), After::Linger { bytes_max: 0 }),
        ] {
            assert_eq!(after(ending, discarded), expected);
        }
    }
}
