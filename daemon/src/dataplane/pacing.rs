//! TCP's pacing, which BBR brings along: packets leave one by one, each by a timer of its socket, where no fq queueing
//! discipline does it for all. Which way packets leave isn't known before they do, so fq isn't asked for.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::SockRef;

/// The congestion control that every kernel has and every user may choose. It sends what the window allows.
const UNPACED: &[u8] = b"reno";

/// Unsent bytes above which a paced socket takes no more (TCP_NOTSENT_LOWAT): the kernel sends from timer interrupts
/// what it holds, however long that takes, while others wait for the core.
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Whether TCP paces what this socket, or what this listener accepts, will send.
pub(super) fn is_on(socket: &impl AsFd) -> bool {
    SockRef::from(socket).tcp_congestion().is_ok_and(|name| name.starts_with(b"bbr"))
}

/// Turns pacing off for a socket whose peers are on this host, for its whole life: once a connection has been paced,
/// it is for good (sk_pacing_status, seen on 6.18). Within a host there is no link to share, and one connection that
/// isn't paced moves 1 GiB at six times the speed.
pub(super) fn avoid(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    if address.ip().to_canonical().is_loopback() && is_on(socket) {
        SockRef::from(socket).set_tcp_congestion(UNPACED)?;
    }
    Ok(())
}

/// Lets a paced socket hold little.
pub(super) fn hold_little(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::{avoid, is_on};

    #[test]
    fn connections_within_the_host_are_not_paced() {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let local = socket();
        avoid(&local, "127.0.0.2:80".parse().unwrap()).unwrap();
        assert!(!is_on(&local));
        // The host's choice stands for all others.
        let other = socket();
        avoid(&other, "192.0.2.1:80".parse().unwrap()).unwrap();
        assert_eq!(is_on(&other), is_on(&socket()));
    }
}
