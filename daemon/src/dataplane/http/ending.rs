//! The end of a request: it is accounted for by how far its answer came, and the connection goes on or ends. Whichever
//! way a request takes, it is counted once and has one access line.

use super::super::account::{Access, Caller, Tally};
use super::super::context::Worker;
use super::super::error::TransferError;
use super::super::input::Input;
use super::super::lingering_close::LINGER_BYTES_MAX;
use super::super::registry::Registered;
use super::body::Discarded;
use super::exchange::Exchange;
use super::response::Response;

/// The client had left before its answer: NGINX's status for that, which is never sent.
const CLIENT_LEFT: u16 = 499;

/// The daemon stopped before there was an answer, or needed the client's place, or too much waits for its readers. This
/// is never sent either.
const NOT_ANSWERED: u16 = 503;

/// The way a connection goes on after an answer.
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

/// How far an answer came, as the account of its request says it.
pub(super) struct Sent {
    pub(super) status: u16,
    /// Why the request was refused.
    pub(super) reason: Option<Box<str>>,
    pub(super) tally: Tally,
    pub(super) result: Result<(), TransferError>,
    /// The failure that the answer tells the client of. The request is accounted for by that failure, since the answer
    /// itself arrived.
    pub(super) explained: Option<Box<TransferError>>,
    /// The client sees the end of the answer by the end of the connection.
    pub(super) is_last: bool,
}

impl Sent {
    /// An answer whose sending needs no more, or can't go on.
    pub(super) fn of(response: &mut Response, result: Result<(), TransferError>) -> Sent {
        let Response { status, sent, is_last, .. } = *response;
        Sent { status, reason: response.reason.take(), tally: sent, result, explained: None, is_last }
    }

    /// There was no answer, since nobody was there any more, or the daemon stopped.
    pub(super) fn nothing(error: TransferError) -> Sent {
        let tally = Tally::default();
        Sent { status: 0, reason: None, tally, result: Err(error), explained: None, is_last: false }
    }

    /// The status of the access line: an answer that never began had none.
    pub(super) fn accounted_status(&self) -> u16 {
        match &self.result {
            Err(error) if !self.tally.is_begun() => status_without_answer(error),
            _ => self.status,
        }
    }

    /// Blames the daemon if it was the daemon that broke the connection off.
    pub(super) fn blamed(self, connection: &Registered) -> Sent {
        let result = self.result.map_err(|error| connection.blame(error));
        // A client without an answer wasn't told why it was refused either.
        Sent { reason: self.reason.filter(|_| result.is_ok()), result, ..self }
    }
}

fn status_without_answer(error: &TransferError) -> u16 {
    match error {
        TransferError::Drained | TransferError::Evicted | TransferError::NoRoom(_) => NOT_ANSWERED,
        _ => CLIENT_LEFT,
    }
}

/// Accounts for the answer, whole or not.
pub(super) fn finish(
    worker: &Worker,
    connection: &Registered,
    input: &Input,
    exchange: &Exchange,
    sent: Sent,
) -> After {
    let sent = sent.blamed(connection);
    let access = Access {
        peer: connection.client(),
        protocol: "http",
        method: exchange.request.method.as_str(),
        path: exchange.request.target.as_bytes(),
        status: sent.accounted_status(),
        bytes_in: exchange.uploaded_bytes + exchange.discarded.bytes,
        bytes_out: sent.tally.total(),
        started: exchange.started,
        engine: sent.tally.engine(),
        reason: sent.reason.as_deref(),
        caller: Caller {
            range: exchange.request.range.as_deref(),
            agent: exchange.request.caller.as_ref().and_then(|caller| caller.agent()),
            id: exchange.id.as_bytes(),
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
        keep_alive: exchange.keep_alive && !is_last,
        client_keeps: exchange.request.keep_alive,
        nothing_came: input.is_empty(),
    };
    after(ending, exchange.discarded)
}

/// The facts that decide whether a connection outlives a whole answer.
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
    use super::{After, Discarded, Ending, LINGER_BYTES_MAX, Sent, TransferError, after};
    use crate::limits::Full;

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

    #[test]
    fn a_request_without_an_answer_has_the_status_of_whoever_ended_it() {
        for (error, status) in [
            (TransferError::PeerGone, 499),
            (TransferError::TimedOut, 499),
            (TransferError::Drained, 503),
            (TransferError::Evicted, 503),
            (TransferError::NoRoom(Full::Node), 503),
        ] {
            assert_eq!(Sent::nothing(error).accounted_status(), status);
        }
    }

    #[test]
    fn an_answer_that_began_keeps_its_status_however_it_ended() {
        let mut sent = Sent { status: 206, ..Sent::nothing(TransferError::PeerGone) };
        assert_eq!(sent.accounted_status(), 499);
        sent.tally.begin();
        assert_eq!(sent.accounted_status(), 206);
    }
}
