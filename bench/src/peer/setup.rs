//! How peers are set up: as the caller of this module has it, for all alike.

use std::path::PathBuf;

/// How peers are set up.
#[derive(Clone, Debug)]
pub struct PeerSetup {
    /// The directory that all serve.
    pub root: PathBuf,
    /// Where their configurations and logs are written, in a directory for each.
    pub work_directory: PathBuf,
    /// Cores that they are pinned to; all cores where it is empty.
    pub cores: Vec<usize>,
    /// Worker threads or processes of each.
    pub workers: usize,
    /// The streamd to run.
    pub streamd: PathBuf,
    /// The streamd to run as `streamd-before`.
    pub streamd_before: Option<PathBuf>,
    /// Arguments that streamd gets besides those that it needs here.
    pub streamd_arguments: Vec<String>,
    /// Which uploads they take; none by default.
    pub uploads: Option<UploadSetup>,
}

/// Which uploads peers are set up for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadSetup {
    /// The directories below the root that they go to; each may be a file system of its own.
    pub directories: Vec<String>,
    /// Whether they must be on the disk when they are answered.
    pub durable: bool,
}
