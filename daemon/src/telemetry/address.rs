//! The spelling of addresses in logs.

use std::net::SocketAddr;

/// Returns a peer's address as logs show it: an IPv4 address that a socket of IPv6 accepted (RFC 4291 2.5.5.2) as
/// IPv4, so that a peer has one name.
pub fn shown_address(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
