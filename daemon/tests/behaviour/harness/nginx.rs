//! The real nginx, to compare answers with, and as the proxy that many have in between.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::wait_until;

/// An address that nginx alone uses: nothing else in these tests can take the port between looking for a free one
/// and nginx listening on it.
const FREE_PORT: &str = "127.77.0.1:0";

/// The most times that a port is chosen anew when another program was quicker.
const TRIES_MAX: usize = 5;

/// A running nginx, killed when the test ends.
pub(crate) struct Nginx {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Nginx {
    /// Serves `root` with byte ranges and conditions; None where nginx isn't installed.
    ///
    /// `max_ranges` and `if_modified_since before` are how this daemon treats ranges and RFC 9110 dates; nginx's
    /// defaults are any number of ranges and the exact date.
    pub(crate) fn serving(root: &Path) -> Option<Nginx> {
        let root = root.display();
        Nginx::with("", &format!("root {root}; max_ranges 256; if_modified_since before;"))
    }

    /// Passes requests on to `address`, bodies as they come; None where nginx isn't installed.
    pub(crate) fn before(address: SocketAddr) -> Option<Nginx> {
        Nginx::with(
            &format!("upstream daemon {{ server {address}; keepalive 4; }}"),
            "client_max_body_size 0; location / { proxy_pass http://daemon; proxy_http_version 1.1; \
             proxy_set_header Host $http_host; \
             proxy_set_header Connection \"\"; proxy_request_buffering off; proxy_buffering off; }",
        )
    }

    /// Passes requests below `prefix`, which ends with a slash, on to `address` without it; None where nginx isn't
    /// installed.
    pub(crate) fn with_prefix(prefix: &str, address: SocketAddr) -> Option<Nginx> {
        Nginx::with(
            "",
            &format!("location {prefix} {{ proxy_pass http://{address}/; proxy_http_version 1.1; }}"),
        )
    }

    /// Passes requests below `prefix` on to a Unix socket, without the prefix; None where nginx isn't installed.
    pub(crate) fn before_socket(path: &Path, prefix: &str) -> Option<Nginx> {
        Nginx::with(
            &format!("upstream daemon {{ server unix:{}; keepalive 4; }}", path.display()),
            &format!(
                "client_max_body_size 0; location {prefix}/ {{ proxy_pass http://daemon/; proxy_http_version 1.1; \
                 proxy_set_header Connection \"\"; proxy_set_header Host localhost; proxy_set_header \
                 X-Forwarded-For $remote_addr; proxy_buffering off; }}"
            ),
        )
    }

    fn with(http: &str, server: &str) -> Option<Nginx> {
        let program = program()?;
        let start = |_| Nginx::start(&program, http, server);
        (0..TRIES_MAX).find_map(start).or_else(|| panic!("nginx does not start"))
    }

    fn start(program: &Path, http: &str, server: &str) -> Option<Nginx> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let address = TcpListener::bind(FREE_PORT).unwrap().local_addr().unwrap();
        let config = directory.path().join("nginx.conf");
        std::fs::write(&config, configuration(directory.path(), address, http, server)).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .arg("-p")
            .arg(directory.path())
            .arg("-e")
            .arg(directory.path().join("error.log"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut nginx = Nginx { child, address, _directory: directory };
        let mut has_ended = false;
        wait_until("nginx listening", || {
            has_ended = nginx.child.try_wait().unwrap().is_some();
            has_ended || TcpStream::connect(address).is_ok()
        });
        (!has_ended).then_some(nginx)
    }

    /// Returns the address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Finds nginx, which Debian installs where an ordinary user's PATH doesn't look.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    directories.map(|directory| directory.join("nginx")).find(|program| program.is_file())
}

/// Writes the configuration of one process under this test's user, which writes nowhere but below `directory`;
/// `http` and `server` are further directives of those blocks.
fn configuration(directory: &Path, address: SocketAddr, http: &str, server: &str) -> String {
    let directory = directory.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("    {name}_temp_path {directory}/{name};\n"))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\npid {directory}/pid;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n{temporary}    access_log off;\n    default_type application/octet-stream;\n    {http}\n    \
         server {{ listen {address}; {server} }}\n}}\n"
    )
}
