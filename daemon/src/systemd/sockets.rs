//! The listening sockets that a service manager passes: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES,
//! sd_listen_fds(3).
//!
//! Such a socket outlives the daemon: connections that come while it restarts wait in the socket's queue.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};

use crate::config::Settings;

/// The most sockets that are looked at. The daemon has a use for two; a count beyond this is a mistake.
const SOCKETS_MAX: usize = 16;

/// Why passed sockets can't be used. The fault is always the configuration of whoever passes them, so starting
/// again can't help.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The variable of the count can't be read.
    #[error("LISTEN_FDS is {0:?}, which is no count of sockets up to {SOCKETS_MAX}")]
    Count(String),
    /// The descriptors don't exist.
    #[error("LISTEN_FDS says {count}, but they can't be taken over: {reason}")]
    Descriptors {
        /// The number of announced descriptors.
        count: usize,
        /// The error of the system.
        reason: io::Error,
    },
    /// A descriptor isn't a listening TCP socket.
    #[error(
        "{socket} {fault}: streamd takes listening TCP sockets (ListenStream=PORT or ADDRESS:PORT, Accept=no)"
    )]
    NotListening {
        /// The name of the socket.
        socket: String,
        /// The description of what it is instead.
        fault: String,
    },
    /// Nothing says which plane the socket is for.
    #[error(
        "{socket} on {address} is for neither plane, since data_listen is {data_listen} and control_listen is \
         {control_listen}: set FileDescriptorName=data or control, or one of these ports"
    )]
    Unassigned {
        /// The name of the socket.
        socket: String,
        /// The address that it listens on.
        address: SocketAddr,
        /// The setting `data_listen`.
        data_listen: SocketAddr,
        /// The setting `control_listen`.
        control_listen: SocketAddr,
    },
    /// There is more than one socket for the same plane.
    #[error(
        "{socket} on {address} is a second one for the {plane} plane, which takes one (ListenStream=PORT without \
         an address listens on IPv4 and IPv6)"
    )]
    Second {
        /// The name of the socket.
        socket: String,
        /// The address that it listens on.
        address: SocketAddr,
        /// The plane that it would be for.
        plane: &'static str,
    },
}

/// Returns the names of the sockets that were passed to this process, in the order of their descriptors, which
/// begin at 3; none where nobody passed any. The variables stay set: they name this process, so no other takes
/// them for its own.
pub fn announced() -> Result<Vec<String>, SocketError> {
    let variable = |name| std::env::var(name).ok();
    read_variables(
        variable("LISTEN_PID"),
        variable("LISTEN_FDS"),
        variable("LISTEN_FDNAMES"),
        std::process::id(),
    )
}

fn read_variables(
    pid: Option<String>,
    count: Option<String>,
    names: Option<String>,
    own_pid: u32,
) -> Result<Vec<String>, SocketError> {
    // The variables are meant for the process that started this one.
    if pid.and_then(|pid| pid.parse().ok()) != Some(own_pid) {
        return Ok(Vec::new());
    }
    let Some(text) = count else { return Ok(Vec::new()) };
    let count = text.parse::<usize>().ok().filter(|count| *count <= SOCKETS_MAX);
    let count = count.ok_or(SocketError::Count(text))?;
    let mut names: Vec<String> = names.unwrap_or_default().split(':').map(str::to_owned).collect();
    names.resize(count, String::new());
    Ok(names)
}

/// Listeners that the daemon needn't bind.
#[derive(Debug, Default)]
pub struct Listeners {
    /// The listener of the data plane.
    pub data: Option<TcpListener>,
    /// The listener of the control plane.
    pub control: Option<TcpListener>,
}

/// The addresses of passed sockets, which win over the settings'.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    data: Option<SocketAddr>,
    control: Option<SocketAddr>,
}

/// A plane that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plane {
    Data,
    Control,
}

impl Listeners {
    /// Assigns each socket to a plane: by its name, `data` or `control`, else by its port.
    pub fn assign(
        names: Vec<String>,
        descriptors: Vec<OwnedFd>,
        settings: &Settings,
    ) -> Result<(Listeners, Addresses), SocketError> {
        let (mut listeners, mut addresses) = (Listeners::default(), Addresses::default());
        for (index, (name, descriptor)) in names.into_iter().zip(descriptors).enumerate() {
            let socket = format!("passed socket {} ({name:?})", index + 1);
            let (listener, address) = listening(descriptor)
                .map_err(|fault| SocketError::NotListening { socket: socket.clone(), fault })?;
            let (place, known, plane) = match plane_of(&name, address, settings) {
                Some(Plane::Data) => (&mut listeners.data, &mut addresses.data, "data"),
                Some(Plane::Control) => (&mut listeners.control, &mut addresses.control, "control"),
                None => {
                    let Settings { data_listen, control_listen, .. } = *settings;
                    return Err(SocketError::Unassigned { socket, address, data_listen, control_listen });
                }
            };
            if place.replace(listener).is_some() {
                return Err(SocketError::Second { socket, address, plane });
            }
            *known = Some(address);
        }
        Ok((listeners, addresses))
    }

    /// Returns the planes that have a passed socket, for the log.
    pub fn planes(&self) -> &'static str {
        match (&self.data, &self.control) {
            (Some(_), Some(_)) => "data and control",
            (Some(_), None) => "data",
            (None, Some(_)) => "control",
            (None, None) => "none",
        }
    }
}

impl Addresses {
    /// Puts the addresses into settings.
    pub fn win_over(&self, settings: &mut Settings) {
        settings.data_listen = self.data.unwrap_or(settings.data_listen);
        settings.control_listen = self.control.unwrap_or(settings.control_listen);
    }
}

fn plane_of(name: &str, address: SocketAddr, settings: &Settings) -> Option<Plane> {
    match name {
        "data" => return Some(Plane::Data),
        "control" => return Some(Plane::Control),
        _ => {}
    }
    let by = |is_of: &dyn Fn(SocketAddr) -> bool| match (
        is_of(settings.data_listen),
        is_of(settings.control_listen),
    ) {
        (true, false) => Some(Plane::Data),
        (false, true) => Some(Plane::Control),
        _ => None,
    };
    // Two planes may have one port on two addresses.
    by(&|listen| listen.port() == address.port()).or_else(|| by(&|listen| listen == address))
}

/// Returns the listener of a descriptor and its address; the error says what it is instead.
fn listening(descriptor: OwnedFd) -> Result<(TcpListener, SocketAddr), String> {
    let unknown = |error: rustix::io::Errno| format!("is no socket ({error})");
    let family = sockopt::socket_domain(&descriptor).map_err(unknown)?;
    if family != AddressFamily::INET && family != AddressFamily::INET6 {
        return Err("is neither of IPv4 nor of IPv6".to_owned());
    }
    if sockopt::socket_type(&descriptor).map_err(unknown)? != SocketType::STREAM
        || sockopt::socket_protocol(&descriptor).map_err(unknown)? != Some(ipproto::TCP)
    {
        return Err("doesn't speak TCP".to_owned());
    }
    if !sockopt::socket_acceptconn(&descriptor).map_err(unknown)? {
        return Err("doesn't listen".to_owned());
    }
    let listener = TcpListener::from(descriptor);
    let address = listener.local_addr().map_err(|error| format!("has no address ({error})"))?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    use super::{Listeners, SOCKETS_MAX, read_variables};
    use crate::config::Settings;

    fn names(pid: &str, count: &str, names: &str) -> Result<Vec<String>, String> {
        let variables = [pid, count, names].map(|value| (value != "-").then(|| value.to_owned()));
        let [pid, count, names] = variables;
        read_variables(pid, count, names, 7).map_err(|error| error.to_string())
    }

    #[test]
    fn variables() {
        for (pid, count, text, expected) in [
            ("-", "-", "-", &[][..]),
            ("7", "-", "-", &[]),
            ("8", "2", "data:control", &[]),
            ("seven", "2", "data:control", &[]),
            ("7", "0", "", &[]),
            ("7", "1", "-", &[""]),
            ("7", "2", "data:control", &["data", "control"]),
            ("7", "2", "streamd.socket", &["streamd.socket", ""]),
            ("7", "1", "data:control", &["data"]),
        ] {
            assert_eq!(names(pid, count, text).unwrap(), expected, "{pid} {count} {text}");
        }
        for count in ["-1", "many", "", &(SOCKETS_MAX + 1).to_string()] {
            let message = names("7", count, "").unwrap_err();
            assert_eq!(message, format!("LISTEN_FDS is {count:?}, which is no count of sockets up to 16"));
        }
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn assigned(passed: Vec<(&str, OwnedFd)>, settings: &Settings) -> Result<[SocketAddr; 2], String> {
        let (names, descriptors): (Vec<&str>, Vec<OwnedFd>) = passed.into_iter().unzip();
        let names = names.into_iter().map(str::to_owned).collect();
        let (listeners, addresses) =
            Listeners::assign(names, descriptors, settings).map_err(|error| error.to_string())?;
        let mut settings = settings.clone();
        addresses.win_over(&mut settings);
        for (listener, address) in
            [(listeners.data, settings.data_listen), (listeners.control, settings.control_listen)]
        {
            assert!(listener.is_none_or(|listener| listener.local_addr().unwrap() == address));
        }
        Ok([settings.data_listen, settings.control_listen])
    }

    #[test]
    fn a_name_or_a_port_tells_what_a_socket_is_for() {
        let settings = Settings::default();
        let [data, control] = [settings.data_listen, settings.control_listen];
        let ((first, first_address), (second, second_address)) = (listener(), listener());
        let by_name = assigned(vec![("control", second.into()), ("data", first.into())], &settings);
        assert_eq!(by_name, Ok([first_address, second_address]));
        let (only, only_address) = listener();
        assert_eq!(assigned(vec![("data", only.into())], &settings), Ok([only_address, control]));
        assert_eq!(assigned(Vec::new(), &settings), Ok([data, control]));
        let ((first, first_address), (second, second_address)) = (listener(), listener());
        let by_port = Settings {
            data_listen: SocketAddr::new([0, 0, 0, 0].into(), first_address.port()),
            control_listen: SocketAddr::new([0, 0, 0, 0].into(), second_address.port()),
            ..Settings::default()
        };
        let passed = vec![("streamd.socket", second.into()), ("streamd.socket", first.into())];
        assert_eq!(assigned(passed, &by_port), Ok([first_address, second_address]));
    }

    #[test]
    fn one_port_on_two_addresses() {
        let (data, address) = listener();
        let other = SocketAddr::new([127, 0, 0, 2].into(), address.port());
        let control = TcpListener::bind(other).unwrap();
        let settings = Settings { data_listen: address, control_listen: other, ..Settings::default() };
        assert_eq!(assigned(vec![("", control.into()), ("", data.into())], &settings), Ok([address, other]));
    }

    #[test]
    fn what_can_not_be_used_is_named_with_a_remedy() {
        let settings = Settings::default();
        let refused = |name, descriptor| assigned(vec![(name, descriptor)], &settings).unwrap_err();
        let (stray, address) = listener();
        assert_eq!(
            refused("streamd.socket", stray.into()),
            format!(
                "passed socket 1 (\"streamd.socket\") on {address} is for neither plane, since data_listen is \
                 0.0.0.0:8080 and control_listen is 127.0.0.1:8081: set FileDescriptorName=data or control, or \
                 one of these ports"
            )
        );
        let takes = "streamd takes listening TCP sockets (ListenStream=PORT or ADDRESS:PORT, Accept=no)";
        let connected = || {
            let (listener, address) = listener();
            let stream = TcpStream::connect(address).unwrap();
            drop(listener);
            stream
        };
        let directory = tempfile::tempdir().unwrap();
        for (descriptor, fault) in [
            (OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()), "doesn't speak TCP"),
            (connected().into(), "doesn't listen"),
            (
                UnixListener::bind(directory.path().join("socket")).unwrap().into(),
                "is neither of IPv4 nor of IPv6",
            ),
            (
                tempfile::tempfile().unwrap().into(),
                "is no socket (Socket operation on non-socket (os error 88))",
            ),
        ] {
            assert_eq!(refused("data", descriptor), format!("passed socket 1 (\"data\") {fault}: {takes}"));
        }
        let ((first, _), (second, address)) = (listener(), listener());
        let message = assigned(vec![("data", first.into()), ("data", second.into())], &settings).unwrap_err();
        assert_eq!(
            message,
            format!(
                "passed socket 2 (\"data\") on {address} is a second one for the data plane, which takes one \
                 (ListenStream=PORT without an address listens on IPv4 and IPv6)"
            )
        );
    }
}
