//! How far an answer came.

use super::super::account::Tally;
use super::super::error::TransferError;
use super::super::registry::Registered;
use super::response::Response;

/// The client had left before its answer: NGINX's status for that, which is never sent.
const CLIENT_LEFT: u16 = 499;

/// The daemon stopped before there was an answer, or needed the client's place, or too much waits for its readers. This
/// is never sent either.
const NOT_ANSWERED: u16 = 503;

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

    /// The same, where the daemon is to blame if it was the daemon that broke the connection off.
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

#[cfg(test)]
mod tests {
    use super::super::super::error::TransferError;
    use super::Sent;
    use crate::limits::Full;

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
