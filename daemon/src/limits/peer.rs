//! The other end of a connection: an address, or a process of this host that came by a Unix socket.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::AddressGroup;
use crate::config::TrustedProxies;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody at an address.
    Inet(SocketAddr),
    /// A process of this host, by a Unix socket.
    Local(LocalPeer),
}

/// The process that connected, as the kernel knew it then (SO_PEERCRED, unix(7)). Its number may be another's by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalPeer {
    /// The user.
    pub uid: u32,
    /// The process; 0 where it is in a namespace of its own.
    pub pid: u32,
}

impl Peer {
    /// Returns the address; that of this host for one of its processes.
    pub fn ip(self) -> IpAddr {
        match self {
            Peer::Inet(address) => address.ip(),
            Peer::Local(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// Whether it is on this host.
    pub fn is_of_this_host(self) -> bool {
        self.ip().to_canonical().is_loopback()
    }

    /// Returns whom limits for each address count it as; None for this host, behind which is everybody on it.
    pub fn group(self) -> Option<AddressGroup> {
        AddressGroup::of(self.ip())
    }

    /// Whether it is a proxy that is trusted to name its clients.
    pub fn is_trusted(self, proxies: &TrustedProxies) -> bool {
        match self {
            Peer::Inet(address) => proxies.contain(address.ip()),
            Peer::Local(_) => proxies.contain_unix(),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Inet(address)
    }
}

impl PartialEq<SocketAddr> for Peer {
    fn eq(&self, address: &SocketAddr) -> bool {
        *self == Peer::Inet(*address)
    }
}

impl Display for Peer {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Inet(address) => write!(formatter, "{address}"),
            Peer::Local(LocalPeer { uid, pid }) => write!(formatter, "unix:uid={uid},pid={pid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{LocalPeer, Peer};
    use crate::config::{Live, Settings};

    #[test]
    fn a_process_of_this_host_is_this_host_and_no_proxy_by_an_address() {
        let local = Peer::Local(LocalPeer { uid: 33, pid: 7 });
        assert_eq!(local.to_string(), "unix:uid=33,pid=7");
        assert!(local.is_of_this_host() && local.group().is_none());
        let trusting = |entry: &str| {
            let trusted_proxies = vec![entry.to_owned()];
            Live::new(Settings { trusted_proxies, ..Settings::default() }).unwrap().proxies
        };
        assert!(local.is_trusted(&trusting("unix:")) && !local.is_trusted(&trusting("127.0.0.0/8")));
        let inet = Peer::from("127.0.0.1:5".parse::<SocketAddr>().unwrap());
        assert!(inet.is_trusted(&trusting("127.0.0.0/8")) && !inet.is_trusted(&trusting("unix:")));
        assert_eq!(size_of::<Peer>(), size_of::<SocketAddr>(), "a connection holds some of them");
    }
}
