//! The listeners of the control plane, which are bounded, never spin and never end by an error.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;

use super::connection;
use super::head_deadline::RequestClock;
use super::listeners::Listeners;
use super::shared::Shared;
use super::slots::{Place, Slots};
use super::stream::Stream;
use crate::limits::Peer;
use crate::telemetry::Limit;

/// The pause after an error such as EMFILE: the connection that could not be taken stays in the queue, so an
/// immediate retry would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The pause where a descriptor was just given up for the connection: long enough for an evicted connection to be
/// closed.
const SPARED_PAUSE: Duration = Duration::from_millis(1);

/// The least time between two log lines about refused connections: whoever connects must not fill the log.
const REFUSAL_LINE_INTERVAL: Duration = Duration::from_secs(1);

/// The time in which running requests may finish when the plane stops. The data plane has drained by then, so that
/// an answer is only waiting to be written.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Accepts and serves until `stopped` says so or its sender is gone.
pub(super) async fn run(listeners: Listeners, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let slots = Slots::new(shared.descriptors(&shared.live()).control_connections_max);
    let spare = listeners.spare();
    let mut acceptor =
        Acceptor { listeners, slots, shared, spare, newcomer: None, is_failing: false, last_refusal: None };
    let mut connections = JoinSet::new();
    loop {
        if let Some((stream, peer)) = acceptor.placed_newcomer() {
            let clock = RequestClock::default();
            let Some(place) = acceptor.place(peer, &clock) else { continue };
            let (shared, stopped) = (Arc::clone(&acceptor.shared), stopped.clone());
            connections.spawn(async move {
                tokio::select! {
                    biased;
                    () = connection::serve(stream, peer, clock, shared, stopped) => {}
                    () = place.evicted() => tracing::debug!(%peer, "control connection closed for another"),
                }
            });
        }
        let waits = acceptor.newcomer.is_some();
        tokio::select! {
            biased;
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => {}
            // A connection that is busy now may be done by then.
            () = time::sleep(ACCEPT_PAUSE), if waits => {}
            newcomer = acceptor.accept(), if !waits => acceptor.newcomer = newcomer,
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
    listeners: Listeners,
    slots: Arc<Slots>,
    shared: Arc<Shared>,
    /// A descriptor kept for the moment in which there is no other.
    spare: Option<OwnedFd>,
    /// A connection that was accepted, and is served once there is room.
    newcomer: Option<(Stream, Peer)>,
    is_failing: bool,
    last_refusal: Option<Instant>,
}

impl Acceptor {
    /// Returns the next connection; None after an error and its pause. May be dropped at any await without losing
    /// a connection.
    async fn accept(&mut self) -> Option<(Stream, Peer)> {
        if self.spare.is_none() {
            self.spare = self.listeners.spare();
        }
        match self.listeners.accept().await {
            Ok(newcomer) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the control plane accepts connections again");
                }
                Some(newcomer)
            }
            Err(error) if is_of_the_connection(&error) => None,
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "the control plane can't accept connections and keeps trying");
                }
                // Where descriptors have run out, the next try has the spare one, and those of an idle connection.
                let has_spared = self.spare.take().is_some();
                if self.slots.evict_one() {
                    self.shared.telemetry.control.limited.add(Limit::Descriptors, 1);
                }
                time::sleep(if has_spared { SPARED_PAUSE } else { ACCEPT_PAUSE }).await;
                None
            }
        }
    }

    /// Returns the newcomer, if there is room for it now.
    fn placed_newcomer(&mut self) -> Option<(Stream, Peer)> {
        if self.newcomer.is_some() && self.slots.has_room() { self.newcomer.take() } else { None }
    }

    /// Takes a place for a newcomer, possibly another connection's; None where its address holds as many
    /// connections as it may.
    fn place(&mut self, peer: Peer, clock: &RequestClock) -> Option<Place> {
        let (shares, limited) = (&self.shared.shares, &self.shared.telemetry.control.limited);
        let live = self.shared.live();
        let of_address = live.settings.address_connections_max as u64;
        // The client that a proxy names is known with each request, not before.
        let holder = if peer.is_trusted(&live.proxies) { None } else { peer.group() };
        let Some(share) = shares.connections.take(holder, 1, of_address) else {
            limited.add(Limit::AddressConnections, 1);
            if self.last_refusal.is_none_or(|last| last.elapsed() >= REFUSAL_LINE_INTERVAL) {
                self.last_refusal = Some(Instant::now());
                let error = format!("its address holds {of_address}, which is address_connections_max");
                tracing::info!(%peer, error, "connection refused");
            }
            return None;
        };
        if self.slots.is_full() && self.slots.evict_one() {
            limited.add(Limit::ControlConnections, 1);
        }
        Some(self.slots.take(clock.clone(), share))
    }
}

/// Whether the error is one of the connection that accept(2) took off the queue: such errors need no pause.
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
        // The errors are, by accept(2), ECONNABORTED, ECONNRESET and EINTR; then EMFILE, ENFILE, ENOMEM and
        // ENOBUFS.
        assert!([103, 104, 4].map(Error::from_raw_os_error).iter().all(is_of_the_connection));
        assert!(![24, 23, 12, 105].map(Error::from_raw_os_error).iter().any(is_of_the_connection));
    }
}
