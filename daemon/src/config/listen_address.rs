//! The addresses that a listener may have: one of TCP, or the path of a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Value;

use super::value::Typed;

/// The longest path of a socket, in bytes: sun_path without the zero that ends it (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// The text before the path of a Unix socket, as NGINX spells it.
const UNIX: &str = "unix:";

/// The text for no address.
const NONE: &str = "none";

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// Nowhere.
    None,
    /// At an address and port of TCP.
    Inet(SocketAddr),
    /// At a path of the file system.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Returns the address and port; None where it is none of TCP.
    pub fn inet(&self) -> Option<SocketAddr> {
        if let ListenAddress::Inet(address) = self { Some(*address) } else { None }
    }

    /// Returns the path of the socket; None where it is of TCP.
    pub fn path(&self) -> Option<&Path> {
        if let ListenAddress::Unix(path) = self { Some(path) } else { None }
    }

    /// Whether it is the address of nothing.
    pub fn is_none(&self) -> bool {
        *self == ListenAddress::None
    }

    /// Whether nobody but this host reaches it.
    pub fn is_local(&self) -> bool {
        self.inet().is_none_or(|address| address.ip().to_canonical().is_loopback())
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> ListenAddress {
        ListenAddress::Inet(address)
    }
}

/// Why a text is no address.
#[derive(Debug, PartialEq, Eq)]
pub enum AddressError {
    /// It is none of TCP either.
    Unreadable,
    /// It is a path that no socket can have.
    Path(String),
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<ListenAddress, AddressError> {
        if text == NONE {
            return Ok(ListenAddress::None);
        }
        let Some(path) = text.strip_prefix(UNIX) else {
            return text.parse().map(ListenAddress::Inet).map_err(|_| AddressError::Unreadable);
        };
        let wrong = |reason: String| Err(AddressError::Path(reason));
        if path.starts_with('@') {
            return wrong(
                "an abstract socket has no permissions, and everybody on this host may connect: name a \
                          path"
                    .to_owned(),
            );
        }
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            return wrong(
                "expected the absolute path of a socket, as unix:/run/streamd/data.sock".to_owned(),
            );
        }
        if path.len() > PATH_BYTES_MAX {
            let bytes = path.len();
            return wrong(format!(
                "the path has {bytes} bytes, and a socket's may have {PATH_BYTES_MAX} (unix(7)): name a shorter one"
            ));
        }
        Ok(ListenAddress::Unix(path.into()))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::None => formatter.write_str(NONE),
            ListenAddress::Inet(address) => write!(formatter, "{address}"),
            ListenAddress::Unix(path) => write!(formatter, "{UNIX}{}", path.display()),
        }
    }
}

impl Typed for ListenAddress {
    fn from_value(value: &Value) -> Option<ListenAddress> {
        value.as_str()?.parse().ok()
    }

    fn to_value(&self) -> Option<Value> {
        Some(self.to_string().into())
    }
}

impl Typed for Option<ListenAddress> {
    fn from_value(value: &Value) -> Option<Option<ListenAddress>> {
        ListenAddress::from_value(value).map(Some)
    }

    fn to_value(&self) -> Option<Value> {
        self.as_ref()?.to_value()
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressError, ListenAddress};

    #[test]
    fn an_address_is_one_of_tcp_or_a_path_and_reads_back() {
        for text in ["0.0.0.0:8080", "[::]:0", "unix:/run/streamd/data.sock", "none"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for (text, is_local) in [
            ("127.0.0.2:1", true),
            ("[::1]:1", true),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("unix:/a", true),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().is_local(), is_local, "{text}");
        }
    }

    #[test]
    fn what_no_socket_can_be_bound_to_is_refused_with_its_reason() {
        for text in ["", "localhost", "8080", "/run/streamd.sock", "UNIX:/a"] {
            assert_eq!(text.parse::<ListenAddress>(), Err(AddressError::Unreadable), "{text}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert!(long[..long.len() - 1].parse::<ListenAddress>().is_ok());
        for (text, part) in [
            ("unix:", "absolute path"),
            ("unix:data.sock", "absolute path"),
            ("unix:/run/streamd/", "absolute path"),
            ("unix:@streamd", "no permissions"),
            (&long, "has 108 bytes, and a socket's may have 107"),
        ] {
            let Err(AddressError::Path(reason)) = text.parse::<ListenAddress>() else { panic!("{text}") };
            assert!(reason.contains(part), "{text}: {reason}");
        }
    }
}
