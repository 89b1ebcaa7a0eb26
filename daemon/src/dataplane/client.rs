//! Who is served on a connection: its peer, or whom the peer stands for where it is a proxy that is believed.

use crate::limits::{AddressGroup, Peer};
use crate::protocol::http1::forwarded::Sender;
use crate::protocol::proxy_header::Origin;
use std::cell::Cell;

/// Who is served.
pub(super) struct Client {
    address: Cell<Peer>,
    /// The client that a proxy names; most connections have no proxy, and need no room for it.
    proxied: Option<Box<Proxied>>,
}

/// The client that a trusted proxy stands for.
struct Proxied {
    /// Who sends on the connection: the proxy, or whom its PROXY header names.
    sender: Cell<Known>,
    /// Who is served now: the sender, or whom the fields of the last request name.
    served: Cell<Known>,
}

/// The facts about a client.
#[derive(Clone, Copy)]
enum Known {
    /// A trusted proxy at this address, which speaks for itself, or of whose client nothing is said.
    Proxy(Peer),
    /// A client at this address.
    Client(Peer),
    /// Somebody behind the proxy at this address, who isn't named.
    Unnamed(Peer),
}

impl Known {
    fn of(address: Peer, is_proxy: impl Fn(Peer) -> bool) -> Known {
        if is_proxy(address) { Known::Proxy(address) } else { Known::Client(address) }
    }

    fn address(self) -> Peer {
        match self {
            Known::Proxy(address) | Known::Client(address) | Known::Unnamed(address) => address,
        }
    }
}

impl Client {
    /// The peer of a connection, which may be a trusted proxy.
    pub(super) fn of_peer(peer: Peer, is_proxy: bool) -> Client {
        let known = || Cell::new(Known::Proxy(peer));
        let proxied = is_proxy.then(|| Box::new(Proxied { sender: known(), served: known() }));
        Client { address: Cell::new(peer), proxied }
    }

    /// Where it is, as far as that is known: else the nearest proxy. Port 0 where none is told.
    pub(super) fn address(&self) -> Peer {
        self.address.get()
    }

    /// Whom limits for each address count it as; nobody where it isn't known who is behind a proxy.
    pub(super) fn group(&self) -> Option<AddressGroup> {
        match self.proxied.as_ref().map(|proxied| proxied.served.get()) {
            None | Some(Known::Client(_)) => self.address().group(),
            Some(Known::Proxy(_) | Known::Unnamed(_)) => None,
        }
    }

    /// Whether the peer is a trusted proxy.
    pub(super) fn is_proxied(&self) -> bool {
        self.proxied.is_some()
    }

    /// Whether the sender is a trusted proxy, and still is, so that the fields of requests may name somebody else.
    pub(super) fn is_relayed(&self, is_proxy: impl Fn(Peer) -> bool) -> bool {
        self.proxied.as_ref().is_some_and(|proxied| match proxied.sender.get() {
            Known::Proxy(address) => is_proxy(address),
            Known::Client(_) | Known::Unnamed(_) => false,
        })
    }

    /// Whether a proxy stands for somebody who isn't known to be on this host.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.proxied.as_ref().is_some_and(|proxied| match proxied.served.get() {
            Known::Proxy(address) | Known::Client(address) => !address.is_of_this_host(),
            Known::Unnamed(_) => true,
        })
    }

    /// The proxy's header came.
    pub(super) fn introduce(&self, origin: Origin, is_proxy: impl Fn(Peer) -> bool) {
        let Some(proxied) = &self.proxied else { return };
        let sender = match origin {
            Origin::Itself => proxied.sender.get(),
            Origin::Unnamed => Known::Unnamed(proxied.sender.get().address()),
            Origin::Client(client) => Known::of(client.into(), is_proxy),
        };
        proxied.sender.set(sender);
        self.serve(proxied, sender);
    }

    /// A request came whose fields say this, which the sender [may say](Client::is_relayed).
    pub(super) fn hear(&self, said: Option<Sender>, is_proxy: impl Fn(Peer) -> bool) {
        let Some(proxied) = &self.proxied else { return };
        let sender = proxied.sender.get();
        let served = match said {
            None => sender,
            Some(Sender::Unnamed) => Known::Unnamed(sender.address()),
            Some(Sender::Client(client)) => Known::of(client.into(), is_proxy),
        };
        self.serve(proxied, served);
    }

    fn serve(&self, proxied: &Proxied, served: Known) {
        proxied.served.set(served);
        self.address.set(served.address());
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::Client;
    use crate::limits::{LocalPeer, Peer};
    use crate::protocol::http1::forwarded::Sender;
    use crate::protocol::proxy_header::Origin;

    fn is_proxy(peer: Peer) -> bool {
        let address = peer.ip();
        peer.is_of_this_host() || address == IpAddr::from([10, 0, 0, 1])
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn behind_loopback() -> Client {
        Client::of_peer(at("127.0.0.1:1000").into(), true)
    }

    #[track_caller]
    fn assert_is(client: &Client, address: &str, group: Option<&str>, is_elsewhere: bool) {
        assert_eq!(client.address(), at(address));
        assert_eq!(client.group().map(|group| group.to_string()).as_deref(), group);
        assert_eq!(client.is_elsewhere(), is_elsewhere);
    }

    #[test]
    fn whoever_is_no_proxy_is_itself_whatever_it_says() {
        let client = Client::of_peer(at("192.0.2.7:1000").into(), false);
        client.introduce(Origin::Client(at("127.0.0.1:1")), is_proxy);
        client.hear(Some(Sender::Client(at("127.0.0.1:1"))), is_proxy);
        assert_is(&client, "192.0.2.7:1000", Some("192.0.2.7"), false);
        assert!(!client.is_proxied() && !client.is_relayed(is_proxy));
    }

    #[test]
    fn a_proxy_that_names_nobody_is_nobodys_group() {
        let client = behind_loopback();
        assert_is(&client, "127.0.0.1:1000", None, false);
        client.introduce(Origin::Itself, is_proxy);
        assert_is(&client, "127.0.0.1:1000", None, false);
        assert!(client.is_relayed(is_proxy));
        assert!(!client.is_relayed(|_| false), "it was trusted when it connected");
        let remote = Client::of_peer(at("10.0.0.1:1000").into(), true);
        assert_is(&remote, "10.0.0.1:1000", None, true);
        client.introduce(Origin::Unnamed, is_proxy);
        assert_is(&client, "127.0.0.1:1000", None, true);
        assert!(!client.is_relayed(is_proxy), "nobody knows who sends");
    }

    #[test]
    fn a_proxy_on_a_unix_socket_names_its_clients_as_any_other() {
        let local = Peer::Local(LocalPeer { uid: 33, pid: 7 });
        let client = Client::of_peer(local, true);
        assert!(client.address() == local && client.group().is_none() && !client.is_elsewhere());
        assert!(client.is_relayed(|peer| peer == local));
        client.hear(Some(Sender::Client(at("192.0.2.7:0"))), |_| false);
        assert_is(&client, "192.0.2.7:0", Some("192.0.2.7"), true);
    }

    #[test]
    fn a_header_names_the_client_of_the_connection() {
        for (named, group, is_elsewhere, is_relayed) in [
            ("192.0.2.7:5", Some("192.0.2.7"), true, false),
            ("[2001:db8::1:2:3:4]:5", Some("2001:db8::/64"), true, false),
            ("127.0.0.1:5", None, false, true),
            ("10.0.0.1:5", None, true, true),
        ] {
            let client = behind_loopback();
            client.introduce(Origin::Client(at(named)), is_proxy);
            assert_is(&client, named, group, is_elsewhere);
            assert_eq!(client.is_relayed(is_proxy), is_relayed, "{named}");
        }
    }

    #[test]
    fn fields_name_the_client_of_one_request() {
        let client = behind_loopback();
        client.hear(Some(Sender::Client(at("192.0.2.7:0"))), is_proxy);
        assert_is(&client, "192.0.2.7:0", Some("192.0.2.7"), true);
        client.hear(Some(Sender::Unnamed), is_proxy);
        assert_is(&client, "127.0.0.1:1000", None, true);
        client.hear(Some(Sender::Client(at("10.0.0.1:0"))), is_proxy);
        assert_is(&client, "10.0.0.1:0", None, true);
        client.hear(None, is_proxy);
        assert_is(&client, "127.0.0.1:1000", None, false);
    }
}
