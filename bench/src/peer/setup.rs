//! The set-up of peers, which the caller of this module chooses for all alike.

use std::path::PathBuf;

/// The set-up of peers.
#[derive(Clone, Debug)]
pub struct PeerSetup {
    /// The directory that all serve.
    pub root: PathBuf,
    /// The directory of their configurations and logs, with a directory for each.
    pub work_directory: PathBuf,
    /// The cores that they are pinned to; all cores where it is empty.
    pub cores: Vec<usize>,
    /// The worker threads or processes of each.
    pub workers: usize,
    /// The streamd that is run.
    pub streamd: PathBuf,
    /// The streamd that is run as `streamd-before`.
    pub streamd_before: Option<PathBuf>,
    /// Further arguments of streamd.
    pub streamd_arguments: Vec<String>,
    /// The uploads that they take; none by default.
    pub uploads: Option<UploadSetup>,
}

/// The uploads that peers are set up for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadSetup {
    /// The directories below the root that they go to; each may be a file system of its own.
    pub directories: Vec<String>,
    /// Whether they must be on the disk when they are answered.
    pub durable: bool,
}
