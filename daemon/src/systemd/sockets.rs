//! The listening sockets that a service manager passes: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES,
//! sd_listen_fds(3).
//!
//! Such a socket outlives the daemon: connections that come while it restarts wait in the socket's queue.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};

use crate::config::{ListenAddress, ListenSettings, NAMES_OF_SHORT_FORMS, PlaneChoice, Settings};

/// The most sockets that are looked at. Most daemons have a use for two; a count beyond this is a mistake.
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
    /// A descriptor isn't a listening socket of TCP or of this host.
    #[error(
        "{socket} {fault}: streamd takes listening stream sockets (ListenStream=PORT, ADDRESS:PORT or PATH, Accept=no)"
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
         {control_listen}: set FileDescriptorName=data or control, the name of a [[listen]], or one of these addresses"
    )]
    Unassigned {
        /// The name of the socket.
        socket: String,
        /// The address that it listens on.
        address: ListenAddress,
        /// The setting `data_listen`.
        data_listen: ListenAddress,
        /// The setting `control_listen`.
        control_listen: ListenAddress,
    },
    /// A listener has no address, and its socket isn't there.
    #[error(
        "no socket named {0:?} was passed, and the [[listen]] of this name has no address: set FileDescriptorName={0} \
         in the socket unit, or an address"
    )]
    NotPassed(String),
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

/// Sockets that the daemon needn't bind.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<PassedSocket>);

/// A socket that listens already.
#[derive(Debug)]
struct PassedSocket {
    address: ListenAddress,
    plane: PlaneChoice,
    socket: OwnedFd,
}

/// The addresses of passed sockets, which win over the settings'.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Vec<(ListenSettings, ListenAddress)>);

impl PassedSockets {
    /// Assigns each socket to a listener: by its name, that of a `[[listen]]` or `data` or `control`, else by its port
    /// or path. A listener may have several.
    pub fn assign(
        names: Vec<String>,
        descriptors: Vec<OwnedFd>,
        settings: &Settings,
    ) -> Result<(PassedSockets, Addresses), SocketError> {
        let (mut passed, mut addresses) = (Vec::new(), Vec::new());
        for (index, (name, descriptor)) in names.into_iter().zip(descriptors).enumerate() {
            let socket = format!("passed socket {} ({name:?})", index + 1);
            let address = listening(&descriptor)
                .map_err(|fault| SocketError::NotListening { socket: socket.clone(), fault })?;
            let Some(listen) = listener_of(&name, &address, settings) else {
                let (data_listen, control_listen) =
                    (settings.data_listen.clone(), settings.control_listen.clone());
                return Err(SocketError::Unassigned { socket, address, data_listen, control_listen });
            };
            passed.push(PassedSocket { address: address.clone(), plane: listen.plane, socket: descriptor });
            addresses.push((listen, address));
        }
        let is_passed = |listen: &ListenSettings| addresses.iter().any(|(assigned, _)| assigned == listen);
        let lacking = settings.listen.iter().find(|listen| listen.address.is_none() && !is_passed(listen));
        match lacking.and_then(|listen| listen.name.clone()) {
            Some(name) => Err(SocketError::NotPassed(name)),
            None => Ok((PassedSockets(passed), Addresses(addresses))),
        }
    }

    /// Takes the socket that listens at an address, if there is one.
    pub fn take(&mut self, address: &ListenAddress) -> Option<OwnedFd> {
        let place = self.0.iter().position(|passed| passed.address == *address)?;
        Some(self.0.swap_remove(place).socket)
    }

    /// Returns the planes that have a passed socket, for the log.
    pub fn planes(&self) -> &'static str {
        let has = |plane| self.0.iter().any(|passed| passed.plane == plane);
        match (has(PlaneChoice::Data), has(PlaneChoice::Control)) {
            (true, true) => "data and control",
            (true, false) => "data",
            (false, true) => "control",
            (false, false) => "none",
        }
    }
}

impl Addresses {
    /// Puts the addresses into settings: the first socket of a listener has its place, and each further one is a
    /// listener of the same kind. A listener that a reload has changed isn't the socket's any more.
    pub fn win_over(&self, settings: &mut Settings) {
        let mut more = Vec::new();
        for (number, (listen, address)) in self.0.iter().enumerate() {
            let is_first = !self.0[..number].iter().any(|(before, _)| before == listen);
            let address = address.clone();
            let [data, control] = NAMES_OF_SHORT_FORMS;
            match listen.name.as_deref() {
                Some(name) if is_first && name == data => settings.data_listen = address,
                Some(name) if is_first && name == control => settings.control_listen = address,
                _ if is_first => {
                    if let Some(table) = settings.listen.iter_mut().find(|table| *table == listen) {
                        table.address = Some(address);
                    }
                }
                _ => more.push(ListenSettings { address: Some(address), ..listen.clone() }),
            }
        }
        settings.listen.extend(more);
    }
}

/// Finds the listener of a socket.
fn listener_of(name: &str, address: &ListenAddress, settings: &Settings) -> Option<ListenSettings> {
    let [data, control] = NAMES_OF_SHORT_FORMS;
    let all = settings.listeners();
    if let Some(listen) = all.iter().find(|listen| !name.is_empty() && listen.name.as_deref() == Some(name)) {
        return Some(listen.clone());
    }
    let short = |plane| ListenSettings { plane, name: Some(name.to_owned()), ..ListenSettings::default() };
    // The setting may be none, and the socket still says what it is for.
    match name {
        name if name == data => {
            return Some(ListenSettings {
                proxy_protocol: settings.proxy_protocol,
                ..short(PlaneChoice::Data)
            });
        }
        name if name == control => return Some(short(PlaneChoice::Control)),
        _ => {}
    }
    let port = |address: &ListenAddress| address.inet().map(|address| address.port());
    let by = |is_of: &dyn Fn(&ListenAddress) -> bool| {
        let mut found = all.iter().filter(|listen| listen.address.as_ref().is_some_and(is_of));
        found.next().filter(|_| found.next().is_none()).cloned()
    };
    let by_port = by(&|listen| port(listen).is_some() && port(listen) == port(address));
    // Two listeners may have one port on two addresses.
    by_port.or_else(|| by(&|listen| listen == address))
}

/// Returns the address of a listener's descriptor; the error says what it is instead.
fn listening(descriptor: &OwnedFd) -> Result<ListenAddress, String> {
    let unknown = |error: rustix::io::Errno| format!("is no socket ({error})");
    let family = sockopt::socket_domain(descriptor).map_err(unknown)?;
    let is_unix = family == AddressFamily::UNIX;
    if !is_unix && family != AddressFamily::INET && family != AddressFamily::INET6 {
        return Err("is none of IPv4, IPv6 and Unix sockets".to_owned());
    }
    if sockopt::socket_type(descriptor).map_err(unknown)? != SocketType::STREAM {
        return Err(if is_unix { "is no stream" } else { "doesn't speak TCP" }.to_owned());
    }
    if !is_unix && sockopt::socket_protocol(descriptor).map_err(unknown)? != Some(ipproto::TCP) {
        return Err("doesn't speak TCP".to_owned());
    }
    if !sockopt::socket_acceptconn(descriptor).map_err(unknown)? {
        return Err("doesn't listen".to_owned());
    }
    let copy = descriptor.try_clone().map_err(|error| format!("can't be looked at ({error})"))?;
    let address = if is_unix {
        unix_address(&copy.into())
    } else {
        TcpListener::from(copy).local_addr().map(Into::into)
    };
    address.map_err(|error| format!("has no address ({error})"))
}

/// Returns the path of a Unix socket; an abstract name as systemd writes it, with @ before it.
fn unix_address(listener: &UnixListener) -> io::Result<ListenAddress> {
    let address = listener.local_addr()?;
    let of_name = |name: &[u8]| PathBuf::from(format!("@{}", String::from_utf8_lossy(name)));
    let path = address.as_pathname().map(Path::to_owned);
    let path = path.or_else(|| address.as_abstract_name().map(of_name));
    path.map(ListenAddress::Unix).ok_or_else(|| io::Error::other("it has no path"))
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::{PassedSockets, SOCKETS_MAX, SocketAddrExt, listening, read_variables};
    use crate::config::{ListenAddress, ListenSettings, Settings};

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

    /// Returns the addresses of all listeners once the sockets are assigned, each of which listens where it should.
    fn assigned(passed: Vec<(&str, OwnedFd)>, settings: &Settings) -> Result<Vec<String>, String> {
        let (names, descriptors): (Vec<&str>, Vec<OwnedFd>) = passed.into_iter().unzip();
        let names = names.into_iter().map(str::to_owned).collect();
        let (mut sockets, addresses) =
            PassedSockets::assign(names, descriptors, settings).map_err(|error| error.to_string())?;
        let mut settings = settings.clone();
        addresses.win_over(&mut settings);
        let listeners: Vec<_> =
            settings.listeners().into_iter().filter_map(|listen| listen.address).collect();
        for address in &listeners {
            if let Some(socket) = sockets.take(address) {
                assert_eq!(listening(&socket).as_ref(), Ok(address));
            }
        }
        assert!(sockets.0.is_empty(), "a socket is nobody's: {sockets:?}");
        Ok(listeners.iter().map(ToString::to_string).collect())
    }

    fn texts(addresses: &[SocketAddr]) -> Result<Vec<String>, String> {
        Ok(addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_name_or_a_port_tells_what_a_socket_is_for() {
        let settings = Settings::default();
        let [data, control] =
            [&settings.data_listen, &settings.control_listen].map(|address| address.inet().unwrap());
        let ((first, first_address), (second, second_address)) = (listener(), listener());
        let by_name = assigned(vec![("control", second.into()), ("data", first.into())], &settings);
        assert_eq!(by_name, texts(&[first_address, second_address]));
        let (only, only_address) = listener();
        assert_eq!(assigned(vec![("data", only.into())], &settings), texts(&[only_address, control]));
        assert_eq!(assigned(Vec::new(), &settings), texts(&[data, control]));
        let ((first, first_address), (second, second_address)) = (listener(), listener());
        let by_port = Settings {
            data_listen: SocketAddr::new([0, 0, 0, 0].into(), first_address.port()).into(),
            control_listen: SocketAddr::new([0, 0, 0, 0].into(), second_address.port()).into(),
            ..Settings::default()
        };
        let passed = vec![("streamd.socket", second.into()), ("streamd.socket", first.into())];
        assert_eq!(assigned(passed, &by_port), texts(&[first_address, second_address]));
    }

    #[test]
    fn one_port_on_two_addresses() {
        let (data, address) = listener();
        let other = SocketAddr::new([127, 0, 0, 2].into(), address.port());
        let control = TcpListener::bind(other).unwrap();
        let settings =
            Settings { data_listen: address.into(), control_listen: other.into(), ..Settings::default() };
        assert_eq!(
            assigned(vec![("", control.into()), ("", data.into())], &settings),
            texts(&[address, other])
        );
    }

    #[test]
    fn several_sockets_of_one_name_are_listeners_of_one_kind() {
        let ((first, first_address), (second, second_address)) = (listener(), listener());
        let settings = Settings::default();
        let control = settings.control_listen.inet().unwrap();
        let both = assigned(vec![("data", first.into()), ("data", second.into())], &settings);
        assert_eq!(both, texts(&[first_address, control, second_address]));
    }

    #[test]
    fn a_unix_socket_is_for_the_listener_of_its_name_or_path() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let socket = |name: &str| OwnedFd::from(UnixListener::bind(at(name)).unwrap());
        let unix = |name: &str| format!("unix:{}", at(name).display());
        let named = ListenSettings { name: Some("files".to_owned()), ..ListenSettings::default() };
        let by_path =
            ListenSettings { address: Some(unix("b").parse().unwrap()), ..ListenSettings::default() };
        let settings = Settings {
            data_listen: ListenAddress::None,
            listen: vec![named, by_path],
            ..Settings::default()
        };
        let passed = vec![("streamd.socket", socket("b")), ("files", socket("a")), ("control", socket("c"))];
        assert_eq!(assigned(passed, &settings), Ok(vec![unix("c"), unix("a"), unix("b")]));
        let missing = assigned(vec![("control", socket("d"))], &settings).unwrap_err();
        assert!(missing.starts_with("no socket named \"files\" was passed"), "{missing}");
        let name = std::os::unix::net::SocketAddr::from_abstract_name("streamd-test-passed").unwrap();
        let hidden = UnixListener::bind_addr(&name).unwrap();
        let found = assigned(vec![("data", hidden.into())], &Settings::default()).unwrap();
        assert_eq!(found[0], "unix:@streamd-test-passed");
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
                 0.0.0.0:8080 and control_listen is 127.0.0.1:8081: set FileDescriptorName=data or control, the \
                 name of a [[listen]], or one of these addresses"
            )
        );
        let takes =
            "streamd takes listening stream sockets (ListenStream=PORT, ADDRESS:PORT or PATH, Accept=no)";
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
            (UnixDatagram::bind(directory.path().join("socket")).unwrap().into(), "is no stream"),
            (
                tempfile::tempfile().unwrap().into(),
                "is no socket (Socket operation on non-socket (os error 88))",
            ),
        ] {
            assert_eq!(refused("data", descriptor), format!("passed socket 1 (\"data\") {fault}: {takes}"));
        }
    }
}
