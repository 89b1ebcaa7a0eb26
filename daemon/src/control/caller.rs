//! The caller of a request: the peer, or the client that it names where it is a trusted proxy.

use hyper::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use std::fmt;

use crate::config::TrustedProxies;
use crate::limits::Peer;
use crate::protocol::http1::forwarded::{ForwardedError, Sender, of_fields};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The caller of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The address of the caller, or of the proxy where the caller's isn't known; the port is 0 where none is
    /// told.
    pub(super) address: Peer,
    /// Whether a proxy asks for somebody who isn't known to be on this host.
    pub(super) is_elsewhere: bool,
}

impl Caller {
    /// Makes a caller of a peer that asks for itself.
    pub(super) fn of_peer(peer: Peer) -> Caller {
        Caller { address: peer, is_elsewhere: false }
    }

    /// Finds the caller of a request with these fields from `peer`.
    ///
    /// # Errors
    /// [`ForwardedError`] where the fields of a trusted proxy can't be believed.
    pub(super) fn of(
        peer: Peer,
        headers: &HeaderMap,
        proxies: &TrustedProxies,
    ) -> Result<Caller, ForwardedError> {
        if !peer.is_trusted(proxies) {
            return Ok(Caller::of_peer(peer));
        }
        let fields = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let said = of_fields(fields(FORWARDED), fields(X_FORWARDED_FOR), |address| proxies.contain(address))?;
        Ok(match said {
            None => Caller::of_peer(peer),
            Some(Sender::Unnamed) => Caller { address: peer, is_elsewhere: true },
            Some(Sender::Client(address)) => {
                Caller { address: address.into(), is_elsewhere: !address.ip().is_loopback() }
            }
        })
    }
}

/// Writes the address without the port, which a proxy seldom tells.
impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Peer::Inet(address) => fmt::Display::fmt(&address.ip(), formatter),
            local @ Peer::Local(_) => fmt::Display::fmt(&local, formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderMap;

    use std::net::SocketAddr;

    use super::Caller;
    use crate::config::{Live, Settings};

    #[test]
    fn fields_of_trusted_proxies_alone_name_the_caller() {
        let trusted_proxies = vec!["127.0.0.0/8".to_owned(), "10.0.0.1".to_owned()];
        let live = Live::new(Settings { trusted_proxies, ..Settings::default() }).unwrap();
        for (peer, field, value, expected, is_elsewhere) in [
            ("127.0.0.1:5", "x-forwarded-for", "192.0.2.7", "192.0.2.7:0", true),
            ("127.0.0.1:5", "x-forwarded-for", "192.0.2.7, 127.0.0.1", "192.0.2.7:0", true),
            ("127.0.0.1:5", "x-forwarded-for", "127.0.0.1", "127.0.0.1:0", false),
            ("127.0.0.1:5", "forwarded", "for=\"[2001:db8::7]:80\"", "[2001:db8::7]:80", true),
            ("127.0.0.1:5", "forwarded", "for=unknown", "127.0.0.1:5", true),
            ("127.0.0.1:5", "via", "1.1 proxy", "127.0.0.1:5", false),
            ("10.0.0.1:5", "x-forwarded-for", "10.0.0.1", "10.0.0.1:0", true),
            ("192.0.2.8:5", "x-forwarded-for", "127.0.0.1", "192.0.2.8:5", false),
        ] {
            let headers = HeaderMap::from_iter([(field.parse().unwrap(), value.parse().unwrap())]);
            let at = |text: &str| text.parse::<SocketAddr>().unwrap().into();
            let caller = Caller::of(at(peer), &headers, &live.proxies).unwrap();
            assert_eq!(caller, Caller { address: at(expected), is_elsewhere }, "{peer} {value}");
        }
    }
}
