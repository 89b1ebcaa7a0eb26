//! Why the daemon could not start.

use std::io;
use std::path::PathBuf;

use super::unix_socket::UnixSocketError;
use crate::config::{ListenAddress, SharePath, listen_remedy, thread_remedy};
use crate::control::ControlError;
use crate::dataplane::DataPlaneError;
use crate::files::upload::UploadError;
use crate::files::{FileError, SpoolError, SyntheticError};
use crate::sandbox::SandboxError;
use crate::sys::uring::RingRefused;

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The root can't be opened.
    #[error("{}root {}: {reason}", of_share(share), path.display())]
    Root {
        /// The path of the share.
        share: SharePath,
        /// The path of the root.
        path: PathBuf,
        /// Why it can't be opened.
        reason: FileError,
    },
    /// A directory into which links may lead can't be opened.
    #[error("{}symlink_targets {targets}: {reason}", of_share(share))]
    SymlinkTargets {
        /// The path of the share.
        share: SharePath,
        /// The directories.
        targets: String,
        /// Why one can't be opened.
        reason: FileError,
    },
    /// Nothing can be uploaded below the root.
    #[error("{}uploads below {}: {reason}", of_share(share), path.display())]
    Uploads {
        /// The path of the share.
        share: SharePath,
        /// The path of the root.
        path: PathBuf,
        /// Why nothing can be uploaded.
        reason: UploadError,
    },
    /// The spool can't be used.
    #[error("spool {}: {reason}", path.display())]
    Spool {
        /// The path of the spool.
        path: PathBuf,
        /// Why it can't be used.
        reason: SpoolError,
    },
    /// The setting is `driver = "uring"` and the kernel refuses a ring.
    #[error("driver uring: {0}; --driver auto would fall back to epoll")]
    Driver(RingRefused),
    /// The rights that binding needed can't be given up.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// An address of the control plane can't be listened on.
    #[error("{key} {address}: {reason}{}", listen_remedy(key, .reason))]
    ControlListen {
        /// The setting that it stands in.
        key: &'static str,
        /// The address.
        address: ListenAddress,
        /// The error of the system.
        reason: io::Error,
    },
    /// A Unix socket can't be listened on.
    #[error("{key} {address}: {reason}")]
    UnixSocket {
        /// The setting that its path stands in.
        key: &'static str,
        /// Its path.
        address: ListenAddress,
        /// Why it can't be, and the remedy.
        reason: UnixSocketError,
    },
    /// The data plane could not start.
    #[error(transparent)]
    DataPlane(#[from] DataPlaneError),
    /// The control plane could not start.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The source of synthetic bytes could not be made.
    #[error("memory for synthetic streams: {0}")]
    Synthetic(SyntheticError),
    /// The thread that sweeps uploads could not be started.
    #[error("the thread that sweeps uploads can't be started: {0}{remedy}", remedy = thread_remedy(.0))]
    Sweeper(io::Error),
    /// The thread that looks after the roots could not be started.
    #[error("the thread that looks after the roots can't be started: {0}{remedy}", remedy = thread_remedy(.0))]
    RootWatch(io::Error),
    /// The thread that makes digests could not be started.
    #[error("the thread that makes digests can't be started: {0}{remedy}", remedy = thread_remedy(.0))]
    Digester(io::Error),
}

/// Begins an error of a share with its path. The share `/` is the only one of many nodes, and needs no name.
fn of_share(share: &SharePath) -> String {
    if *share == SharePath::root() { String::new() } else { format!("share {share}: ") }
}

impl DaemonError {
    /// Whether the configuration is at fault rather than the moment.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            DaemonError::Root { .. }
                | DaemonError::SymlinkTargets { .. }
                | DaemonError::Uploads { .. }
                | DaemonError::Spool { .. }
        )
    }

    /// Returns the errno of the system, where that is the cause.
    pub fn errno(&self) -> Option<i32> {
        match self {
            DaemonError::ControlListen { reason, .. }
            | DaemonError::DataPlane(
                DataPlaneError::Listen { reason, .. }
                | DataPlaneError::Thread { reason, .. }
                | DataPlaneError::EventLoop { reason, .. }
                | DataPlaneError::Disk(reason),
            )
            | DaemonError::Synthetic(SyntheticError::Failed(reason))
            | DaemonError::Sweeper(reason)
            | DaemonError::RootWatch(reason)
            | DaemonError::Digester(reason) => reason.raw_os_error(),
            DaemonError::UnixSocket { reason, .. } => reason.errno(),
            _ => None,
        }
    }
}
