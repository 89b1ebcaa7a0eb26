//! The orderly end of a connection, the lingering close (RFC 9112 9.6). Closing a socket with unread bytes resets it,
//! and the reset throws away what is still on its way to the peer.

use super::connection::{Connection, Phase};
use super::context::Worker;
use super::error::TransferError;
use super::platform;
use crate::limits::{TICK, Tick};

/// Time that a peer gets to take its last answer and close, in milliseconds: a few round trips.
const LINGER_MS: u64 = 2_000;

/// Time after which even a peer that still takes bytes is left to the kernel, in milliseconds: a full send buffer
/// of 4 MiB (`net.ipv4.tcp_wmem`) at 1 Mbit/s.
const ACKNOWLEDGED_MS_MAX: u64 = 30_000;

/// The time that a peer gets where there is no room for others, in milliseconds: whoever was ended for them, or was
/// refused, doesn't keep them out.
const PRESSED_MS: u64 = 200;

/// Bytes that are taken of what nobody wants, so that a peer which sends a short body first and then looks for its
/// answer comes to that: what common clients and proxies send at once. A longer one stays in the socket, whose window
/// closes.
pub(super) const LINGER_BYTES_MAX: u64 = 64 << 10;

/// For a peer that may still be sending: ends our direction, drops at most `bytes_max` of what arrives, and waits until
/// the peer closes.
pub(super) async fn linger(worker: &Worker, connection: &Connection, bytes_max: u64) {
    connection.socket.finish();
    let end = End::after(worker, connection, LINGER_MS);
    let mut left = bytes_max.min(LINGER_BYTES_MAX);
    while left > 0 && !end.is_there() {
        match worker.discard(&connection.socket, left) {
            Ok(Some(0)) | Err(_) => return,
            Ok(Some(count)) => left = left.saturating_sub(count as u64),
            // Not for all of the time at once, since there may be no room for others by then.
            Ok(None) => {
                match connection.readable(Phase::Receiving, worker.clock.deadline(PRESSED_MS)).await {
                    Ok(()) | Err(TransferError::TimedOut) => {}
                    Err(_) => return,
                }
            }
        }
    }
    // A socket with bytes to receive is readable all the time, so its end is looked for now and then.
    while !connection.socket.has_peer_ended() && !end.is_there() {
        platform::sleep(TICK).await;
    }
}

/// For a peer that waits for nothing more: ends our direction and waits until it has acknowledged everything,
/// so that a request which it sends at this very moment can cost no byte of the last answer. A peer that merely
/// reads slowly is waited for.
pub(super) async fn wait_until_acknowledged(worker: &Worker, connection: &Connection) {
    connection.socket.finish();
    let end = End::after(worker, connection, ACKNOWLEDGED_MS_MAX);
    let mut unacknowledged_bytes = connection.socket.unacknowledged_bytes();
    let mut deadline = worker.clock.deadline(LINGER_MS);
    while unacknowledged_bytes > 0 && worker.clock.now() < deadline.tick && !end.is_there() {
        platform::sleep(TICK).await;
        let left_bytes = connection.socket.unacknowledged_bytes();
        if left_bytes < unacknowledged_bytes {
            deadline = worker.clock.deadline(LINGER_MS);
        }
        unacknowledged_bytes = left_bytes;
    }
}

/// When a connection is left to the kernel.
struct End<'a> {
    worker: &'a Worker,
    connection: &'a Connection,
    tick: Tick,
    tick_pressed: Tick,
}

impl<'a> End<'a> {
    fn after(worker: &'a Worker, connection: &'a Connection, time_ms: u64) -> End<'a> {
        let tick_pressed = worker.clock.deadline(PRESSED_MS).tick;
        End { worker, connection, tick: worker.clock.deadline(time_ms).tick, tick_pressed }
    }

    fn is_there(&self) -> bool {
        let now = self.worker.clock.now();
        let is_pressed = || self.connection.is_evicted() || self.worker.is_full();
        now >= self.tick || (now >= self.tick_pressed && is_pressed())
    }
}
