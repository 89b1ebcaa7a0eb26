//! A service manager, as far as tests need one: it receives messages, passes sockets, and would notice a thread
//! that stands still.

use std::cell::RefCell;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::process::Pid;

use super::wait_until;

/// The socket that NOTIFY_SOCKET names, with its messages.
pub(crate) struct Manager {
    socket: UnixDatagram,
    name: String,
    messages: RefCell<Vec<String>>,
    _directory: tempfile::TempDir,
}

impl Manager {
    /// Makes a manager at a path, a short one: 107 bytes are the most (unix(7)).
    pub(crate) fn at_path() -> Manager {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = path.to_str().unwrap().to_owned();
        Manager::on(UnixDatagram::bind(path).unwrap(), name, directory)
    }

    /// Makes a manager at an abstract name.
    pub(crate) fn at_abstract_name() -> Manager {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().to_str().unwrap();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let name = format!("@{name}");
        Manager::on(UnixDatagram::bind_addr(&address).unwrap(), name, directory)
    }

    fn on(socket: UnixDatagram, name: String, directory: tempfile::TempDir) -> Manager {
        socket.set_nonblocking(true).unwrap();
        Manager { socket, name, messages: RefCell::default(), _directory: directory }
    }

    /// Returns the value of NOTIFY_SOCKET for its services.
    pub(crate) fn notify_socket(&self) -> &str {
        &self.name
    }

    /// Returns all messages so far, in order.
    pub(crate) fn messages(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let mut messages = self.messages.borrow_mut();
        while let Ok(count) = self.socket.recv(&mut buffer) {
            messages.push(String::from_utf8(buffer[..count].to_vec()).unwrap());
        }
        messages.clone()
    }

    /// Returns how many messages so far have this line.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.messages().iter().filter(|message| message.lines().any(|found| found == line)).count()
    }

    /// Waits for `count` messages with this line, and returns the last of them.
    pub(crate) fn wait_for(&self, line: &str, count: usize) -> String {
        wait_until(&format!("{line:?} for the {count}. time"), || self.count(line) >= count);
        let has_line = |message: &&String| message.lines().any(|found| found == line);
        self.messages().iter().filter(has_line).nth(count - 1).unwrap().clone()
    }
}

/// Makes a `streamd` as a child that these sockets are passed to, at most two, with the names as LISTEN_FDNAMES
/// spells them. The shell gives them their numbers and its own process id, which exec keeps. It has to be run with
/// the output that it has.
pub(crate) fn with_sockets(sockets: Vec<OwnedFd>, names: &str, streamd: &Command) -> Command {
    const SCRIPT: &str = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let count = sockets.len();
    let mut sockets = sockets.into_iter();
    let mut wrapped = Command::new("sh");
    wrapped.arg("-c").arg(SCRIPT).arg(streamd.get_program()).args(streamd.get_args());
    wrapped.env("LISTEN_FDS", count.to_string()).env("LISTEN_FDNAMES", names);
    wrapped.stdin(sockets.next().map_or_else(Stdio::null, Stdio::from));
    wrapped.stdout(sockets.next().map_or_else(Stdio::null, Stdio::from));
    wrapped
}

/// Copies a listener, so that the test keeps its own, as a service manager does.
pub(crate) fn copy_of(listener: &TcpListener) -> OwnedFd {
    listener.try_clone().unwrap().into()
}

/// A thread that stands still until this is dropped, by the thread that made it (ptrace(2): tracers are threads).
pub(crate) struct StoppedThread(nix::unistd::Pid);

impl StoppedThread {
    /// Stops the thread of this name; the error says why not, where the host doesn't allow it.
    pub(crate) fn of(process: Pid, name: &str) -> Result<StoppedThread, String> {
        let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
        let mut tasks = std::fs::read_dir(&tasks).unwrap().map(|task| task.unwrap());
        let is_it = |task: &std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|found| found.trim_end() == name)
        };
        let task = tasks.find(is_it).unwrap_or_else(|| panic!("no thread {name}"));
        let thread = nix::unistd::Pid::from_raw(task.file_name().to_str().unwrap().parse().unwrap());
        ptrace::seize(thread, ptrace::Options::empty()).map_err(|errno| format!("ptrace: {errno}"))?;
        ptrace::interrupt(thread).unwrap();
        let status = waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        assert!(matches!(status, WaitStatus::PtraceEvent(..)), "{status:?}");
        Ok(StoppedThread(thread))
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        // If the thread is gone, its process was ended meanwhile.
        let _ = ptrace::detach(self.0, None);
    }
}
