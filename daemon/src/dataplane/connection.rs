//! One connection from its first byte: tells the protocol and hands over.

use std::rc::Rc;

use super::error::TransferError;
use super::input::{Input, Patience};
use super::linger::settle;
use super::registry::Registered;
use super::worker::Worker;
use super::{frames, http};
use crate::protocol::detect::{PREFIX_BYTES, Protocol, detect};

/// Serves the connection to its end.
pub(super) async fn run(worker: Rc<Worker>, connection: Registered) {
    let mut input = Input::default();
    // The first head's time counts from its first byte, so the patience goes along.
    let mut patience = Patience::new(&worker, worker.live().settings.head_timeout_ms);
    match first_bytes(&worker, &connection, &mut input, &mut patience).await {
        Ok(Some(Protocol::Http)) => http::serve(&worker, &connection, &mut input, &mut patience).await,
        // Boxed: a connection that speaks HTTP needs no room for this.
        Ok(Some(Protocol::Frame)) => Box::pin(frames::serve(&worker, &connection, input)).await,
        // Nothing, as from a health check that only connects, or neither of the two.
        Ok(None) => {}
        Err(_) => Box::pin(settle(&worker, &connection)).await,
    }
    worker.counters.connections_closed.add(1);
}

/// Waits for the bytes that tell the protocol. None: the connection ended before, or speaks neither.
async fn first_bytes(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
    patience: &mut Patience,
) -> Result<Option<Protocol>, TransferError> {
    loop {
        if let Some(prefix) = input.bytes().first_chunk::<PREFIX_BYTES>() {
            return match detect(*prefix) {
                Ok(protocol) => Ok(Some(protocol)),
                Err(error) => {
                    worker.counters.connections_unknown.add(1);
                    tracing::info!(peer = %connection.socket.peer(), %error, "connection refused");
                    Ok(None)
                }
            };
        }
        if !patience.receive(worker, connection, input).await? {
            if !input.is_empty() {
                // Too little to tell: a cut-off frame header as well as a scanner.
                worker.counters.connections_unknown.add(1);
            }
            return Ok(None);
        }
    }
}
