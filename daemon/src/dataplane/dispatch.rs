//! A connection's first bytes: tells the protocol and hands over.

use std::rc::Rc;

use super::context::Worker;
use super::error::TransferError;
use super::input::{Input, ReadDeadline};
use super::lingering_close::{LINGER_BYTES_MAX, linger, wait_until_acknowledged};
use super::registry::Registered;
use super::{frames, http, proxy};
use crate::protocol::detect::{PREFIX_BYTES, Protocol, TLS_ALERT, TLS_ON_PLAIN_PORT, detect};
use crate::protocol::frame::decode_header;

/// Serves the connection to its end.
pub(super) async fn run(worker: Rc<Worker>, connection: Registered) {
    let peer = connection.client();
    tracing::debug!(%peer, worker = worker.number, "connection accepted");
    let reason = serve(&worker, &connection).await;
    tracing::debug!(%peer, reason, "connection closed");
    worker.counters.connections_closed.add(1);
}

/// Why a connection ends whose address has too many.
const REFUSED_SHARE: &str = "its address holds address_connections_max";

/// Serves it, and says why it ends.
async fn serve(worker: &Rc<Worker>, connection: &Registered) -> &'static str {
    if !worker.admit(connection) {
        return REFUSED_SHARE;
    }
    let mut input = Input::default();
    // The first head's time counts from its first byte, so the deadline goes along.
    let mut read_deadline = ReadDeadline::new(worker, worker.live().settings.head_timeout_ms);
    if proxy::is_expected(worker, connection) {
        // Boxed: few connections have one, and only at their beginning.
        if let Err(reason) =
            Box::pin(proxy::introduce(worker, connection, &mut input, &mut read_deadline)).await
        {
            return reason;
        }
        // From here on it is that of whom the header named.
        if !worker.admit(connection) {
            return REFUSED_SHARE;
        }
    }
    let protocol = first_bytes(worker, connection, &mut input, &mut read_deadline).await;
    if let Ok(Some(protocol)) = protocol {
        tracing::debug!(peer = %connection.client(), ?protocol, "connection speaks");
    }
    match protocol {
        Ok(Some(Protocol::Http)) => http::serve(worker, connection, &mut input, &mut read_deadline).await,
        // Boxed: a connection that speaks HTTP needs no room for this.
        Ok(Some(Protocol::Frame)) => Box::pin(frames::serve(worker, connection, input)).await,
        Ok(Some(Protocol::Tls)) => {
            Box::pin(refuse_tls(worker, connection)).await;
            "it spoke TLS"
        }
        Ok(None) if input.is_empty() => "the peer closed it before its first byte",
        Ok(None) => "it spoke neither HTTP nor frames",
        Err(error) => {
            Box::pin(wait_until_acknowledged(worker, connection)).await;
            error.closes_because()
        }
    }
}

/// Waits for the bytes that tell the protocol. None: the connection ended before, or speaks neither.
async fn first_bytes(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
    read_deadline: &mut ReadDeadline,
) -> Result<Option<Protocol>, TransferError> {
    loop {
        if let Some(prefix) = input.bytes().first_chunk::<PREFIX_BYTES>() {
            return match detect(*prefix) {
                // Where so large a frame is taken, it is one.
                Ok(Protocol::Tls)
                    if decode_header(*prefix, worker.live().settings.frame_bytes_max).is_ok() =>
                {
                    Ok(Some(Protocol::Frame))
                }
                Ok(protocol) => Ok(Some(protocol)),
                // Its sign says what it is.
                Err(_) if i64::from_le_bytes(*prefix) < 0 => Ok(Some(Protocol::Frame)),
                Err(error) => {
                    worker.counters.connections_unknown.add(1);
                    tracing::info!(peer = %connection.client(), %error, "connection refused");
                    Ok(None)
                }
            };
        }
        let received = read_deadline.receive(worker, connection, input).await;
        if matches!(received, Ok(true)) {
            continue;
        }
        let came = input.bytes();
        if came.is_empty() {
            return received.map(|_| None);
        }
        // Too little to tell. Who sends text gets to read what is wrong with it, and has its line.
        if came.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0x20..=0x7e)) {
            return Ok(Some(Protocol::Http));
        }
        worker.counters.connections_unknown.add(1);
        let error = format!("it brought {} bytes, too few for a frame or a request", came.len());
        tracing::info!(peer = %connection.client(), error, "connection refused");
        return received.map(|_| None);
    }
}

/// Tells the peer's TLS library in its own language, and the log.
async fn refuse_tls(worker: &Worker, connection: &Registered) {
    worker.counters.connections_unknown.add(1);
    tracing::info!(peer = %connection.client(), error = TLS_ON_PLAIN_PORT, "connection refused");
    // Into a socket in which nothing is yet: it has room. Where it fails the peer is gone.
    if connection.socket.try_send(&TLS_ALERT, false).is_ok() {
        linger(worker, connection, LINGER_BYTES_MAX).await;
    }
}
