//! The host names that the data plane answers to: the entries of `hosts_allowed`, and its own names.
//!
//! A web page whose name was pointed at this address (DNS rebinding) could read everything that is answered to any
//! name, as far as the browser reaches: on a loopback address that is content which nobody else on the network can
//! read.

use std::net::{IpAddr, SocketAddr};

/// The longest name, in bytes (RFC 1035 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// One entry of `hosts_allowed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// Any host, `*`.
    Any,
    /// An address; IPv4 in IPv6 (`::ffff:192.0.2.1`) is IPv4.
    Address(IpAddr),
    /// A name in lower case, without the dot that may end it.
    Name(Box<str>),
}

impl HostRule {
    /// Reads a name, an address (IPv6 with brackets or without), or `*`. An entry that can't be read is an error: a
    /// list never fails open.
    pub fn parse(text: &str) -> Result<HostRule, String> {
        if text == "*" {
            return Ok(HostRule::Any);
        }
        if let Some(address) = address(text.as_bytes()) {
            return Ok(HostRule::Address(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        // A dotted number that is no address is a typing error, not a name.
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if name.len() > NAME_BYTES_MAX || is_number || !name.bytes().all(is_name_byte) {
            return Err(format!("{text:?} is no host name or address, without a port, and not *"));
        }
        Ok(HostRule::Name(name.to_ascii_lowercase().into()))
    }

    /// Whether the rule names only what a loopback address answers to anyway, so that it opens nothing to other
    /// hosts.
    pub fn is_of_this_host(&self) -> bool {
        match self {
            HostRule::Any => false,
            HostRule::Address(address) => address.is_loopback(),
            HostRule::Name(name) => is_localhost(name.as_bytes()),
        }
    }
}

/// The hosts that requests of the data plane may be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    bound: IpAddr,
    /// The bound address as most clients write it, so that such hosts need no parser.
    bound_text: Box<str>,
    rules: Box<[HostRule]>,
    is_open: bool,
}

impl Hosts {
    /// Makes the hosts of a listener at `bound`: without rules its own names on a loopback address, and all
    /// elsewhere.
    pub fn new(bound: SocketAddr, rules: Vec<HostRule>) -> Hosts {
        let bound = bound.ip().to_canonical();
        let is_open = if rules.is_empty() { !bound.is_loopback() } else { rules.contains(&HostRule::Any) };
        let bound_text = bound.to_string().into();
        Hosts { bound, bound_text, rules: rules.into(), is_open }
    }

    /// Whether every host is admitted.
    pub fn are_all(&self) -> bool {
        self.is_open
    }

    /// Whether a request for `host` is answered: a name, or an address, IPv6 in its brackets, without the port. Its own
    /// names always are: nobody can publish an address in the DNS, and `localhost` ends at the browser's own host
    /// (RFC 6761 6.3).
    pub fn admit(&self, host: &[u8]) -> bool {
        let name = host.strip_suffix(b".").unwrap_or(host);
        if self.is_open || host == self.bound_text.as_bytes() || is_localhost(name) {
            return true;
        }
        if let Some(address) = address(host) {
            let is_own = address.is_loopback() || address == self.bound;
            return is_own || self.rules.contains(&HostRule::Address(address));
        }
        let is_named = |rule: &HostRule| match rule {
            HostRule::Name(allowed) => allowed.as_bytes().eq_ignore_ascii_case(name),
            HostRule::Any | HostRule::Address(_) => false,
        };
        self.rules.iter().any(is_named)
    }
}

/// Whether `host` is an address, IPv6 in its brackets.
pub fn names_address(host: &[u8]) -> bool {
    address(host).is_some()
}

/// Whether `host` is `localhost`, a name below it (RFC 6761 6.3: loopback addresses everywhere), or a loopback address.
pub fn names_this_host(host: &[u8]) -> bool {
    address(host).map_or_else(
        || is_localhost(host.strip_suffix(b".").unwrap_or(host)),
        |address| address.is_loopback(),
    )
}

/// Returns the address that `host` is, in one spelling.
fn address(host: &[u8]) -> Option<IpAddr> {
    let inner = host.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).unwrap_or(host);
    let address: IpAddr = std::str::from_utf8(inner).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

/// Whether the name is `localhost` or below it, without the dot that may end it.
fn is_localhost(name: &[u8]) -> bool {
    const LOCALHOST: &[u8] = b"localhost";
    let Some(start) = name.len().checked_sub(LOCALHOST.len()) else { return false };
    let (before, end) = name.split_at(start);
    end.eq_ignore_ascii_case(LOCALHOST) && (before.is_empty() || before.ends_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::{HostRule, Hosts};

    fn hosts(bound: &str, rules: &[&str]) -> Hosts {
        let rules = rules.iter().map(|rule| HostRule::parse(rule).unwrap()).collect();
        Hosts::new(bound.parse().unwrap(), rules)
    }

    #[track_caller]
    fn assert_admits(hosts: &Hosts, admitted: &[&str], refused: &[&str]) {
        for host in admitted {
            assert!(hosts.admit(host.as_bytes()), "{host:?} was refused by {hosts:?}");
        }
        for host in refused {
            assert!(!hosts.admit(host.as_bytes()), "{host:?} was admitted by {hosts:?}");
        }
    }

    const OWN: [&str; 9] = [
        "localhost",
        "LocalHost.",
        "files.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::FFFF:7f00:1]",
    ];
    const FOREIGN: [&str; 9] = [
        "evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "192.0.2.1",
        "[2001:db8::1]",
        "%6cocalhost",
        "2130706433",
        "",
    ];

    #[test]
    fn a_loopback_address_has_its_own_names() {
        for bound in ["127.0.0.1:80", "127.0.0.2:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_admits(&hosts(bound, &[]), &OWN, &FOREIGN);
        }
    }

    #[test]
    fn any_other_address_has_all_names_until_some_are_listed() {
        for bound in ["0.0.0.0:80", "[::]:80", "192.0.2.7:80"] {
            assert_admits(&hosts(bound, &[]), &[&OWN[..], &FOREIGN[..]].concat(), &[]);
        }
        let listed = hosts("192.0.2.7:80", &["files.example"]);
        assert_admits(&listed, &[&OWN[..], &["192.0.2.7", "files.example"]].concat(), &FOREIGN);
    }

    #[test]
    fn what_is_listed_goes_besides_in_every_spelling() {
        let hosts = hosts("127.0.0.1:80", &["Files.Example.", "[2001:DB8:0::7]", "192.0.2.9"]);
        let listed = [
            "files.example",
            "FILES.example.",
            "[2001:db8::7]",
            "[2001:0db8:0:0:0:0:0:7]",
            "192.0.2.9",
            "[::ffff:192.0.2.9]",
        ];
        assert_admits(&hosts, &[&listed[..], &OWN[..]].concat(), &FOREIGN);
        assert_admits(
            &hosts,
            &[],
            &["a.files.example", "xfiles.example", "files.example..", "[2001:db8::8]"],
        );
    }

    #[test]
    fn a_star_is_all() {
        let hosts = hosts("127.0.0.1:80", &["a.example", "*"]);
        assert!(hosts.are_all());
        assert_admits(&hosts, &[&OWN[..], &FOREIGN[..]].concat(), &[]);
    }

    #[test]
    fn entries_that_cannot_be_read_are_errors() {
        for text in [
            "",
            ".",
            "a b",
            "a:80",
            "[::1]:80",
            "*.example",
            "http://a",
            "999.1.1.1",
            "10.0.0.0/8",
            "ä",
            "a/b",
        ] {
            assert!(HostRule::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn what_opens_nothing_to_others_is_known() {
        for (text, expected) in [
            ("localhost", true),
            ("a.localhost", true),
            ("127.0.0.2", true),
            ("::1", true),
            ("*", false),
            ("a", false),
            ("192.0.2.1", false),
        ] {
            assert_eq!(HostRule::parse(text).unwrap().is_of_this_host(), expected, "{text}");
        }
    }
}
