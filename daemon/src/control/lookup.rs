//! Look-ups of names: getaddrinfo(3) blocks, and behind a dead name server it does so for many seconds.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;

use tokio::sync::{Semaphore, oneshot};

use crate::config::thread_remedy;

/// The most threads that look names up. Further lookups wait their turn, within their own time-out.
const THREADS_MAX: usize = 8;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// The name servers, or the files of this host, have no address of the name, or gave an error.
    #[error(transparent)]
    Name(io::Error),
    /// No thread could be started for the lookup.
    #[error("no thread can be started to look a name up: {0}{remedy}", remedy = thread_remedy(.0))]
    NoThread(io::Error),
}

/// The lookups, each on a thread of its own: a pool's thread that can't be started would end the process (tokio's
/// does), and one that is kept would wait for names that seldom come.
pub(super) struct Lookups {
    turns: Arc<Semaphore>,
}

impl Default for Lookups {
    fn default() -> Lookups {
        Lookups { turns: Arc::new(Semaphore::new(THREADS_MAX)) }
    }
}

impl Lookups {
    /// Returns the addresses of a name. A lookup whose future is dropped goes on to its end, and has its turn
    /// until then.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
        let closed = |_| LookupError::Name(io::Error::other("the daemon stops"));
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(closed)?;
        let (found, answer) = oneshot::channel();
        let host = host.to_owned();
        let look = move || {
            let addresses = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
            drop(turn);
            // The receiver may be gone by now.
            let _ = found.send(addresses);
        };
        thread::Builder::new()
            .name("streamd-lookup".to_owned())
            .spawn(look)
            .map_err(LookupError::NoThread)?;
        answer.await.map_err(|error| LookupError::Name(io::Error::other(error)))?.map_err(LookupError::Name)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{LookupError, Lookups};

    #[test]
    fn names_have_addresses_and_what_is_none_has_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let lookups = Lookups::default();
        let found = runtime.block_on(lookups.addresses("localhost", 80)).unwrap();
        assert!(found.iter().any(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
        let none = runtime.block_on(lookups.addresses("no name", 80));
        assert!(matches!(none, Err(LookupError::Name(_))), "{none:?}");
    }

    #[test]
    fn what_to_do_for_a_thread_stands_in_its_error() {
        let error = LookupError::NoThread(io::Error::from_raw_os_error(libc::EAGAIN)).to_string();
        assert!(error.contains("LimitNPROC=") && error.contains("TasksMax="), "{error}");
    }
}
