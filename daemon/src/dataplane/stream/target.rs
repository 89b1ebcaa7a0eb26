//! The other end of a stream: connecting to it, and waiting for it to say that it has everything.

use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect as start_connect, socket_with, sockopt};

use super::super::engine::Transfer;
use super::super::error::TransferError;
use super::super::pacing;
use super::super::registry::Registered;
use super::super::socket::Socket;
use super::super::worker::Worker;
use super::{Stream, discard_now};
use crate::job::{StreamError, TargetProtocol};
use crate::protocol::frame::ACKNOWLEDGEMENT;

/// An idle connection to the target, or a new one.
pub(super) async fn connect(worker: &Rc<Worker>, stream: &Stream) -> Result<Registered, StreamError> {
    if stream.protocol == TargetProtocol::Frame
        && let Some(connection) = worker.idle_targets.take(worker, stream.target)
    {
        return Ok(connection);
    }
    let refused = |errno: Errno| StreamError::TargetRefused(errno.to_string());
    let family = if stream.target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let descriptor = socket_with(family, SocketType::STREAM, flags, None).map_err(refused)?;
    // The header goes with the payload by MSG_MORE; nothing else of ours is small.
    sockopt::set_tcp_nodelay(&descriptor, true).map_err(refused)?;
    pacing::avoid(&descriptor, stream.target)
        .map_err(|error| StreamError::TargetRefused(error.to_string()))?;
    match start_connect(&descriptor, &stream.target) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(refused(errno)),
    }
    let socket = Socket::new(descriptor, stream.target)
        .map_err(|error| StreamError::TargetRefused(error.to_string()))?;
    let connection = worker.registry.add(socket);
    await_connected(worker, connection).await
}

async fn await_connected(worker: &Worker, connection: Registered) -> Result<Registered, StreamError> {
    let timeout_ms = worker.live().settings.connect_timeout_ms;
    match connection.writable(worker.clock.deadline(timeout_ms)).await {
        Err(TransferError::TimedOut) => return Err(StreamError::TargetSilent(timeout_ms)),
        Err(TransferError::Drained) => return Err(StreamError::Unavailable("the daemon drains")),
        // A failed connect is ready too; the socket knows why.
        Ok(()) | Err(_) => {}
    }
    match connection.socket.connect_error() {
        Ok(()) => Ok(connection),
        Err(errno) => Err(StreamError::TargetRefused(errno.to_string())),
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
            transfer.connection.socket.finish();
            await_close(transfer).await
        }
    }
}

async fn await_acknowledgement(transfer: &mut Transfer<'_>) -> Result<(), TransferError> {
    let mut answer = [0; ACKNOWLEDGEMENT.len()];
    let mut filled = 0;
    while filled < answer.len() {
        transfer.wait_readable().await?;
        match transfer.connection.socket.try_receive(&mut answer[filled..])? {
            Some(0) => return Err(TransferError::PeerGone),
            received => filled += received.unwrap_or(0),
        }
    }
    // Anything else means that the frame was not taken.
    if answer == ACKNOWLEDGEMENT { Ok(()) } else { Err(TransferError::PeerGone) }
}

/// Drops what the target still sends until it closes. A reset instead of a close says that bytes were lost.
async fn await_close(transfer: &mut Transfer<'_>) -> Result<(), TransferError> {
    loop {
        transfer.wait_readable().await?;
        if discard_now(transfer.worker, transfer.connection)? == Some(0) {
            return Ok(());
        }
    }
}
