//! Accepting: bounded, never spinning, never dying.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time;

use super::{Shared, connection};

/// How long accepting rests after an error such as EMFILE: the connection that could not be taken stays in
/// the queue, so an immediate retry would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What running requests get to finish when the plane stops. The data plane has drained by then, so that an
/// answer is only waiting to be written.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Accepts and serves until `stopped` says so or its sender is gone.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let connections_max = shared.live().settings.control_connections_max.min(Semaphore::MAX_PERMITS);
    let mut acceptor =
        Acceptor { listener, permits: Arc::new(Semaphore::new(connections_max)), is_failing: false };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = acceptor.accept() => {
                let Some((stream, peer, permit)) = accepted else { continue };
                let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
                connections.spawn(async move {
                    connection::serve(stream, peer, shared, stopped).await;
                    drop(permit);
                });
            }
        }
    }
    drop(acceptor);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if time::timeout(STOP_GRACE, all_ended).await.is_err() {
        tracing::debug!(connections = connections.len(), "control connections cut off");
    }
    connections.shutdown().await;
}

struct Acceptor {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    is_failing: bool,
}

impl Acceptor {
    /// The next connection once there is room for one; None after an error and its pause. May be dropped at
    /// any await without losing a connection.
    async fn accept(&mut self) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, peer)) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the control plane accepts connections again");
                }
                Some((stream, peer, permit))
            }
            Err(error) if is_of_the_connection(&error) => None,
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "the control plane can't accept connections and keeps trying");
                }
                time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

/// accept(2) hands over errors of the connection that it took off the queue: those need no pause.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::is_of_the_connection;

    #[test]
    fn only_errors_of_one_connection_go_without_a_pause() {
        // accept(2): ECONNABORTED, ECONNRESET and EINTR; then EMFILE, ENFILE, ENOMEM and ENOBUFS.
        assert!([103, 104, 4].map(Error::from_raw_os_error).iter().all(is_of_the_connection));
        assert!(![24, 23, 12, 105].map(Error::from_raw_os_error).iter().any(is_of_the_connection));
    }
}
