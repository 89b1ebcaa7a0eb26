//! The other end of a stream: connecting to it, and waiting for it to say that it has everything.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect as start_connect, socket_with, sockopt};

use super::super::connection::Via;
use super::super::context::Worker;
use super::super::engine::Transfer;
use super::super::error::TransferError;
use super::super::registry::Registered;
use super::super::socket::Socket;
use super::super::{pacing, proxy};
use crate::config::ProxyProtocolChoice;
use crate::job::{StreamError, TargetError, TargetProtocol, Unavailable};
use crate::protocol::frame::ACKNOWLEDGEMENT;
use crate::protocol::proxy_header::LOCAL_HEADER;

/// Where a stream goes.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// The listener of the own data plane, where it is one.
    pub(super) own_listener: Option<u16>,
    pub(super) protocol: TargetProtocol,
}

/// A connection to the target that was kept, where there is one that it hasn't closed by now.
pub(super) fn kept(worker: &Worker, target: &Target) -> Option<Registered> {
    if target.protocol == TargetProtocol::Raw {
        return None;
    }
    let is_silent = |connection: &Registered| worker.discard(&connection.socket, u64::MAX) == Ok(None);
    worker.idle_targets.take(target.address, is_silent)
}

/// A connection on which a frame was acknowledged can carry the next.
pub(super) fn keep(worker: &Worker, target: &Target, connection: Registered) {
    if target.protocol == TargetProtocol::Frame && !worker.is_draining() {
        worker.idle_targets.keep(&worker.clock, target.address, connection);
    }
}

/// A new connection to the target.
pub(super) async fn connect(worker: &Rc<Worker>, target: &Target) -> Result<Registered, StreamError> {
    let refused = |errno: Errno| match errno {
        Errno::ADDRNOTAVAIL => StreamError::NoLocalPort { target: target.address },
        errno => StreamError::TargetRefused(errno.into()),
    };
    let family = if target.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let descriptor = socket_with(family, SocketType::STREAM, flags, None).map_err(refused)?;
    // The header goes with the payload by MSG_MORE; nothing else of ours is small.
    sockopt::set_tcp_nodelay(&descriptor, true).map_err(refused)?;
    if target.protocol == TargetProtocol::Raw {
        // Bare bytes have no end but the connection's: whatever closes this socket before they are whole, the end of
        // the process too, resets it (socket(7), SO_LINGER of 0).
        sockopt::set_socket_linger(&descriptor, Some(Duration::ZERO)).map_err(refused)?;
    }
    pacing::avoid(&descriptor, target.address).map_err(|error| no_socket(&error))?;
    match start_connect(&descriptor, &target.address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(refused(errno)),
    }
    let via = Via { is_paced: pacing::is_on(&descriptor), ..Via::default() };
    let socket = Socket::new(descriptor, target.address.into()).map_err(|error| no_socket(&error))?;
    let connection = worker.registry.add(socket, via);
    let connection = await_connected(worker, connection).await?;
    introduce(worker, target, &connection)?;
    Ok(connection)
}

/// Makes the error of a socket that can't be used.
fn no_socket(error: &io::Error) -> StreamError {
    StreamError::TargetRefused(Errno::from_io_error(error).unwrap_or(Errno::IO).into())
}

/// Tells the own data plane, where it takes nobody without a PROXY header, that nobody else is meant.
fn introduce(worker: &Worker, target: &Target, connection: &Registered) -> Result<(), StreamError> {
    let protocol = target.own_listener.map(|listener| proxy::protocol(worker, listener));
    if protocol != Some(ProxyProtocolChoice::Required) {
        return Ok(());
    }
    // Into a socket in which nothing is yet: it has room. Where it fails the target is gone.
    match connection.socket.try_send(&LOCAL_HEADER, true) {
        Ok(Some(_)) => Ok(()),
        Ok(None) | Err(_) => Err(StreamError::TargetRefused(TargetError::Closed)),
    }
}

async fn await_connected(worker: &Worker, connection: Registered) -> Result<Registered, StreamError> {
    let timeout_ms = worker.live().settings.connect_timeout_ms;
    match connection.writable(worker.clock.deadline(timeout_ms)).await {
        Err(TransferError::TimedOut) => return Err(StreamError::TargetSilent(timeout_ms)),
        Err(TransferError::Drained) => return Err(StreamError::Unavailable(Unavailable::Draining)),
        // A failed connect is ready too; the socket knows why.
        Ok(()) | Err(_) => {}
    }
    match connection.socket.connect_error() {
        Ok(()) => Ok(connection),
        Err(errno) => Err(StreamError::TargetRefused(errno.into())),
    }
}

/// Waits until the target has acknowledged the frame, or closed after our FIN.
pub(super) async fn await_end(
    transfer: &mut Transfer<'_>,
    protocol: TargetProtocol,
) -> Result<(), TransferError> {
    match protocol {
        TargetProtocol::Frame => await_acknowledgement(transfer).await,
        TargetProtocol::Raw => {
            transfer.connection().socket.finish();
            await_close(transfer).await
        }
    }
}

async fn await_acknowledgement(transfer: &mut Transfer<'_>) -> Result<(), TransferError> {
    let mut answer = [0; ACKNOWLEDGEMENT.len()];
    let mut filled = 0;
    while filled < answer.len() {
        transfer.wait_readable().await?;
        match transfer.connection().socket.try_receive(&mut answer[filled..]) {
            Ok(Some(0)) | Err(_) if filled == 0 => return Err(TransferError::PeerGone),
            Ok(Some(0)) | Err(_) => return Err(TransferError::NotAcknowledged),
            Ok(received) => filled += received.unwrap_or(0),
        }
    }
    // Anything else means that the frame was not taken.
    if answer == ACKNOWLEDGEMENT { Ok(()) } else { Err(TransferError::NotAcknowledged) }
}

/// Drops what the target still sends until it closes. A reset instead of a close says that bytes were lost.
async fn await_close(transfer: &mut Transfer<'_>) -> Result<(), TransferError> {
    loop {
        transfer.wait_readable().await?;
        if transfer.worker().discard(&transfer.connection().socket, u64::MAX)? == Some(0) {
            return Ok(());
        }
    }
}
