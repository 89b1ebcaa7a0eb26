//! The targets of streams: a name is resolved once, and the address that was checked is the one connected to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::time;

use super::lookup::{LookupError, Lookups};
use crate::config::{Live, TargetRule, names_this_host};

/// The longest host name, in bytes (RFC 1035 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// A target `HOST:PORT` as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetName {
    /// The name or address, without brackets.
    host: String,
    port: u16,
}

impl TargetName {
    /// Reads `HOST:PORT`, IPv6 addresses in brackets. The error is the fault of the text.
    pub(super) fn parse(text: &str) -> Result<TargetName, &'static str> {
        const NO_PORT: &str = "has no port: write HOST:PORT";
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or("opens a bracket and doesn't close it")?;
                address.parse::<Ipv6Addr>().map_err(|_| "has no IPv6 address in its brackets")?;
                (address, port.strip_prefix(':').ok_or(NO_PORT)?)
            }
            None => text.rsplit_once(':').ok_or(NO_PORT)?,
        };
        if host.contains(':') && !text.starts_with('[') {
            return Err("has several colons: write an IPv6 address in brackets, [ADDRESS]:PORT");
        }
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(is_host) {
            return Err("has no host name or address before its port: write HOST:PORT");
        }
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(port) if port > 0 && is_number => Ok(TargetName { host: host.to_owned(), port }),
            _ => Err("has a port outside 1 to 65535"),
        }
    }
}

impl TargetName {
    /// Returns the address, where the host is one and no name.
    fn address(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TargetName { host, port } = self;
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}

/// The own data plane, recognised in all its spellings.
#[derive(Debug)]
pub(super) struct OwnDataPlane(Vec<OwnListener>);

/// A listener of the own data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnListener {
    /// Its place among all listeners.
    pub(super) place: u16,
    bound: SocketAddr,
}

impl OwnDataPlane {
    /// Describes the data plane whose listeners are bound to these addresses.
    pub(super) fn new(bound: Vec<(u16, SocketAddr)>) -> OwnDataPlane {
        let listener = |(place, bound)| OwnListener { place, bound: canonical(bound) };
        OwnDataPlane(bound.into_iter().map(listener).collect())
    }

    /// Returns the listener at which a connection to `address` ends.
    fn owner(&self, address: SocketAddr) -> Option<OwnListener> {
        self.0.iter().copied().find(|listener| listener.owns(address))
    }
}

impl OwnListener {
    /// Returns the address to connect to.
    pub(super) fn address(self) -> SocketAddr {
        connectable(self.bound)
    }

    /// Whether a connection to `address` ends here. A listener on the unspecified address has all loopback
    /// addresses of its own family; one of the other family may be another program's.
    fn owns(self, address: SocketAddr) -> bool {
        let address = connectable(canonical(address));
        if self.bound.ip().is_unspecified() {
            let is_same_family = self.bound.is_ipv4() == address.is_ipv4();
            return is_same_family && address.ip().is_loopback() && address.port() == self.bound.port();
        }
        (address.ip(), address.port()) == (self.bound.ip(), self.bound.port())
    }
}

/// Turns ::ffff:127.0.0.1 into 127.0.0.1, which it is for the kernel as for the allow list.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Turns the unspecified address into the loopback address of its family, to which Linux connects it (seen on
/// 6.18).
fn connectable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The resolved target of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The own data plane.
    Own(OwnListener),
    /// An allowed address.
    Other(SocketAddr),
}

/// Why a stream may not go to its target, or can't.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    /// The target is neither the own data plane nor on the list.
    #[error("target {0:?} is neither the own data plane nor listed in targets_allowed")]
    NotAllowed(String),
    /// There is no target, and the own data plane has no address to connect to.
    #[error("the own data plane listens on no address of TCP: name a target")]
    NoOwn,
    /// The name has no address.
    #[error("target {target:?} can't be resolved: {error}")]
    Unresolved { target: String, error: LookupError },
    /// No name server answered in time.
    #[error("target {target:?} can't be resolved: no answer within connect_timeout_ms, {timeout_ms} ms")]
    Unanswered { target: String, timeout_ms: u64 },
    /// No lookup could be started, which is this host's fault.
    #[error(transparent)]
    NoLookup(LookupError),
}

/// Denies names that no rule can allow, whatever they resolve to: nobody makes the daemon ask name servers, or
/// wait for them, with a name that it may not connect to anyway.
pub(super) fn judge(name: Option<&TargetName>, own: &OwnDataPlane, live: &Live) -> Result<(), TargetError> {
    let Some(name) = name else { return Ok(()) };
    let is_possible = match name.address() {
        Some(address) => choose(&name.host, &[address], own, &live.targets).is_some(),
        None => {
            let is_port = |listener: &OwnListener| name.port == listener.bound.port();
            let may_be_own = own.0.iter().any(is_port) && is_of_this_host(&name.host);
            may_be_own || live.targets.iter().any(|rule| rule.may_allow(&name.host, name.port))
        }
    };
    if is_possible { Ok(()) } else { Err(TargetError::NotAllowed(name.to_string())) }
}

/// Whether `name` is one that every resolver knows as this host: `localhost`, a name below it, or its own.
fn is_of_this_host(name: &str) -> bool {
    let own = rustix::system::uname();
    names_this_host(name.as_bytes()) || own.nodename().to_bytes().eq_ignore_ascii_case(name.as_bytes())
}

/// Resolves `name` (the own data plane where None) and takes its first address that is allowed.
pub(super) async fn find(
    name: Option<&TargetName>,
    own: &OwnDataPlane,
    live: &Live,
    lookups: &Lookups,
) -> Result<Target, TargetError> {
    let Some(name) = name else { return own.0.first().copied().map(Target::Own).ok_or(TargetError::NoOwn) };
    let addresses = resolve(name, live.settings.connect_timeout_ms, lookups).await?;
    choose(&name.host, &addresses, own, &live.targets)
        .ok_or_else(|| TargetError::NotAllowed(name.to_string()))
}

fn choose(host: &str, addresses: &[SocketAddr], own: &OwnDataPlane, rules: &[TargetRule]) -> Option<Target> {
    addresses.iter().copied().find_map(|address| {
        if let Some(listener) = own.owner(address) {
            return Some(Target::Own(listener));
        }
        let address = canonical(address);
        rules.iter().any(|rule| rule.allows(host, address)).then_some(Target::Other(address))
    })
}

async fn resolve(
    name: &TargetName,
    timeout_ms: u64,
    lookups: &Lookups,
) -> Result<Vec<SocketAddr>, TargetError> {
    if let Some(address) = name.address() {
        return Ok(vec![address]);
    }
    let target = || name.to_string();
    let lookup = lookups.addresses(&name.host, name.port);
    match time::timeout(Duration::from_millis(timeout_ms), lookup).await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error @ LookupError::NoThread(_))) => Err(TargetError::NoLookup(error)),
        Ok(Err(error)) => Err(TargetError::Unresolved { target: target(), error }),
        Err(_) => Err(TargetError::Unanswered { target: target(), timeout_ms }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{OwnDataPlane, OwnListener, Target, TargetName, choose};
    use crate::config::TargetRule;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn chosen(bound: &str, host: &str, resolved: &[&str], rules: &[&str]) -> Option<Target> {
        let rules: Vec<TargetRule> = rules.iter().map(|rule| TargetRule::parse(rule).unwrap()).collect();
        choose(host, &addresses(resolved), &own(&[bound]), &rules)
    }

    fn own(bound: &[&str]) -> OwnDataPlane {
        OwnDataPlane::new((0..).zip(addresses(bound)).collect())
    }

    fn listener(bound: &str) -> OwnListener {
        own(&[bound]).0[0]
    }

    #[test]
    fn names() {
        for text in ["127.0.0.1:80", "files.example:65535", "[::1]:8080", "a_b-c:1"] {
            assert_eq!(TargetName::parse(text).unwrap().to_string(), text);
        }
        let long = format!("{}:80", "a".repeat(254));
        for text in [
            "",
            "host",
            "host:",
            ":80",
            "host:0",
            "host:65536",
            "host:+1",
            "host:-1",
            "::1:80",
            "[::1]",
            "[::1]80",
            "[::1:80",
            "[host]:80",
            "a b:80",
            "a/b:80",
            "a@b:80",
            "[fe80::1%eth0]:80",
            &long,
        ] {
            assert!(TargetName::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn the_own_data_plane_is_allowed_in_every_spelling() {
        for (bound, target) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("127.0.0.1:8080", "[::ffff:127.0.0.1]:8080"),
            ("127.0.0.1:8080", "0.0.0.0:8080"),
            ("127.0.0.2:8080", "127.0.0.2:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("0.0.0.0:8080", "127.9.9.9:8080"),
            ("0.0.0.0:8080", "0.0.0.0:8080"),
            ("[::1]:8080", "[::]:8080"),
            ("[::]:8080", "[::1]:8080"),
        ] {
            let own = listener(bound);
            assert_eq!(chosen(bound, "any", &[target], &[]), Some(Target::Own(own)), "{target} of {bound}");
            assert!(!own.address().ip().is_unspecified());
        }
    }

    #[test]
    fn of_several_listeners_the_one_that_is_meant_is_taken() {
        let own = own(&["127.0.0.1:8080", "0.0.0.0:8082"]);
        for (target, place) in [("127.0.0.1:8080", 0), ("127.0.0.9:8082", 1)] {
            let Some(Target::Own(chosen)) = choose("any", &addresses(&[target]), &own, &[]) else {
                panic!("{target}")
            };
            assert_eq!(chosen.place, place);
        }
        assert_eq!(choose("any", &addresses(&["127.0.0.9:8080"]), &own, &[]), None);
    }

    #[test]
    fn what_only_looks_like_the_own_data_plane_is_not() {
        for (bound, target) in [
            ("127.0.0.1:8080", "127.0.0.1:8081"),
            ("127.0.0.1:8080", "127.0.0.2:8080"),
            ("127.0.0.2:8080", "0.0.0.0:8080"),
            ("0.0.0.0:8080", "[::1]:8080"),
            ("0.0.0.0:8080", "192.0.2.1:8080"),
            ("[::]:8080", "127.0.0.1:8080"),
        ] {
            assert_eq!(chosen(bound, "any", &[target], &[]), None, "{target} of {bound}");
        }
    }

    #[test]
    fn the_first_allowed_address_is_taken() {
        let resolved = ["198.51.100.1:80", "10.0.0.1:80", "10.0.0.2:80"];
        let expected = Target::Other("10.0.0.1:80".parse().unwrap());
        assert_eq!(chosen("0.0.0.0:8080", "files.example", &resolved, &["10.0.0.0/8:80"]), Some(expected));
        assert_eq!(chosen("0.0.0.0:8080", "files.example", &resolved, &["10.0.0.0/8:81"]), None);
        let by_name = chosen("0.0.0.0:8080", "files.example", &resolved, &["files.example:*"]);
        assert_eq!(by_name, Some(Target::Other("198.51.100.1:80".parse().unwrap())));
        assert_eq!(chosen("0.0.0.0:8080", "files.example", &[], &["0.0.0.0/0:*"]), None);
    }
}
