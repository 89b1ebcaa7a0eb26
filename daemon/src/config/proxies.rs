//! The proxies that are trusted to name their clients: the entries of `trusted_proxies`.

use std::net::IpAddr;

use ipnet::IpNet;

/// The bits of an IPv6 address before the IPv4 address that it may hold (RFC 4291 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// The networks of the proxies that are trusted to name their clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Box<[IpNet]>);

impl TrustedProxies {
    /// Trusts the proxies at these networks.
    pub(super) fn new(networks: Vec<IpNet>) -> TrustedProxies {
        TrustedProxies(networks.into())
    }

    /// Whether `address` is a proxy's.
    pub fn contain(&self, address: IpAddr) -> bool {
        // The empty list is tested first, which saves the conversion.
        !self.0.is_empty() && self.0.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Whether no proxy is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads an entry, ADDRESS or NETWORK/BITS, IPv6 with brackets or without. An entry that can't be read is an
/// error: a list never fails open.
pub(super) fn parse(text: &str) -> Result<IpNet, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let network = bare.parse::<IpNet>().or_else(|_| bare.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| format!("{text:?} is no address and no NETWORK/BITS"))?;
    Ok(canonical(network.trunc()))
}

/// Turns a network of mapped addresses into one of IPv4, as which addresses are compared, whatever the listener
/// speaks.
fn canonical(network: IpNet) -> IpNet {
    let mapped = |v6: ipnet::Ipv6Net| {
        let bits = v6.prefix_len().checked_sub(MAPPED_BITS)?;
        ipnet::Ipv4Net::new(v6.addr().to_ipv4_mapped()?, bits).ok()
    };
    match network {
        IpNet::V4(_) => network,
        IpNet::V6(v6) => mapped(v6).map_or(network, IpNet::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::{TrustedProxies, parse};

    fn proxies(entries: &[&str]) -> TrustedProxies {
        TrustedProxies::new(entries.iter().map(|entry| parse(entry).unwrap()).collect())
    }

    #[test]
    fn addresses_and_networks_are_compared_in_one_spelling() {
        for (entry, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::ffff:192.0.2.8"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("[::1]", "::1", "127.0.0.1"),
            ("0.0.0.0/0", "192.0.2.7", "::1"),
        ] {
            let proxies = proxies(&[entry]);
            assert!(proxies.contain(inside.parse().unwrap()), "{inside} in {entry}");
            assert!(!proxies.contain(outside.parse().unwrap()), "{outside} in {entry}");
            assert!(!proxies.is_empty());
        }
        let none = proxies(&[]);
        assert!(none.is_empty() && !none.contain("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn entries_that_cannot_be_read_are_errors() {
        for text in
            ["", "*", "localhost", "10.0.0.0/33", "10.0.0/8", "192.0.2.7:80", "[::1]:80", "10.0.0.0/8 "]
        {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
