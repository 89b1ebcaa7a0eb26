//! A request and what becomes of it: whichever way it ends, it is counted once and has one access line.

use std::time::Instant;

use super::super::account::{Access, Caller, Tally};
use super::super::context::Worker;
use super::super::error::TransferError;
use super::super::input::Input;
use super::super::lingering_close::LINGER_BYTES_MAX;
use super::super::registry::Registered;
use super::body::Discarded;
use super::response::{Asked, Response};
use crate::protocol::http1::glimpse::Glimpse;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::{Request, Version};
use crate::protocol::name::escaped_for_log;
use crate::telemetry::RequestId;

/// Nobody was there to be answered any more: NGINX's status, never sent, for clients that left before their answer.
const CLIENT_LEFT: u16 = 499;

/// The daemon stopped before there was an answer, or needed its place, or too much waits for its readers. Never sent
/// either.
const NOT_ANSWERED: u16 = 503;

/// What becomes of a connection after an answer.
pub(super) enum After {
    /// So many bytes of the request's body are still to come before the next.
    NextRequest { left: u64 },
    /// The client sends nothing more, so closing costs no byte of the answer; or there is nothing left to close. With
    /// the reason, for the log.
    Close(&'static str),
    /// The client may be sending still, of which no more than so many bytes are taken.
    Linger { bytes_max: u64 },
}

/// A request that is being answered.
pub(super) struct Exchange {
    pub(super) request: Request,
    id: RequestId,
    started: Instant,
    /// What became of the request's body, if any.
    discarded: Discarded,
    pub(super) keep_alive: bool,
    /// Of a body that somebody wanted.
    received_bytes: u64,
}

/// How far an answer came.
pub(super) struct Sent {
    status: u16,
    /// Why the request was refused.
    reason: Option<Box<str>>,
    tally: Tally,
    result: Result<(), TransferError>,
    /// What the answer, which is whole, tells of: it is accounted for by that.
    told: Option<Box<TransferError>>,
    /// The end of the connection is the answer's end.
    is_last: bool,
}

impl Sent {
    /// An answer of which so much was sent.
    pub(super) fn of(response: &mut Response, tally: Tally, result: Result<(), TransferError>) -> Sent {
        let reason = response.reason.take();
        Sent { status: response.status, reason, tally, result, told: None, is_last: response.is_last }
    }

    /// With what `send` made of it.
    pub(super) fn ended(self, (tally, result): (Tally, Result<(), TransferError>)) -> Sent {
        Sent { tally, result, ..self }
    }

    /// Nothing, since nobody was there any more, or the daemon stopped.
    pub(super) fn nothing(error: TransferError) -> Sent {
        let tally = Tally::default();
        Sent { status: 0, reason: None, tally, result: Err(error), told: None, is_last: false }
    }

    /// What failed, where nothing was sent so that the client can be told of it.
    pub(super) fn into_untold(self) -> Result<Box<TransferError>, Sent> {
        match self.result {
            Err(error) if !self.tally.is_begun() && error.can_be_told() => Ok(Box::new(error)),
            result => Err(Sent { result, ..self }),
        }
    }

    /// The same; it tells of this failure.
    pub(super) fn telling(self, error: Box<TransferError>) -> Sent {
        Sent { told: Some(error), ..self }
    }

    /// What the line says of the status: that of an answer which was never begun would be an invention.
    fn status(&self) -> u16 {
        match &self.result {
            Err(error) if !self.tally.is_begun() => unanswered(error),
            _ => self.status,
        }
    }

    /// Writes the account of what was refused before it was a request, as that of one is.
    pub(super) fn account_unread(self, worker: &Worker, connection: &Registered, unread: &Unread<'_>) {
        let sent = self.blamed(connection);
        let Unread { glimpse, id, started } = unread;
        let access = Access {
            peer: connection.client(),
            protocol: "http",
            method: glimpse.method.unwrap_or("-"),
            path: glimpse.target.unwrap_or(b"-"),
            status: sent.status(),
            bytes_in: 0,
            bytes_out: sent.tally.total(),
            started: *started,
            engine: sent.tally.engine(),
            reason: sent.reason.as_deref(),
            caller: Caller {
                range: glimpse.range.as_deref(),
                agent: glimpse.caller.as_ref().and_then(|caller| caller.agent()),
                id: id.as_bytes(),
            },
        };
        access.finish(worker, &sent.result);
    }

    /// With the daemon to blame where it was the daemon that broke the connection off.
    fn blamed(self, connection: &Registered) -> Sent {
        let result = self.result.map_err(|error| connection.blame(error));
        // Whoever got no answer wasn't told why it was refused either.
        Sent { reason: self.reason.filter(|_| result.is_ok()), result, ..self }
    }
}

/// What was refused, or broke off, before it was a request.
pub(super) struct Unread<'i> {
    glimpse: Glimpse<'i>,
    id: RequestId,
    started: Instant,
}

impl<'i> Unread<'i> {
    /// Of what is there of one that began at `started`.
    pub(super) fn new(worker: &Worker, input: &'i Input, started: Instant) -> Unread<'i> {
        let mut glimpse = Glimpse::of(input.bytes());
        let id = worker.request_ids.name(glimpse.caller.as_mut().and_then(|caller| caller.id.take()));
        Unread { glimpse, id, started }
    }

    /// For answers to what could not be read as a request.
    pub(super) fn asked<'w>(&'w self, worker: &'w Worker) -> Asked<'w> {
        let method = if self.glimpse.is_head() { Method::Head } else { Method::Get };
        Asked { worker, method, version: Version::Http11, keep_alive: false, id: &self.id }
    }
}

fn unanswered(error: &TransferError) -> u16 {
    match error {
        TransferError::Drained | TransferError::Evicted | TransferError::NoRoom(_) => NOT_ANSWERED,
        _ => CLIENT_LEFT,
    }
}

impl Exchange {
    /// Of a request whose head came at `started`.
    pub(super) fn since(
        worker: &Worker,
        request: Request,
        discarded: Discarded,
        started: Instant,
    ) -> Exchange {
        let exchange = Exchange::new(worker, request, discarded, started);
        exchange.tell();
        exchange
    }

    /// The same of one that may yet be [taken back](Exchange::into_request), of which nothing is told so far.
    pub(super) fn new(
        worker: &Worker,
        mut request: Request,
        discarded: Discarded,
        started: Instant,
    ) -> Exchange {
        let keep_alive = request.keep_alive && discarded.is_whole && !worker.is_draining();
        let id = worker.request_ids.name(request.caller.as_mut().and_then(|caller| caller.id.take()));
        Exchange { request, id, started, discarded, keep_alive, received_bytes: 0 }
    }

    /// Tells the log of it.
    pub(super) fn tell(&self) {
        tracing::debug!(
            id = self.id.as_str(),
            method = self.request.method.as_str(),
            path = &*escaped_for_log(&*self.request.target),
            "request begins"
        );
    }

    /// Of one that brought `received_bytes` of an upload.
    pub(super) fn of_upload(self, received_bytes: u64) -> Exchange {
        Exchange { received_bytes, ..self }
    }

    /// What of it shapes every answer.
    pub(super) fn asked<'w>(&'w self, worker: &'w Worker) -> Asked<'w> {
        let Exchange { request, keep_alive, id, .. } = self;
        Asked { worker, method: request.method, version: request.version, keep_alive: *keep_alive, id }
    }

    /// The request, as if nothing had been done.
    pub(super) fn into_request(self) -> Request {
        let mut request = self.request;
        if let (RequestId::Sent(id), Some(caller)) = (self.id, &mut request.caller) {
            caller.id = Some(id);
        }
        request
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
            status: sent.status(),
            bytes_in: self.received_bytes + self.discarded.bytes,
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
        let Sent { result, told, is_last, .. } = sent;
        match told {
            Some(error) if result.is_ok() => access.finish(worker, &Err(*error)),
            _ => access.finish(worker, &result),
        }
        if let Err(error) = &result {
            connection.socket.abort();
            return After::Close(error.closes_because());
        }
        self.after(input, is_last)
    }

    fn after(&self, input: &Input, is_last: bool) -> After {
        let nothing_follows = self.discarded.is_whole && self.discarded.left == 0 && input.is_empty();
        match (self.keep_alive && !is_last, !self.request.keep_alive && nothing_follows) {
            (true, _) => After::NextRequest { left: self.discarded.left },
            (false, true) => After::Close("the last answer was sent"),
            (false, false) => {
                After::Linger { bytes_max: LINGER_BYTES_MAX.saturating_sub(self.discarded.bytes) }
            }
        }
    }
}
