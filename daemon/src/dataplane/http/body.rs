//! Drops the bodies of requests where nobody wants them.

use std::borrow::Cow;

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::error::TransferError;
use super::super::input::{Input, ReadDeadline};
use super::super::lingering_close::LINGER_BYTES_MAX;
use crate::protocol::http1::chunked::ChunkedDecoder;
use crate::protocol::http1::request::{Body, Request};

/// The largest body that is received and dropped so that the connection can be kept.
const DRAIN_BYTES_MAX: u64 = LINGER_BYTES_MAX;

/// How far a body that nobody wants has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Discarded {
    /// Whether it is out of the way, or will be. If not, it is too large or can't be read, and the connection can't be
    /// kept: otherwise the rest of the body would be taken for the next request.
    pub(super) is_whole: bool,
    /// How much of its payload was received.
    pub(super) bytes: u64,
    /// How much of it has still to come, and to be dropped before the next request. The answer needn't wait for that.
    pub(super) left: u64,
}

/// A body that ended before its end, or didn't end in time.
pub(super) struct Cut {
    /// How much of its payload had been received.
    pub(super) bytes: u64,
    pub(super) error: TransferError,
}

impl Cut {
    /// The status and the words that tell the client of it. A client that only ended its own direction can still read
    /// them; where it has left altogether sending fails.
    pub(super) fn problem(&self) -> (u16, Cow<'static, str>) {
        match &self.error {
            TransferError::TimedOut => (408, "the request body was not complete in time".into()),
            TransferError::TooSlow => {
                (408, "the request body came with fewer than progress_bytes_min bytes a second".into())
            }
            error @ TransferError::NoRoom(_) => (503, error.to_string().into()),
            _ => (400, "the connection ended inside the request body".into()),
        }
    }
}

impl Discarded {
    /// Nothing is left to be received.
    pub(super) const NOTHING_LEFT: Discarded = Discarded { is_whole: true, bytes: 0, left: 0 };

    /// Something is left that will not be received.
    pub(super) fn partly(bytes: u64) -> Discarded {
        Discarded { is_whole: false, bytes, left: 0 }
    }
}

/// Drops the request's body, if that isn't too much. Where its length is known only what has come of it is dropped, so
/// that a client which is slow to send it gets the answer at once. A chunked body is received, since its chunks alone
/// tell where it ends.
pub(super) async fn discard(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
    request: &Request,
) -> Result<Discarded, Cut> {
    match request.body {
        Body::None => Ok(Discarded::NOTHING_LEFT),
        // The client may or may not send the body once it has its final answer (RFC 9110 10.1.1).
        _ if request.expects_continue => Ok(Discarded::partly(payload_bytes(input, request.body))),
        Body::Length(length) if length > DRAIN_BYTES_MAX => {
            Ok(Discarded::partly(payload_bytes(input, request.body)))
        }
        Body::Length(length) => Ok(drop_what_came(input, length)),
        Body::Chunked => discard_chunked(worker, connection, input).await,
    }
}

/// How much of a body's payload has come. Bytes behind it may be the next request.
fn payload_bytes(input: &Input, body: Body) -> u64 {
    match body {
        Body::None => 0,
        Body::Length(length) => length.min(input.bytes().len() as u64),
        Body::Chunked => {
            let mut decoder = ChunkedDecoder::new();
            // Where the chunks can't be read any more the payload ends as well.
            let _ = decoder.skip(input.bytes());
            decoder.payload_bytes()
        }
    }
}

fn drop_what_came(input: &mut Input, length: u64) -> Discarded {
    let bytes = length.min(input.bytes().len() as u64);
    input.consume(usize::try_from(bytes).unwrap_or(usize::MAX));
    Discarded { is_whole: true, bytes, left: length - bytes }
}

/// Receives and drops the `left` bytes of a body whose request has been answered.
pub(super) async fn skip(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
    left: u64,
) -> Result<(), TransferError> {
    let mut left = left;
    let mut read_deadline = ReadDeadline::new(worker, worker.live().settings.receive_timeout_ms);
    loop {
        left = drop_what_came(input, left).left;
        if left == 0 {
            return Ok(());
        }
        receive(&mut read_deadline, worker, connection, input).await?;
    }
}

async fn discard_chunked(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
) -> Result<Discarded, Cut> {
    let mut decoder = ChunkedDecoder::new();
    // Sizes, extensions and trailers count too, since they have to be received as well.
    let mut bytes = 0;
    let mut read_deadline = ReadDeadline::new(worker, worker.live().settings.receive_timeout_ms);
    loop {
        let Ok((consumed, ended)) = decoder.skip(input.bytes()) else {
            return Ok(Discarded::partly(decoder.payload_bytes()));
        };
        input.consume(consumed);
        bytes += consumed as u64;
        if ended {
            return Ok(Discarded { bytes: decoder.payload_bytes(), ..Discarded::NOTHING_LEFT });
        }
        if bytes > DRAIN_BYTES_MAX {
            return Ok(Discarded::partly(decoder.payload_bytes()));
        }
        let received = receive(&mut read_deadline, worker, connection, input).await;
        received.map_err(|error| Cut { bytes: decoder.payload_bytes(), error })?;
    }
}

async fn receive(
    read_deadline: &mut ReadDeadline,
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
) -> Result<(), TransferError> {
    read_deadline.begin(worker);
    if read_deadline.receive(worker, connection, input).await? {
        Ok(())
    } else {
        Err(TransferError::PeerGone)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::error::TransferError;
    use super::super::super::input::Input;
    use super::{Body, Cut, Discarded, drop_what_came, payload_bytes};
    use crate::limits::Full;

    fn received(bytes: &[u8]) -> Input {
        let mut input = Input::default();
        input.put_back(bytes.to_vec());
        input
    }

    #[test]
    fn of_a_body_only_its_own_bytes_are_dropped() {
        let mut input = received(b"bodyGET / HTTP/1.1");
        assert_eq!(drop_what_came(&mut input, 4), Discarded { is_whole: true, bytes: 4, left: 0 });
        assert_eq!(input.bytes(), b"GET / HTTP/1.1");
        let mut input = received(b"bo");
        assert_eq!(drop_what_came(&mut input, 4), Discarded { is_whole: true, bytes: 2, left: 2 });
        assert!(input.is_empty());
    }

    #[test]
    fn payload_is_counted_without_framing_and_without_the_next_request() {
        for (bytes, body, expected) in [
            (&b"bodyGET"[..], Body::None, 0),
            (b"bodyGET", Body::Length(4), 4),
            (b"bo", Body::Length(4), 2),
            (b"4\r\nbody\r\n2\r\ner\r\n0\r\n\r\nGET", Body::Chunked, 6),
            (b"4\r\nbody\r\nno chunk", Body::Chunked, 4),
        ] {
            assert_eq!(payload_bytes(&received(bytes), body), expected, "{body:?}");
        }
    }

    #[test]
    fn a_body_that_breaks_off_has_the_status_of_its_reason() {
        for (error, expected) in [
            (TransferError::TimedOut, 408),
            (TransferError::TooSlow, 408),
            (TransferError::NoRoom(Full::Node), 503),
            (TransferError::PeerGone, 400),
        ] {
            let (status, detail) = Cut { bytes: 0, error }.problem();
            assert_eq!(status, expected, "{detail}");
        }
    }
}
