//! What can be wrong with a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::origin::Origin;

/// One thing that is wrong, and where. Also what is only to be warned of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting, as its TOML key, or a variable that is none.
    pub setting: String,
    /// Where its value came from, if somebody gave one.
    pub origin: Option<Origin>,
    /// What is wrong with it and what would be right.
    pub reason: String,
}

impl Fault {
    /// A fault of one setting.
    pub fn new(setting: &str, reason: impl Into<String>) -> Fault {
        Fault { setting: setting.to_owned(), origin: None, reason: reason.into() }
    }

    /// Says where the value came from; a default doesn't count.
    pub(super) fn from(mut self, origin: Option<&Origin>) -> Fault {
        self.origin = origin.filter(|origin| **origin != Origin::Default).cloned();
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.setting, self.reason)?;
        self.origin.as_ref().map_or(Ok(()), |origin| write!(formatter, " ({origin})"))
    }
}

/// What of the file system is seen while settings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All that the user may see.
    Everything,
    /// What the sandbox leaves of it.
    Sandbox,
}

/// Why no settings came about.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {reason}{}", path.display(), remedy(.reason, *.reach))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was seen of the file system.
        reach: Reach,
        /// What the system said.
        reason: io::Error,
    },
    /// The file isn't TOML.
    #[error("{}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        reason: String,
    },
    /// Settings that are unknown or out of range: all of them.
    #[error("{}", list(.0))]
    Faults(Vec<Fault>),
}

/// What to do about a file or a directory that can't be read.
pub(super) fn remedy(error: &io::Error, reach: Reach) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if reach == Reach::Sandbox => {
            ": the sandbox has no capabilities and shows what was set at the start: let the user who runs streamd \
             read it, and restart"
        }
        io::ErrorKind::NotFound => ": create it, or name another",
        io::ErrorKind::PermissionDenied => ": let the user who runs streamd read it",
        io::ErrorKind::IsADirectory => ": name a file",
        _ => "",
    }
}

/// What to do about an address that can't be listened on, which `setting` names.
pub fn listen_remedy(setting: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(": another process listens there: `ss -ltnp` names it; end it, or set another {setting}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!(
                ": no interface has this address: `ip address` lists those that there are; set one as {setting}"
            )
        }
        io::ErrorKind::PermissionDenied => ": ports below 1024 need CAP_NET_BIND_SERVICE".to_owned(),
        _ => String::new(),
    }
}

/// What to do where a thread can't be started.
pub fn thread_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        // pthread_create(3), EAGAIN: the user's processes and threads, those of the cgroup, or those of the host.
        io::ErrorKind::WouldBlock => {
            ": raise the limit of threads: LimitNPROC= (ulimit -u) for the user, TasksMax= (pids.max) for the service \
             or container, kernel.threads-max for the host"
        }
        io::ErrorKind::OutOfMemory => {
            ": raise the limit of memory: MemoryMax= (memory.max), or LimitAS= (ulimit -v)"
        }
        _ => "",
    }
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}
