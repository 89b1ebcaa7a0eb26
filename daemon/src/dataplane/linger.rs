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

/// Bytes that are taken of what nobody wants, so that a peer which sends a short body first and then looks for its
/// answer comes to that: what common clients and proxies send at once. A longer one stays in the socket, whose window
/// closes.
pub(super) const LINGER_BYTES_MAX: u64 = 64 << 10;

/// For a peer that may still be sending: ends our direction, drops at most `bytes_max` of what arrives, and waits until
/// the peer closes.
pub(super) async fn linger(worker: &Worker, connection: &Connection, bytes_max: u64) {
    connection.socket.finish();
    let deadline = worker.clock.deadline(LINGER_MS);
    let mut left = usize::try_from(bytes_max.min(LINGER_BYTES_MAX)).unwrap_or(0);
    while left > 0 && worker.clock.ticks() < deadline.tick {
        let result = connection.socket.try_discard(&mut worker.discard.borrow_mut()[..left]);
        match result {
            Ok(Some(0)) | Err(_) => return,
            Ok(Some(count)) => left -= count.min(left),
            Ok(None) => {
                if connection.readable(Phase::Receiving, deadline).await.is_err() {
                    return;
                }
            }
        }
    }
    // A socket with bytes to receive is readable all the time, so its end is looked for now and then.
    while !connection.socket.has_peer_ended() && worker.clock.ticks() < deadline.tick {
        monoio::time::sleep(TICK).await;
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
