//! The targets that streams may have: the entries of `targets_allowed`.

use std::net::SocketAddr;

use ipnet::IpNet;

/// One allowed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRule {
    host: HostRule,
    /// The allowed port; None allows every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostRule {
    /// An address or a network; matches the resolved address.
    Network(IpNet),
    /// A name; matches the name that was asked for, whatever it resolves to.
    Name(String),
}

impl TargetRule {
    /// Reads `HOST:PORT`, where HOST is a name, an address or a network (`10.0.0.0/8`; IPv6 in brackets) and
    /// PORT a number from 1 or `*`. A rule that can't be read is an error: a list never fails open.
    pub fn parse(text: &str) -> Result<TargetRule, String> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("{text:?} has no port: write HOST:PORT, or HOST:* for any port"))?;
        Ok(TargetRule { host: parse_host(host, text)?, port: parse_port(port, text)? })
    }

    /// Whether a stream asked for as `host`, a name, to `port` may be allowed, whatever the name resolves to: a
    /// denied one needs no look-up.
    pub fn may_allow(&self, host: &str, port: u16) -> bool {
        let is_host = match &self.host {
            HostRule::Network(_) => true,
            HostRule::Name(name) => name.eq_ignore_ascii_case(host),
        };
        is_host && self.port.is_none_or(|allowed| allowed == port)
    }

    /// Whether a stream asked for as `host` and resolved to `address` may go there.
    pub fn allows(&self, host: &str, address: SocketAddr) -> bool {
        if self.port.is_some_and(|port| port != address.port()) {
            return false;
        }
        match &self.host {
            HostRule::Network(network) => network.contains(&address.ip().to_canonical()),
            HostRule::Name(name) => name.eq_ignore_ascii_case(host),
        }
    }
}

fn parse_port(port: &str, text: &str) -> Result<Option<u16>, String> {
    if port == "*" {
        return Ok(None);
    }
    match port.parse::<u16>() {
        Ok(number) if number > 0 => Ok(Some(number)),
        _ => Err(format!("{text:?}: port {port:?} is neither 1 to 65535 nor *")),
    }
}

fn parse_host(host: &str, text: &str) -> Result<HostRule, String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(network) = bare.parse::<IpNet>() {
        return Ok(HostRule::Network(network));
    }
    if let Ok(address) = bare.parse::<std::net::IpAddr>() {
        return Ok(HostRule::Network(IpNet::from(address)));
    }
    let is_name = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    // A dotted number that is no address is a typing error, not a name.
    let is_number = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_name && !is_number {
        return Ok(HostRule::Name(host.to_owned()));
    }
    Err(format!("{text:?}: {host:?} is no host name, address or network"))
}

#[cfg(test)]
mod tests {
    use super::TargetRule;

    fn allows(rule: &str, host: &str, address: &str) -> bool {
        TargetRule::parse(rule).unwrap().allows(host, address.parse().unwrap())
    }

    #[test]
    fn addresses_networks_and_names() {
        assert!(allows("127.0.0.1:9000", "127.0.0.1", "127.0.0.1:9000"));
        assert!(!allows("127.0.0.1:9000", "127.0.0.1", "127.0.0.1:9001"));
        assert!(allows("10.0.0.0/8:*", "10.1.2.3", "10.1.2.3:1"));
        assert!(!allows("10.0.0.0/8:*", "11.1.2.3", "11.1.2.3:1"));
        assert!(allows("10.0.0.0/8:*", "::ffff:10.0.0.1", "[::ffff:10.0.0.1]:1"));
        assert!(allows("[::1]:80", "::1", "[::1]:80"));
        assert!(allows("[fd00::/8]:80", "fd00::1", "[fd00::1]:80"));
        assert!(allows("files.example:80", "FILES.example", "192.0.2.1:80"));
        assert!(!allows("files.example:80", "192.0.2.1", "192.0.2.1:80"));
    }

    #[test]
    fn what_no_address_could_make_allowed_is_denied_by_name() {
        let may_allow = |rule: &str, host: &str, port| TargetRule::parse(rule).unwrap().may_allow(host, port);
        assert!(may_allow("files.example:80", "FILES.example", 80));
        assert!(may_allow("files.example:*", "files.example", 1));
        assert!(may_allow("10.0.0.0/8:80", "any.example", 80));
        assert!(!may_allow("files.example:80", "files.example", 81));
        assert!(!may_allow("files.example:80", "a.files.example", 80));
        assert!(!may_allow("10.0.0.0/8:80", "any.example", 81));
    }

    #[test]
    fn unreadable_rules_are_errors() {
        for rule in
            ["", "host", "host:", "host:0", "host:65536", ":80", "10.0.0.0/33:80", "999.1.1.1:80", "a b:80"]
        {
            assert!(TargetRule::parse(rule).is_err(), "{rule:?} was accepted");
        }
    }
}
