//! Binds all listeners, before the rights that this takes are given up: those of TCP, Unix sockets, and none where a
//! service manager passed the socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::error::DaemonError;
use super::unix_socket::{self, SocketFile};
use crate::config::{ListenAddress, Listener, Live, PlaneChoice};
use crate::dataplane::{Bound, DataPlane, GivenSocket};
use crate::systemd::PassedSockets;

/// The most connections that may wait for the data plane to accept them by a Unix socket. The kernel lowers it to
/// net.core.somaxconn (4096 since 5.4), and a client that finds the queue full gets EAGAIN or waits (unix(7)).
const DATA_BACKLOG: i32 = 4096;

/// The most connections that may wait for the control plane to accept them.
const CONTROL_BACKLOG: i32 = 1024;

/// All addresses that are listened on.
pub(super) struct Listening(Vec<One>);

/// One of them.
struct One {
    plane: PlaneChoice,
    /// The address, with the port that was free.
    address: ListenAddress,
    text: String,
    is_passed: bool,
    /// The socket's file, which is removed in the end where the daemon made it.
    file: Option<SocketFile>,
}

/// Binds all listeners of the settings: those of the data plane, and the sockets of the control plane.
pub(super) fn bind(
    live: &Live,
    mut passed: PassedSockets,
) -> Result<(Listening, Bound, Vec<OwnedFd>), DaemonError> {
    let (mut all, mut given, mut sockets) = (Vec::new(), Vec::new(), Vec::new());
    for (place, listener) in live.listeners.iter() {
        let socket = passed.take(&listener.address);
        let is_passed = socket.is_some();
        let (socket, file) = match socket {
            Some(socket) => (Some(socket), None),
            None => bind_unix(listener)?.map_or((None, None), |(socket, file)| (Some(socket), Some(file))),
        };
        let mut address = listener.address.clone();
        match (listener.plane, socket) {
            (PlaneChoice::Data, Some(socket)) => {
                given.push(GivenSocket { place, socket, is_kept: is_passed })
            }
            (PlaneChoice::Data, None) => {}
            (PlaneChoice::Control, socket) => {
                let socket = control_socket(listener, socket)?;
                address = bound_address(&socket).unwrap_or(address);
                sockets.push(socket.into());
            }
        }
        all.push(One { plane: listener.plane, address, text: listener.describe(), is_passed, file });
    }
    let bound = DataPlane::bind(live, given)?;
    for (place, address) in bound.addresses() {
        if let Some(one) = all.get_mut(usize::from(*place)) {
            one.address = (*address).into();
        }
    }
    Ok((Listening(all), bound, sockets))
}

/// Binds a Unix socket; None where the listener is of TCP.
fn bind_unix(listener: &Listener) -> Result<Option<(OwnedFd, SocketFile)>, DaemonError> {
    let Some(path) = listener.address.path() else { return Ok(None) };
    let backlog = match listener.plane {
        PlaneChoice::Data => DATA_BACKLOG,
        PlaneChoice::Control => CONTROL_BACKLOG,
    };
    let failed =
        |reason| DaemonError::UnixSocket { key: listener.key, address: listener.address.clone(), reason };
    unix_socket::bind(path, listener.mode, listener.group, backlog).map(Some).map_err(failed)
}

/// Makes the socket of a listener of the control plane, unless it is there already.
fn control_socket(listener: &Listener, socket: Option<OwnedFd>) -> Result<Socket, DaemonError> {
    let failed =
        |reason| DaemonError::ControlListen { key: listener.key, address: listener.address.clone(), reason };
    let made = match (socket, listener.address.inet()) {
        (Some(socket), _) => {
            let socket = Socket::from(socket);
            // A second listen(2) only changes the length of the queue.
            socket.listen(CONTROL_BACKLOG).map(|()| socket)
        }
        (None, Some(address)) => bind_control(address, listener.ipv6_only),
        (None, None) => Err(io::ErrorKind::InvalidInput.into()),
    };
    made.map_err(failed)
}

fn bind_control(address: SocketAddr, ipv6_only: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(ipv6_only)?;
    }
    socket.bind(&address.into())?;
    socket.listen(CONTROL_BACKLOG)?;
    Ok(socket)
}

/// Returns the address and port of a socket of TCP.
fn bound_address(socket: &Socket) -> Option<ListenAddress> {
    socket.local_addr().ok()?.as_socket().map(ListenAddress::Inet)
}

impl Listening {
    /// Returns the addresses of a plane.
    pub(super) fn addresses(&self, plane: PlaneChoice) -> impl Iterator<Item = &ListenAddress> {
        self.0.iter().filter(move |one| one.plane == plane).map(|one| &one.address)
    }

    /// Logs each, where there are more than one for each plane.
    pub(super) fn log(&self) {
        for One { plane, address, text, is_passed, .. } in &self.0 {
            let what = text.split_once("  ").map_or("", |(_, what)| what);
            tracing::info!(plane = plane.name(), %address, what, inherited = is_passed, "listener");
        }
    }

    /// Removes the files of a plane's sockets.
    pub(super) fn remove_sockets(&mut self, plane: PlaneChoice) {
        self.0.iter_mut().filter(|one| one.plane == plane).for_each(|one| drop(one.file.take()));
    }
}
