//! Messages to the service manager: datagrams of lines `NAME=value` to the socket that NOTIFY_SOCKET names
//! (sd_notify(3)).

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The most messages that wait for a busy service manager; its own queue holds ten by default
/// (net.unix.max_dgram_qlen). The daemon changes its state less often than this while anybody could still want to
/// know.
const WAITING_MAX: usize = 8;

/// The connection to the service manager, if there is one.
pub(super) struct Notifier {
    /// The manager, or the fault of its address, which is told with the first message, when there is a log.
    manager: Option<io::Result<Manager>>,
    /// The messages that must arrive and found no room yet, the oldest first.
    waiting: VecDeque<String>,
    has_complained: bool,
}

struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    pub(super) fn from_environment() -> Notifier {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        Notifier::to(name.as_deref())
    }

    fn to(name: Option<&OsStr>) -> Notifier {
        Notifier { manager: name.map(Manager::at), waiting: VecDeque::new(), has_complained: false }
    }

    /// Sends a message that must arrive, at once or as soon as there is room.
    pub(super) fn tell(&mut self, message: &str) {
        if self.manager.is_none() {
            return;
        }
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(message.to_owned());
        self.tell_rest();
    }

    /// Sends the waiting messages.
    pub(super) fn tell_rest(&mut self) {
        while let Some(message) = self.waiting.front() {
            match self.send(message) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(error) => return self.complain(&error),
            }
        }
    }

    /// Sends a message that may be left out, and returns whether that was done. Without a manager it counts as
    /// done.
    pub(super) fn tell_if_free(&mut self, message: &str) -> bool {
        if !self.waiting.is_empty() {
            return false;
        }
        match self.send(message) {
            Ok(()) => true,
            Err(error) => {
                self.complain(&error);
                false
            }
        }
    }

    /// Sends to the address each time: a manager that is executed anew makes a new socket.
    fn send(&self, message: &str) -> io::Result<()> {
        match &self.manager {
            None => Ok(()),
            Some(Ok(manager)) => manager.socket.send_to_addr(message.as_bytes(), &manager.address).map(drop),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }

    /// Logs once that the manager isn't there; that it is busy doesn't concern the operator.
    fn complain(&mut self, error: &io::Error) {
        if error.kind() != io::ErrorKind::WouldBlock && !std::mem::replace(&mut self.has_complained, true) {
            tracing::warn!(%error, "the service manager can't be told anything: look at NOTIFY_SOCKET");
        }
    }
}

impl Manager {
    fn at(name: &OsStr) -> io::Result<Manager> {
        let address = match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("NOTIFY_SOCKET is neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Manager { socket, address })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::{Notifier, WAITING_MAX};

    fn next(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..count].to_vec()).unwrap())
    }

    #[test]
    fn paths_and_abstract_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("streamd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        for (name, socket) in [(path.to_str().unwrap(), by_path), (&format!("@{name}"), by_name)] {
            socket.set_nonblocking(true).unwrap();
            let mut notifier = Notifier::to(Some(OsStr::new(name)));
            notifier.tell("READY=1");
            assert!(notifier.tell_if_free("WATCHDOG=1"));
            assert_eq!(next(&socket).as_deref(), Some("READY=1"), "{name}");
            assert_eq!(next(&socket).as_deref(), Some("WATCHDOG=1"), "{name}");
            assert_eq!(next(&socket), None);
        }
    }

    #[test]
    fn what_must_arrive_waits_for_a_busy_manager_and_the_rest_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut notifier = Notifier::to(Some(path.as_os_str()));
        let mut taken = 0;
        while notifier.tell_if_free("STATUS=full") {
            taken += 1;
        }
        for number in 0..=WAITING_MAX {
            notifier.tell(&format!("STATUS={number}"));
        }
        assert!(!notifier.has_complained);
        for _ in 0..taken {
            assert_eq!(next(&manager).as_deref(), Some("STATUS=full"));
        }
        // The oldest message was dropped.
        for number in 1..=WAITING_MAX {
            notifier.tell_rest();
            assert_eq!(next(&manager), Some(format!("STATUS={number}")));
        }
        assert!(notifier.tell_if_free("WATCHDOG=1"));
    }

    #[test]
    fn nobody_to_tell() {
        let mut notifier = Notifier::to(None);
        notifier.tell("READY=1");
        assert!(notifier.waiting.is_empty() && notifier.tell_if_free("WATCHDOG=1"));
        for name in ["vsock:2:1234", "/nonexistent/notify"] {
            let mut notifier = Notifier::to(Some(OsStr::new(name)));
            notifier.tell("READY=1");
            assert!(notifier.has_complained, "{name}");
        }
    }
}
