//! Addresses as logs show them.

use std::net::SocketAddr;

/// A peer's address as logs show it: that of IPv4 which a socket of IPv6 accepted (RFC 4291 2.5.5.2) as IPv4, so that a
/// peer has one name.
pub fn shown_address(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
