//! Faults of a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::origin::Origin;

/// A fault of a setting, and its place; also used for warnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting, as its TOML key, or an unknown variable.
    pub setting: String,
    /// The origin of its value, if somebody gave one.
    pub origin: Option<Origin>,
    /// The fault and its remedy.
    pub reason: String,
}

impl Fault {
    /// Makes a fault of one setting.
    pub fn new(setting: &str, reason: impl Into<String>) -> Fault {
        Fault { setting: setting.to_owned(), origin: None, reason: reason.into() }
    }

    /// Adds the origin of the value; a default doesn't count.
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

/// The part of the file system that can be read while settings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All that the user may read.
    Everything,
    /// The part that the sandbox leaves.
    Sandbox,
}

/// Why no settings could be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {reason}{}", path.display(), remedy(.reason, *.reach))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The part of the file system that could be read.
        reach: Reach,
        /// The error of the system.
        reason: io::Error,
    },
    /// The file isn't TOML.
    #[error("{}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, the column and what was expected.
        reason: String,
    },
    /// Settings are unknown or out of range; all of them are listed.
    #[error("{}", list(.0))]
    Faults(Vec<Fault>),
}

/// Returns the remedy for a file or a directory that can't be read.
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

/// Returns the remedy for an address of `setting` that can't be listened on.
pub fn listen_remedy(setting: &str, error: &io::Error) -> String {
    let setting = if setting == "listen" { "address" } else { setting };
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

/// Returns the remedy for a thread that can't be started.
pub fn thread_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        // EAGAIN stands for a limit on the user's processes and threads, on those of the cgroup, or on those of
        // the host (pthread_create(3)).
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
