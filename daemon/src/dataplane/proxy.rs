//! The clients that trusted proxies name: ahead of a connection's first byte, and in the fields of requests.

use super::connection::Connection;
use super::context::Worker;
use super::error::TransferError;
use super::input::{Input, ReadDeadline};
use super::lingering_close::wait_until_acknowledged;
use crate::config::ProxyProtocolChoice;
use crate::limits::Peer;
use crate::protocol::http1::forwarded::{self, ForwardedError};
use crate::protocol::proxy_header::{self, HeaderProgress, ProxyHeaderError};
use crate::telemetry::ProxyRefusal;

/// Why a connection is refused for its header.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error("proxy_protocol is required, and this address is none of trusted_proxies")]
    Untrusted,
    #[error("proxy_protocol is required, and this connection begins without a PROXY header")]
    Missing,
    #[error(transparent)]
    Malformed(#[from] ProxyHeaderError),
    #[error("the connection ended inside its PROXY header")]
    CutShort,
    #[error("the PROXY header was not complete within head_timeout_ms")]
    TimedOut,
}

impl HeaderError {
    fn label(&self) -> ProxyRefusal {
        match self {
            HeaderError::Untrusted => ProxyRefusal::Untrusted,
            HeaderError::Missing => ProxyRefusal::Missing,
            HeaderError::Malformed(_) | HeaderError::CutShort => ProxyRefusal::Malformed,
            HeaderError::TimedOut => ProxyRefusal::TimedOut,
        }
    }
}

/// Whether connections of a listener begin with a header.
pub(super) fn protocol(worker: &Worker, listener: u16) -> ProxyProtocolChoice {
    worker.live().listeners.at(listener).map_or(ProxyProtocolChoice::Off, |listener| listener.proxy_protocol)
}

/// Whether a connection may or must begin with a header.
pub(super) fn is_expected(worker: &Worker, connection: &Connection) -> bool {
    match protocol(worker, connection.via.listener) {
        ProxyProtocolChoice::Off => false,
        ProxyProtocolChoice::Optional => connection.who.is_proxied(),
        ProxyProtocolChoice::Required => true,
    }
}

/// Takes the header of a connection of which [one is expected](is_expected), so that what comes next is the client's
/// first byte. An error says why the connection ends.
pub(super) async fn introduce(
    worker: &Worker,
    connection: &Connection,
    input: &mut Input,
    read_deadline: &mut ReadDeadline,
) -> Result<(), &'static str> {
    let is_required = protocol(worker, connection.via.listener) == ProxyProtocolChoice::Required;
    if !connection.who.is_proxied() {
        return Err(refuse(worker, connection, &HeaderError::Untrusted));
    }
    loop {
        match proxy_header::parse(input.bytes()) {
            Ok(HeaderProgress::Complete { origin, header_bytes }) => {
                input.consume(header_bytes);
                let proxy = connection.client();
                let live = worker.live();
                connection.who.introduce(origin, |peer| peer.is_trusted(&live.proxies));
                let (client, group) = (connection.client(), connection.group());
                tracing::debug!(%proxy, peer = %client, ?origin, ?group, "connection introduced");
                if input.is_empty() {
                    // Nothing of the client's has come: it may wait as long as others.
                    *read_deadline = ReadDeadline::new(worker, live.settings.head_timeout_ms);
                }
                return Ok(());
            }
            Ok(HeaderProgress::Absent) if is_required => {
                return Err(refuse(worker, connection, &HeaderError::Missing));
            }
            Ok(HeaderProgress::Absent) => return Ok(()),
            Ok(HeaderProgress::Incomplete) => {}
            Err(error) => return Err(refuse(worker, connection, &error.into())),
        }
        let received = read_deadline.receive(worker, connection, input).await;
        if !matches!(received, Ok(true)) {
            return cut_short(worker, connection, input, received.err(), is_required).await;
        }
    }
}

/// Nothing more came, for `error` or since the peer ended.
async fn cut_short(
    worker: &Worker,
    connection: &Connection,
    input: &Input,
    error: Option<TransferError>,
    is_required: bool,
) -> Result<(), &'static str> {
    if input.is_empty() {
        // A check of whether anybody listens.
        let Some(error) = error else { return Err("the peer closed it before its first byte") };
        wait_until_acknowledged(worker, connection).await;
        return Err(error.closes_because());
    }
    if !is_required && proxy_header::begins(input.bytes()).is_none() {
        // Nobody has to send one, and this may have become anything.
        return Ok(());
    }
    match error {
        None => Err(refuse(worker, connection, &HeaderError::CutShort)),
        Some(TransferError::TimedOut) => Err(refuse(worker, connection, &HeaderError::TimedOut)),
        Some(error) => Err(error.closes_because()),
    }
}

/// Counts it and tells the log, and says why the connection ends.
fn refuse(worker: &Worker, connection: &Connection, error: &HeaderError) -> &'static str {
    worker.counters.proxy_headers_refused.add(error.label(), 1);
    tracing::info!(peer = %connection.client(), %error, "connection refused");
    "its PROXY header was refused"
}

/// Hears whom the fields of a request name, where they may be believed: it is served from now on.
///
/// # Errors
/// [`ForwardedError`] where they can't be read: then the proxy is served.
pub(super) fn hear(worker: &Worker, connection: &Connection, head: &[u8]) -> Result<(), ForwardedError> {
    if connection.who.is_proxied() { hear_proxy(worker, connection, head) } else { Ok(()) }
}

/// Apart, so that it takes no room on the stack of every request.
#[cold]
#[inline(never)]
fn hear_proxy(worker: &Worker, connection: &Connection, head: &[u8]) -> Result<(), ForwardedError> {
    let live = worker.live();
    let is_proxy = |peer: Peer| peer.is_trusted(&live.proxies);
    let is_relayed = connection.who.is_relayed(is_proxy);
    let said =
        if is_relayed { forwarded::of_head(head, |address| live.proxies.contain(address)) } else { Ok(None) };
    connection.who.hear(said.as_ref().ok().copied().flatten(), is_proxy);
    said.map(drop)
}
