//! The place of one peer: its directory and its addresses.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::process;
use super::setup::PeerSetup;

/// The connections that peers are set up for; more than any scenario opens.
const CONNECTIONS_MAX: u64 = 32_768;

/// The directory and the addresses of one peer, and the limits that hold there.
pub(super) struct Place<'a> {
    pub(super) setup: &'a PeerSetup,
    /// The peer's own directory, absolute.
    pub(super) directory: PathBuf,
    /// The root, absolute.
    pub(super) root: String,
    pub(super) http: SocketAddr,
    /// A second free address, for streamd's control plane or the ceiling's frames.
    pub(super) second: SocketAddr,
    /// The most files that a process may have open.
    pub(super) open_files_max: u64,
}

impl<'a> Place<'a> {
    /// Makes the directory of the peer `name`, and finds it two addresses.
    pub(super) fn new(name: &str, setup: &'a PeerSetup) -> Result<Place<'a>, String> {
        let directory = setup.work_directory.join(name);
        fs::create_dir_all(&directory)
            .map_err(|error| format!("can't create {}: {error}", directory.display()))?;
        let [http, second] =
            free_addresses().map_err(|error| format!("no free port on the loopback interface: {error}"))?;
        Ok(Place {
            setup,
            directory: PathBuf::from(plain_path(&directory)?),
            root: plain_path(&setup.root)?,
            http,
            second,
            open_files_max: process::open_files_max(),
        })
    }

    /// Returns the path of a file of the peer's own.
    pub(super) fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Returns the number of connections that it is set up for.
    pub(super) fn connections_max(&self) -> u64 {
        CONNECTIONS_MAX.min(self.open_files_max)
    }
}

/// Checks that a path needs no quoting: paths stand between double quotes in four kinds of configuration files,
/// none of which quotes alike.
fn plain_path(path: &Path) -> Result<String, String> {
    let absolute = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
    let text = absolute.to_str().ok_or_else(|| format!("{} is not UTF-8", absolute.display()))?;
    if text.chars().any(|character| character.is_control() || "\"'\\${};#`".contains(character)) {
        return Err(format!("{text:?} can't be written into a server's configuration: choose a plain path"));
    }
    Ok(text.to_owned())
}

/// Returns two addresses with ports that are free now.
fn free_addresses() -> std::io::Result<[SocketAddr; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([first.local_addr()?, second.local_addr()?])
}
