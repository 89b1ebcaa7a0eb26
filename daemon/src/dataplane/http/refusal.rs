//! Answers clients from which no request was read: the head is refused, or doesn't come whole.

use std::rc::Rc;
use std::time::Instant;

use super::super::account::{Access, Caller};
use super::super::context::Worker;
use super::super::error::TransferError;
use super::super::input::Input;
use super::super::lingering_close::{LINGER_BYTES_MAX, linger, wait_until_acknowledged};
use super::super::proxy;
use super::super::registry::Registered;
use super::ending::{After, Sent};
use super::response::{Asked, Response};
use super::send;
use crate::limits::{ADDRESS_FULL, Full};
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::glimpse::Glimpse;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::Version;
use crate::telemetry::RequestId;

/// Why no request was read.
pub(super) enum Refusal {
    /// Its head can't be read, or isn't for this daemon.
    Malformed(RequestError),
    /// The client ended its direction before the head was whole.
    CutShort,
    /// The wait for the rest of the head failed.
    NotReceived(TransferError),
}

/// Answers a refused head, where there is somebody to be answered, and ends the connection. `started` is when the head
/// came.
pub(super) async fn answer(
    worker: &Rc<Worker>,
    connection: &Registered,
    input: &Input,
    refusal: Refusal,
    started: Instant,
) -> After {
    // For the access line. A head that names its client wrongly is refused for what was found first.
    let _ = proxy::hear(worker, connection, input.bytes());
    let unread = Unread::new(worker, input, started);
    let response = match decide(refusal, has_begun_nothing(input)) {
        Decision::Close => return After::Close("the peer closed it"),
        Decision::CloseInOrder(error) => {
            wait_until_acknowledged(worker, connection).await;
            return After::Close(error.closes_because());
        }
        Decision::BreakOff(error) => {
            let reason = error.closes_because();
            let _ = unread.account(worker, connection, Sent::nothing(error));
            wait_until_acknowledged(worker, connection).await;
            return After::Close(reason);
        }
        Decision::Refuse(error) => Response::refused(&unread.asked(worker), &error),
        Decision::Answer(status, detail) => Response::problem(&unread.asked(worker), status, detail),
    };
    let sent = send::send(worker, connection, response).await;
    if let Err(error) = unread.account(worker, connection, sent) {
        // A part of an answer must not end as a whole one does.
        connection.socket.abort();
        return After::Close(error.closes_because());
    }
    linger(worker, connection, LINGER_BYTES_MAX).await;
    After::Close("a request was refused")
}

/// An empty line or two may end a body (RFC 9112 2.2): that began no request.
fn has_begun_nothing(input: &Input) -> bool {
    input.bytes().iter().all(|byte| b"\r\n".contains(byte))
}

/// The end of a connection on which no request was read.
#[derive(Debug)]
enum Decision {
    /// The peer has closed it, and asked for nothing.
    Close,
    /// Nothing had begun, so nothing is answered: the connection ends once the peer has its last answer.
    CloseInOrder(TransferError),
    /// A request had begun, and is accounted for, but nobody is there to be answered.
    BreakOff(TransferError),
    /// The head is refused for what it says.
    Refuse(RequestError),
    /// The head is answered with this status and these words.
    Answer(u16, &'static str),
}

fn decide(refusal: Refusal, has_begun_nothing: bool) -> Decision {
    let error = match refusal {
        Refusal::Malformed(error) => return Decision::Refuse(error),
        Refusal::CutShort if has_begun_nothing => return Decision::Close,
        Refusal::CutShort => return Decision::Answer(400, "the connection ended inside the request head"),
        Refusal::NotReceived(error) => error,
    };
    match error {
        TransferError::TimedOut | TransferError::TooSlow if has_begun_nothing => {
            Decision::CloseInOrder(error)
        }
        TransferError::TimedOut => Decision::Answer(408, "the request head was not complete in time"),
        TransferError::TooSlow => {
            Decision::Answer(408, "the request head came with fewer than progress_bytes_min bytes a second")
        }
        TransferError::NoRoom(Full::Address) => Decision::Answer(503, ADDRESS_FULL),
        TransferError::NoRoom(Full::Node) => {
            Decision::Answer(503, "too many answers and heads of requests wait (waiting_bytes_max)")
        }
        error => Decision::BreakOff(error),
    }
}

/// A request whose head couldn't be read, as far as it is known.
struct Unread<'i> {
    glimpse: Glimpse<'i>,
    id: RequestId,
    started: Instant,
}

impl<'i> Unread<'i> {
    fn new(worker: &Worker, input: &'i Input, started: Instant) -> Unread<'i> {
        let mut glimpse = Glimpse::of(input.bytes());
        let id = worker.request_ids.name(glimpse.caller.as_mut().and_then(|caller| caller.id.take()));
        Unread { glimpse, id, started }
    }

    /// The traits of an answer after which the connection ends.
    fn asked<'w>(&'w self, worker: &'w Worker) -> Asked<'w> {
        let method = if self.glimpse.is_head() { Method::Head } else { Method::Get };
        Asked {
            worker,
            method,
            version: Version::Http11,
            keep_alive: false,
            id: &self.id,
            prefers_html: self.glimpse.prefers_html,
            cors: None,
        }
    }

    /// Counts it and writes its access line, as those of a request. Says how its answer ended.
    fn account(&self, worker: &Worker, connection: &Registered, sent: Sent) -> Result<(), TransferError> {
        let sent = sent.blamed(connection);
        let Unread { glimpse, id, started } = self;
        let access = Access {
            peer: connection.client(),
            protocol: "http",
            method: glimpse.method.unwrap_or("-"),
            path: glimpse.target.unwrap_or(b"-"),
            status: sent.accounted_status(),
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
        sent.result
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::error::TransferError;
    use super::{Decision, Refusal, decide};
    use crate::limits::Full;
    use crate::protocol::http1::error::RequestError;

    #[test]
    fn what_begins_nothing_is_not_answered() {
        assert!(matches!(decide(Refusal::CutShort, true), Decision::Close));
        for error in [TransferError::TimedOut, TransferError::TooSlow] {
            assert!(matches!(decide(Refusal::NotReceived(error), true), Decision::CloseInOrder(_)));
        }
    }

    #[test]
    fn a_head_that_does_not_come_whole_has_its_status() {
        for (refusal, expected) in [
            (Refusal::CutShort, 400),
            (Refusal::NotReceived(TransferError::TimedOut), 408),
            (Refusal::NotReceived(TransferError::TooSlow), 408),
            (Refusal::NotReceived(TransferError::NoRoom(Full::Address)), 503),
            (Refusal::NotReceived(TransferError::NoRoom(Full::Node)), 503),
        ] {
            let decision = decide(refusal, false);
            assert!(matches!(decision, Decision::Answer(status, _) if status == expected), "{decision:?}");
        }
        let error = RequestError::MethodNotOffered { method: "PUT" };
        assert!(matches!(decide(Refusal::Malformed(error), false), Decision::Refuse(_)));
    }

    #[test]
    fn nobody_is_answered_who_has_left_or_is_ended() {
        for error in [TransferError::PeerGone, TransferError::Drained, TransferError::Evicted] {
            assert!(matches!(decide(Refusal::NotReceived(error), false), Decision::BreakOff(_)));
        }
    }
}
