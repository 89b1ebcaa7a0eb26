//! The orderly end of a connection. Closing a socket with unread bytes resets it, and the reset throws away what
//! is still on its way to the peer.

use super::registry::{Connection, Phase};
use super::worker::{TICK, Worker};
use crate::sys;

/// Time that a peer gets to take its last answer and close, in milliseconds: a few round trips.
const LINGER_MS: u64 = 2_000;

/// Time after which even a peer that still takes bytes is left to the kernel, in milliseconds: a full send buffer
/// of 4 MiB (`net.ipv4.tcp_wmem`) at 1 Mbit/s.
const SETTLE_MS_MAX: u64 = 30_000;

/// For a peer that may still be sending: ends our direction and drops what arrives until the peer closes.
pub(super) async fn linger(worker: &Worker, connection: &Connection) {
    connection.socket.finish();
    let deadline = worker.clock.deadline(LINGER_MS);
    while worker.clock.ticks() < deadline.tick {
        let result = connection.socket.try_discard(&mut worker.discard.borrow_mut()[..]);
        match result {
            Ok(Some(0)) | Err(_) => return,
            Ok(Some(_)) => {}
            Ok(None) => {
                if connection.readable(Phase::Receiving, deadline).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// For a peer that waits for nothing more: ends our direction and waits until it has acknowledged everything,
/// so that a request which it sends at this very moment can cost no byte of the last answer. A peer that merely
/// reads slowly is waited for.
pub(super) async fn settle(worker: &Worker, connection: &Connection) {
    connection.socket.finish();
    let end = worker.clock.deadline(SETTLE_MS_MAX);
    let mut unacknowledged_bytes = sys::unacknowledged_bytes(&connection.socket);
    let mut patience = worker.clock.deadline(LINGER_MS);
    while unacknowledged_bytes > 0 && worker.clock.ticks() < patience.tick.min(end.tick) {
        monoio::time::sleep(TICK).await;
        let left_bytes = sys::unacknowledged_bytes(&connection.socket);
        if left_bytes < unacknowledged_bytes {
            patience = worker.clock.deadline(LINGER_MS);
        }
        unacknowledged_bytes = left_bytes;
    }
}
