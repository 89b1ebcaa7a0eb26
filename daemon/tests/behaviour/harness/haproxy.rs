//! The real HAProxy, which names its clients by the PROXY protocol.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::wait_until;

/// An address that HAProxy alone uses in these tests.
const FREE_PORT: &str = "127.77.0.2:0";

/// The most times that a port is chosen anew when another program was quicker.
const TRIES_MAX: usize = 5;

const PROGRAM: &str = "/usr/sbin/haproxy";

/// A running HAProxy, killed when the test ends.
pub(crate) struct HaProxy {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl HaProxy {
    /// Passes requests on to `server`, as its configuration spells one; the error says why there is no HAProxy.
    pub(crate) fn before(server: &str) -> Result<HaProxy, String> {
        if !Path::new(PROGRAM).exists() {
            return Err(format!("{PROGRAM} isn't there"));
        }
        let found = (0..TRIES_MAX).find_map(|_| HaProxy::start(server));
        Ok(found.unwrap_or_else(|| panic!("HAProxy does not start")))
    }

    fn start(server: &str) -> Option<HaProxy> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let address = TcpListener::bind(FREE_PORT).unwrap().local_addr().unwrap();
        let config = directory.path().join("haproxy.cfg");
        let text = format!(
            "defaults\n  mode http\n  timeout connect 30s\n  timeout client 60s\n  timeout server 60s\n\
             frontend clients\n  bind {address}\n  default_backend daemon\n\
             backend daemon\n  server daemon {server}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut started = Command::new(PROGRAM);
        started.arg("-db").arg("-f").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let mut proxy = HaProxy { child: started.spawn().unwrap(), address, _directory: directory };
        let mut has_ended = false;
        wait_until("HAProxy listening", || {
            has_ended = proxy.child.try_wait().unwrap().is_some();
            has_ended || TcpStream::connect(address).is_ok()
        });
        (!has_ended).then_some(proxy)
    }

    /// Returns the address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
