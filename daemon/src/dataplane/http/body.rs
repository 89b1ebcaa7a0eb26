//! Request bodies that nobody wants.

use super::super::error::TransferError;
use super::super::input::{Input, Patience};
use super::super::linger::LINGER_BYTES_MAX;
use super::super::registry::Connection;
use super::super::worker::Worker;
use crate::protocol::http1::chunked::ChunkedDecoder;
use crate::protocol::http1::request::{Body, Request};

/// The largest body that is received and dropped so that the connection can be kept.
const DRAIN_BYTES_MAX: u64 = LINGER_BYTES_MAX;

/// What became of a body that nobody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drained {
    /// Whether it is out of the way. If not, it is too large or can't be read, and the connection can't be kept:
    /// otherwise the rest of the body would be taken for the next request.
    pub(super) is_whole: bool,
    /// How much of it was received.
    pub(super) bytes: u64,
}

impl Drained {
    /// Nothing is left to be received.
    pub(super) const NOTHING_LEFT: Drained = Drained { is_whole: true, bytes: 0 };

    /// Something is left.
    pub(super) fn partly(bytes: u64) -> Drained {
        Drained { is_whole: false, bytes }
    }
}

/// Receives and drops the request's body, if that isn't too much.
pub(super) async fn drain(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
    request: &Request,
) -> Result<Drained, TransferError> {
    let received = input.bytes().len() as u64;
    match request.body {
        Body::None => Ok(Drained::NOTHING_LEFT),
        // The client may or may not send the body once it has its final answer (RFC 9110 10.1.1).
        _ if request.expects_continue => Ok(Drained::partly(received)),
        Body::Length(length) if length > DRAIN_BYTES_MAX => Ok(Drained::partly(received)),
        Body::Length(length) => drain_length(worker, connection, input, length).await,
        Body::Chunked => drain_chunked(worker, connection, input).await,
    }
}

async fn drain_length(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
    length: u64,
) -> Result<Drained, TransferError> {
    let mut rest = length;
    let mut patience = Patience::new(worker, worker.live().settings.receive_timeout_ms);
    loop {
        let here = rest.min(input.bytes().len() as u64);
        input.consume(usize::try_from(here).unwrap_or(usize::MAX));
        rest -= here;
        if rest == 0 {
            return Ok(Drained::NOTHING_LEFT);
        }
        receive(&mut patience, worker, connection, input).await?;
    }
}

async fn drain_chunked(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
) -> Result<Drained, TransferError> {
    let mut decoder = ChunkedDecoder::new();
    let mut dropped = 0;
    let mut patience = Patience::new(worker, worker.live().settings.receive_timeout_ms);
    loop {
        let here = input.bytes().len() as u64;
        let Ok((consumed, ended)) = decoder.skip(input.bytes()) else {
            return Ok(Drained::partly(dropped + here));
        };
        input.consume(consumed);
        dropped += consumed as u64;
        if ended {
            return Ok(Drained::NOTHING_LEFT);
        }
        if dropped > DRAIN_BYTES_MAX {
            return Ok(Drained::partly(dropped));
        }
        receive(&mut patience, worker, connection, input).await?;
    }
}

async fn receive(
    patience: &mut Patience,
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
) -> Result<(), TransferError> {
    patience.begin(worker);
    if patience.receive(worker, connection, input).await? { Ok(()) } else { Err(TransferError::PeerGone) }
}
