//! The groups of addresses that a limit for each address counts as one.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv6Addr};

/// The bits of an IPv6 address that name a network; its owner chooses the rest (RFC 7421 1).
const NETWORK_BITS_V6: u32 = 64;

/// An IPv4 address, or the /64 network of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressGroup(IpAddr);

impl AddressGroup {
    /// Returns the group of a client. A mapped address (RFC 4291 2.5.5.2) counts as its IPv4 address. None for
    /// loopback: behind it is everybody on this host, not one client.
    pub fn of(address: IpAddr) -> Option<AddressGroup> {
        match address.to_canonical() {
            address if address.is_loopback() => None,
            IpAddr::V4(address) => Some(AddressGroup(IpAddr::V4(address))),
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << (u128::BITS - NETWORK_BITS_V6));
                Some(AddressGroup(IpAddr::V6(Ipv6Addr::from_bits(network))))
            }
        }
    }
}

impl Display for AddressGroup {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(formatter, "{address}"),
            IpAddr::V6(network) => write!(formatter, "{network}/{NETWORK_BITS_V6}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AddressGroup;

    fn group(address: &str) -> Option<String> {
        AddressGroup::of(address.parse().unwrap()).map(|group| group.to_string())
    }

    #[test]
    fn v6_counts_by_network_and_mapped_as_what_it_is() {
        for (address, shown) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::/64")),
            ("127.0.0.9", None),
            ("::1", None),
            ("::ffff:127.0.0.1", None),
        ] {
            assert_eq!(group(address).as_deref(), shown, "{address}");
        }
    }
}
