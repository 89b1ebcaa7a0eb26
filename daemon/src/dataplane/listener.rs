//! One listener a worker on one port (SO_REUSEPORT): the kernel spreads connections, and no lock is shared. A listener
//! that was given is shared by all workers instead: one that a service manager passed, or a Unix socket, of which there
//! is but one at a path.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::pacing;

/// Connections that may wait to be accepted; the kernel lowers it to net.core.somaxconn (4096 since 5.4).
const BACKLOG: i32 = 4096;

/// Time for which the port of a daemon that was killed may still be taken: its ring keeps the listener until a worker
/// of the kernel takes the ring down, after the process is gone (io_uring, seen on Linux 6.18). Whoever waits for an
/// error waits no longer than this.
const PREDECESSOR_TIME_MAX: Duration = Duration::from_millis(500);

/// Time between two looks at a port that is taken.
const PREDECESSOR_POLL: Duration = Duration::from_millis(10);

/// How a port is listened on.
#[derive(Clone, Copy)]
pub(super) struct Options<'a> {
    pub(super) ipv6_only: bool,
    pub(super) congestion_control: Option<&'a str>,
}

/// A listener as one worker has it.
pub(super) struct WorkerListener {
    /// Its place among all listeners of the settings.
    pub(super) place: u16,
    /// Which may be of a Unix socket: it is waited for and closed by the name of TCP, since monoio waits for any
    /// descriptor that poll(2) knows, whatever it is called.
    pub(super) socket: TcpListener,
    /// Whether it is of a Unix socket.
    pub(super) is_local: bool,
    /// Whether the other workers have it too.
    pub(super) is_shared: bool,
    /// Whether somebody else keeps it, so that it outlives the daemon.
    pub(super) is_kept: bool,
}

/// Binds `count` listeners to `address`; with port 0 all get the same free port.
pub(super) fn bind(address: SocketAddr, count: usize, options: Options<'_>) -> io::Result<Vec<TcpListener>> {
    bind_within(address, count, options, PREDECESSOR_TIME_MAX)
}

/// Waits for no longer than `patience` for a port that is taken.
fn bind_within(
    address: SocketAddr,
    count: usize,
    options: Options<'_>,
    patience: Duration,
) -> io::Result<Vec<TcpListener>> {
    let first = bind_alone(address, options, patience)?;
    let address = first.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    let mut listeners: Vec<TcpListener> = Vec::with_capacity(count);
    if count > 1 {
        first.set_reuse_port(true)?;
    }
    listeners.push(first.into());
    for _ in 1..count {
        let socket = make_socket(address, options)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        listeners.push(socket.into());
    }
    Ok(listeners)
}

/// A listener whose port nobody else listens on, until it is told to share it.
///
/// SO_REUSEPORT lets a second daemon of the same user bind the same port and silently take half of its connections. So
/// the first listener goes without: bind(2) refuses it while anybody listens, and of several that were bound before
/// any of them listened, listen(2) takes one alone (inet_csk_listen_start looks at the port again). The flag may be set
/// later (seen on 6.18): the others' bind(2) looks at it then, and listen(2) makes one group of them all.
fn bind_alone(address: SocketAddr, options: Options<'_>, patience: Duration) -> io::Result<Socket> {
    let deadline = Instant::now() + patience;
    loop {
        let socket = make_socket(address, options)?;
        match socket.bind(&address.into()).and_then(|()| socket.listen(BACKLOG)) {
            Ok(()) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::park_timeout(PREDECESSOR_POLL);
            }
            Err(error) => return Err(error),
        }
    }
}

fn make_socket(address: SocketAddr, options: Options<'_>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections in TIME_WAIT don't count; a listener does all the same.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // Said in any case, so that one address has one meaning whatever net.ipv6.bindv6only says.
        socket.set_only_v6(options.ipv6_only)?;
    }
    set_inherited_options(&socket, address, options.congestion_control)?;
    Ok(socket)
}

/// The given `listener` once for each of `count` workers: they wait for it side by side, and whoever is first takes a
/// connection. Options of the socket stay as they were set last even when this daemon is gone. A Unix socket has none.
pub(super) fn share(
    listener: OwnedFd,
    count: usize,
    congestion_control: Option<&str>,
) -> io::Result<Vec<TcpListener>> {
    let socket = Socket::from(listener);
    // All copies share this flag, and the service manager only polls.
    socket.set_nonblocking(true)?;
    if let Some(address) = socket.local_addr()?.as_socket() {
        set_inherited_options(&socket, address, congestion_control)?;
    }
    // Again, which only changes the length of the queue (listen(2) on a listening socket).
    socket.listen(BACKLOG)?;
    let mut listeners: Vec<TcpListener> = Vec::with_capacity(count);
    for _ in 1..count {
        listeners.push(socket.try_clone()?.into());
    }
    listeners.push(socket.into());
    Ok(listeners)
}

/// Options of a listener that the sockets accepted from it have as well.
fn set_inherited_options(
    socket: &Socket,
    address: SocketAddr,
    congestion_control: Option<&str>,
) -> io::Result<()> {
    // Every write of ours is whole (MSG_MORE and TCP_CORK say when it isn't), so waiting for acknowledgements before a
    // small segment would only delay.
    socket.set_tcp_nodelay(true)?;
    match congestion_control {
        Some(name) => socket.set_tcp_congestion(name.as_bytes())?,
        None => pacing::avoid(socket, address)?,
    }
    if pacing::is_on(socket) {
        pacing::hold_little(socket)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::sync::Barrier;

    use rustix::fs::{OFlags, fcntl_getfl};
    use rustix::io::{FdFlags, fcntl_getfd};
    use socket2::SockRef;

    use std::time::Duration;

    use super::{Options, bind, bind_within, share};

    const PLAIN: Options<'_> = Options { ipv6_only: false, congestion_control: None };

    #[test]
    fn a_passed_listener_is_shared_with_all_its_options() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!SockRef::from(&listener).tcp_nodelay().unwrap());
        let listeners = share(listener.into(), 3, Some("reno")).unwrap();
        assert_eq!(listeners.len(), 3);
        for listener in &listeners {
            assert_eq!(listener.local_addr().unwrap(), address);
            assert!(fcntl_getfl(listener.as_fd()).unwrap().contains(OFlags::NONBLOCK));
            assert!(fcntl_getfd(listener.as_fd()).unwrap().contains(FdFlags::CLOEXEC));
            let socket = SockRef::from(listener);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"));
        }
    }

    #[test]
    fn all_listeners_share_the_free_port() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3, PLAIN).unwrap();
        let ports: Vec<u16> = listeners.iter().map(|found| found.local_addr().unwrap().port()).collect();
        assert_eq!(ports, [ports[0]; 3]);
        assert_ne!(ports[0], 0);
    }

    #[test]
    fn of_those_that_bind_together_one_gets_the_port() {
        const ROUNDS: usize = 200;
        for _ in 0..ROUNDS {
            // Free a moment ago.
            let address = bind("127.0.0.1:0".parse().unwrap(), 1, PLAIN).unwrap()[0].local_addr().unwrap();
            let barrier = Barrier::new(3);
            let bound: Vec<_> = std::thread::scope(|scope| {
                let start = || {
                    scope.spawn(|| {
                        barrier.wait();
                        bind_within(address, 2, PLAIN, Duration::ZERO)
                    })
                };
                let threads = [start(), start(), start()];
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(bound.iter().filter(|result| result.is_ok()).count() <= 1, "{bound:?}");
            let errors = bound.iter().filter_map(|result| result.as_ref().err());
            assert!(
                errors.into_iter().all(|error| error.kind() == std::io::ErrorKind::AddrInUse),
                "{bound:?}"
            );
        }
    }

    #[test]
    fn connections_are_spread_over_all_listeners() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3, PLAIN).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let clients: Vec<_> = (0..200).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let accepted = listeners.iter().map(|listener| {
            let mut count = 0;
            while listener.accept().is_ok() {
                count += 1;
            }
            count
        });
        let accepted: Vec<usize> = accepted.collect();
        assert_eq!(accepted.iter().sum::<usize>(), clients.len());
        // By chance alone one of three stays empty once in 10^35.
        assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
    }

    #[test]
    fn v6_takes_v4_too_unless_it_is_told_not_to() {
        for (ipv6_only, expected) in [(false, true), (true, false)] {
            let listeners = bind("[::]:0".parse().unwrap(), 2, Options { ipv6_only, ..PLAIN }).unwrap();
            let port = listeners[0].local_addr().unwrap().port();
            assert!(std::net::TcpStream::connect(("::1", port)).is_ok());
            assert_eq!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), expected, "{ipv6_only}");
        }
    }

    #[test]
    fn a_unix_socket_is_shared_as_a_passed_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listeners =
            share(std::os::unix::net::UnixListener::bind(&path).unwrap().into(), 2, Some("reno")).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let accepted =
            listeners.iter().filter(|listener| listener.accept().is_ok() || is_unix(listener)).count();
        assert_eq!(accepted, 2, "each is the one socket");
    }

    fn is_unix(listener: &TcpListener) -> bool {
        SockRef::from(listener).local_addr().unwrap().is_unix()
    }

    #[test]
    fn a_port_that_is_taken_is_refused() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 1, PLAIN).unwrap();
        let error = bind(first[0].local_addr().unwrap(), 1, PLAIN).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
}
