//! Recipes: everything that is needed to start one peer.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::place::Place;

/// The seconds that idle connections stay open, for all peers alike. It is nginx's default and streamd's.
pub(super) const IDLE_TIMEOUT_S: u64 = 75;

/// A peer's support of uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadSupport {
    /// The peer takes no uploads.
    Refused,
    /// The peer takes PUT.
    Taken,
    /// The peer makes the bytes itself when asked to, and writes and syncs them, which shows the speed of the disk
    /// without a network.
    Made,
}

/// The way to start one peer, and the service that it then gives.
pub(super) struct Recipe {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
    pub(super) configuration: Option<Configuration>,
    pub(super) version_arguments: &'static [&'static str],
    pub(super) connections_max: u64,
    pub(super) control: Option<SocketAddr>,
    pub(super) frames: Option<SocketAddr>,
    pub(super) uploads: UploadSupport,
}

/// A configuration file, to be written before the start.
pub(super) struct Configuration {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Recipe {
    /// Makes a recipe that starts `program` without arguments; it says its version, takes all connections, and
    /// serves files alone.
    pub(super) fn new(place: &Place<'_>, program: PathBuf) -> Recipe {
        Recipe {
            program,
            arguments: Vec::new(),
            environment: Vec::new(),
            configuration: None,
            version_arguments: &["--version"],
            connections_max: place.connections_max(),
            control: None,
            frames: None,
            uploads: UploadSupport::Refused,
        }
    }
}
