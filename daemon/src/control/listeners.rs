//! All listeners of the control plane, as one that connections are taken from.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::net::{AddressFamily, sockopt};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::stream::Stream;
use crate::limits::{LocalPeer, Peer};
use crate::telemetry::shown_address;

/// One listener.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// All listeners.
pub(super) struct Listeners {
    all: Vec<Listener>,
    /// The one that is asked first, so that a busy one doesn't keep the others waiting.
    first: usize,
}

impl Listeners {
    /// Takes over bound sockets, within the event loop that will wait for them.
    pub(super) fn new(sockets: Vec<OwnedFd>) -> io::Result<Listeners> {
        let all: io::Result<Vec<Listener>> = sockets.into_iter().map(Listener::new).collect();
        Ok(Listeners { all: all?, first: 0 })
    }

    /// Returns the next connection and who connected. May be dropped at any await without losing a connection.
    pub(super) async fn accept(&mut self) -> io::Result<(Stream, Peer)> {
        let (all, first) = (&self.all, &mut self.first);
        poll_fn(|context| {
            for turn in 0..all.len() {
                let place = (*first + turn) % all.len();
                if let Poll::Ready(result) = all[place].poll_accept(context) {
                    *first = place + 1;
                    return Poll::Ready(result);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Makes a spare descriptor, which may be of any file.
    pub(super) fn spare(&self) -> Option<OwnedFd> {
        let any = self.all.first()?;
        match any {
            Listener::Tcp(listener) => rustix::io::fcntl_dupfd_cloexec(listener.as_fd(), 0).ok(),
            Listener::Unix(listener) => rustix::io::fcntl_dupfd_cloexec(listener.as_fd(), 0).ok(),
        }
    }
}

impl Listener {
    fn new(socket: OwnedFd) -> io::Result<Listener> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        if sockopt::socket_domain(&socket)? == AddressFamily::UNIX {
            return UnixListener::from_std(socket.into()).map(Listener::Unix);
        }
        TcpListener::from_std(socket.into()).map(Listener::Tcp)
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Stream, Peer)>> {
        match self {
            Listener::Tcp(listener) => listener
                .poll_accept(context)
                .map_ok(|(stream, address)| (Stream::Tcp(stream), shown_address(address).into())),
            Listener::Unix(listener) => listener.poll_accept(context).map_ok(|(stream, _)| {
                let peer = Peer::Local(local_peer(&stream));
                (Stream::Unix(stream), peer)
            }),
        }
    }
}

/// The process on the other end, as far as the kernel knows it.
fn local_peer(stream: &UnixStream) -> LocalPeer {
    let Ok(credentials) = stream.peer_cred() else { return LocalPeer::default() };
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
    LocalPeer { uid: credentials.uid(), pid }
}
