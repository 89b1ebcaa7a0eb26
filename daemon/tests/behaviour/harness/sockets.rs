//! Paths of Unix sockets, and curl as the client that talks to them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory for sockets, whose paths are short: 107 bytes are the most (unix(7)).
pub(crate) struct Sockets(tempfile::TempDir);

impl Sockets {
    pub(crate) fn new() -> Sockets {
        Sockets(tempfile::Builder::new().prefix("streamd-").tempdir_in("/tmp").unwrap())
    }

    /// Returns the path of a socket.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the address of a socket, as settings have it.
    pub(crate) fn address(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    /// Returns a table of a listener at a socket, with further lines.
    pub(crate) fn table(&self, name: &str, lines: &str) -> String {
        format!("[[listen]]\naddress = \"{}\"\n{lines}\n", self.address(name))
    }
}

/// Runs curl over a socket.
pub(crate) fn curl(socket: &Path, arguments: &[&str]) -> Output {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "90", "--unix-socket"]).arg(socket);
    curl.args(arguments).output().unwrap()
}

/// Runs curl over a socket, and returns what it prints.
#[track_caller]
pub(crate) fn curl_text(socket: &Path, arguments: &[&str]) -> String {
    let Output { stdout, stderr, .. } = curl(socket, arguments);
    assert!(stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
