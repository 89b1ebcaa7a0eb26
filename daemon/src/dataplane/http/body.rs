//! Request bodies that nobody wants.

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::error::TransferError;
use super::super::input::{Input, ReadDeadline};
use super::super::lingering_close::LINGER_BYTES_MAX;
use crate::protocol::http1::chunked::ChunkedDecoder;
use crate::protocol::http1::request::{Body, Request};

/// The largest body that is received and dropped so that the connection can be kept.
const DRAIN_BYTES_MAX: u64 = LINGER_BYTES_MAX;

/// What became of a body that nobody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Discarded {
    /// Whether it is out of the way, or will be. If not, it is too large or can't be read, and the connection can't be
    /// kept: otherwise the rest of the body would be taken for the next request.
    pub(super) is_whole: bool,
    /// How much of its payload was received.
    pub(super) bytes: u64,
    /// What has still to come, and to be dropped before the next request. The answer needn't wait for it.
    pub(super) left: u64,
}

/// A body that ended before its end, or didn't end in time.
pub(super) struct Cut {
    /// How much of its payload had been received.
    pub(super) bytes: u64,
    pub(super) error: TransferError,
}

impl Discarded {
    /// Nothing is left to be received.
    pub(super) const NOTHING_LEFT: Discarded = Discarded { is_whole: true, bytes: 0, left: 0 };

    /// Something is left.
    pub(super) fn partly(bytes: u64) -> Discarded {
        Discarded { is_whole: false, bytes, left: 0 }
    }
}

/// Drops the request's body, if that isn't too much. Where its end is known only what has come of it: whoever is slow
/// to send what nobody wants gets the answer at once. Only its chunks tell where another ends, so it is received.
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

/// How much of a body's payload has come. What is behind it may be the next request.
fn payload_bytes(input: &Input, body: Body) -> u64 {
    match body {
        Body::None => 0,
        Body::Length(length) => length.min(input.bytes().len() as u64),
        Body::Chunked => {
            let mut decoder = ChunkedDecoder::new();
            // Up to where it is none any more.
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
    // Sizes, extensions and trailers included: they too have to be received.
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
