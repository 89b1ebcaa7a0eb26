//! Request bodies that nobody wants.

use super::super::error::TransferError;
use super::super::input::{Input, Patience};
use super::super::registry::Connection;
use super::super::worker::Worker;
use crate::protocol::http1::chunked::ChunkedDecoder;
use crate::protocol::http1::request::{Body, Request};

/// The largest body of a GET or HEAD that is received and dropped so that the connection can be kept.
const DRAIN_BYTES_MAX: u64 = 64 << 10;

/// Receives and drops the request's body. False: it is too large or can't be read, so the connection can't be
/// kept; otherwise the rest of the body would be taken for the next request.
pub(super) async fn drain(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
    request: &Request,
) -> Result<bool, TransferError> {
    match request.body {
        Body::None => Ok(true),
        // The client may or may not send the body once it has its final answer (RFC 9110 10.1.1).
        _ if request.expects_continue => Ok(false),
        Body::Length(length) if length > DRAIN_BYTES_MAX => Ok(false),
        Body::Length(length) => drain_length(worker, connection, input, length).await,
        Body::Chunked => drain_chunked(worker, connection, input).await,
    }
}

async fn drain_length(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
    length: u64,
) -> Result<bool, TransferError> {
    let mut rest = length;
    let mut patience = Patience::new(worker, worker.live().settings.receive_timeout_ms);
    loop {
        let here = rest.min(input.bytes().len() as u64);
        input.consume(usize::try_from(here).unwrap_or(usize::MAX));
        rest -= here;
        if rest == 0 {
            return Ok(true);
        }
        receive(&mut patience, worker, connection, input).await?;
    }
}

async fn drain_chunked(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
) -> Result<bool, TransferError> {
    let mut decoder = ChunkedDecoder::new();
    let mut dropped = 0;
    let mut patience = Patience::new(worker, worker.live().settings.receive_timeout_ms);
    loop {
        let Ok((consumed, ended)) = decoder.skip(input.bytes()) else { return Ok(false) };
        input.consume(consumed);
        dropped += consumed as u64;
        if ended {
            return Ok(true);
        }
        if dropped > DRAIN_BYTES_MAX {
            return Ok(false);
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
