//! The proxies that are trusted to name their clients: the entries of `trusted_proxies`.

use std::net::IpAddr;

use ipnet::IpNet;

/// The bits of an IPv6 address before the IPv4 address that it may hold (RFC 4291 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// The entry for whoever connects by a Unix socket, as NGINX spells it (`set_real_ip_from`).
const UNIX: &str = "unix:";

/// The proxies that are trusted to name their clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Box<[IpNet]>,
    /// Whether whoever connects by a Unix socket is one.
    is_unix: bool,
}

/// One entry of `trusted_proxies`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyRule {
    /// The proxies of a network.
    Network(IpNet),
    /// Those that connect by a Unix socket.
    Unix,
}

impl TrustedProxies {
    /// Trusts these proxies.
    pub(super) fn new(rules: &[ProxyRule]) -> TrustedProxies {
        let network =
            |rule: &ProxyRule| if let ProxyRule::Network(network) = rule { Some(*network) } else { None };
        TrustedProxies {
            networks: rules.iter().filter_map(network).collect(),
            is_unix: rules.contains(&ProxyRule::Unix),
        }
    }

    /// Whether whoever connects by a Unix socket is a proxy.
    pub fn contain_unix(&self) -> bool {
        self.is_unix
    }

    /// Whether `address` is a proxy's.
    pub fn contain(&self, address: IpAddr) -> bool {
        // The empty list is tested first, which saves the conversion.
        !self.networks.is_empty()
            && self.networks.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Whether no proxy is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.is_unix
    }
}

impl ProxyRule {
    /// Reads an entry: `unix:`, ADDRESS or NETWORK/BITS, IPv6 with brackets or without. An entry that can't be read is
    /// an error: a list never fails open.
    pub(super) fn parse(text: &str) -> Result<ProxyRule, String> {
        if text == UNIX { Ok(ProxyRule::Unix) } else { network(text).map(ProxyRule::Network) }
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let network = bare.parse::<IpNet>().or_else(|_| bare.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| format!("{text:?} is no address, no NETWORK/BITS and not unix:"))?;
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
    use super::{ProxyRule, TrustedProxies};

    fn proxies(entries: &[&str]) -> TrustedProxies {
        let rules: Vec<ProxyRule> = entries.iter().map(|entry| ProxyRule::parse(entry).unwrap()).collect();
        TrustedProxies::new(&rules)
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
        let unix = proxies(&["unix:"]);
        assert!(unix.contain_unix() && !unix.is_empty() && !unix.contain("127.0.0.1".parse().unwrap()));
        assert!(!proxies(&["127.0.0.0/8"]).contain_unix(), "a socket is no address");
        let none = proxies(&[]);
        assert!(!none.contain_unix());
        assert!(none.is_empty() && !none.contain("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn entries_that_cannot_be_read_are_errors() {
        for text in
            ["", "*", "localhost", "10.0.0.0/33", "10.0.0/8", "192.0.2.7:80", "[::1]:80", "10.0.0.0/8 "]
        {
            assert!(ProxyRule::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
