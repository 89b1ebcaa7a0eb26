//! One connection, seen as a non-blocking descriptor plus readiness from the event loop.
//!
//! Every socket is non-blocking from birth, on both drivers: calls are tried at once, and what would block
//! waits for readiness. A readiness wait that is dropped loses nothing, unlike a dropped ring receive, whose
//! bytes would be gone.

use std::cell::Cell;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::task::Poll;

use rustix::io::Errno;

use super::error::PeerGone;
use super::platform::{self, Stream};
use crate::limits::{Peer, TICK};

/// Bytes of a long body that gather before its worker is woken: dropping frames costs 0.47 of the CPU that it does at
/// 256 KiB. The kernel makes the receive buffer twice as large (tcp_set_rcvlowat), so more would cost memory.
pub(super) const GATHERED_BYTES: u32 = 1 << 20;

/// A connected socket. Closed when dropped.
pub(super) struct Socket {
    /// For calls that need no readiness.
    pub(super) stream: Stream,
    peer: Peer,
    readiness: Cell<Readiness>,
    /// Bytes that gather before a waiter is woken.
    low_water: Cell<u32>,
}

/// The knowledge of bytes to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// No events are delivered: the kernel is asked.
    Unwatched,
    /// There are none, since all were received; an event follows whatever comes next.
    Empty,
    /// There may be some.
    Readable,
    /// The peer has ended: receiving says so, now and always.
    Ended,
}

impl Socket {
    /// Takes over a descriptor that is non-blocking and close-on-exec already.
    pub(super) fn new(descriptor: OwnedFd, peer: Peer) -> std::io::Result<Socket> {
        let is_local = matches!(peer, Peer::Local(_));
        Stream::new(descriptor, is_local).map(|stream| Socket::over(stream, peer))
    }

    /// Takes over a stream.
    pub(super) fn over(stream: Stream, peer: Peer) -> Socket {
        Socket { stream, peer, readiness: Cell::new(Readiness::Unwatched), low_water: Cell::new(1) }
    }

    /// The other end.
    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// Waits until there is something to receive, or nothing ever will be. A socket whose readiness is delivered
    /// doesn't wake its waiter; who delivers it does.
    pub(super) async fn readable(&self) -> Result<(), PeerGone> {
        if self.readiness.get() == Readiness::Unwatched {
            return self.stream.readable().await.map_err(|_| PeerGone);
        }
        poll_fn(|_| match self.readiness.get() {
            Readiness::Empty => Poll::Pending,
            Readiness::Readable => {
                self.readiness.set(Readiness::Empty);
                Poll::Ready(Ok(()))
            }
            Readiness::Unwatched | Readiness::Ended => Poll::Ready(Ok(())),
        })
        .await
    }

    /// From now on its readiness is delivered by events.
    pub(super) fn use_events(&self) {
        self.readiness.set(Readiness::Empty);
    }

    /// Something has arrived, or the end has.
    pub(super) fn notify_readable(&self, is_end: bool) {
        if is_end {
            self.readiness.set(Readiness::Ended);
        } else if self.readiness.get() == Readiness::Empty {
            self.readiness.set(Readiness::Readable);
        }
    }

    /// From now on a waiter is woken for [`GATHERED_BYTES`] at once, or for each byte. Says whether bytes gather: where
    /// that was refused they don't.
    pub(super) fn gather(&self, wanted: bool) -> bool {
        self.gather_bytes(if wanted { GATHERED_BYTES } else { 1 })
    }

    /// [`Socket::gather`] of so many bytes, or of as many as the kernel holds.
    pub(super) fn gather_bytes(&self, bytes: u32) -> bool {
        if self.low_water.get() != bytes {
            let result = self.stream.set_receive_low_water(bytes);
            self.low_water.set(if result.is_ok() { bytes } else { 1 });
            // Too few to be told of until now.
            self.notify_readable(false);
        }
        self.low_water.get() > 1
    }

    /// Sorts what a receive into room for `room` bytes gave. A full buffer may have left bytes in the socket, and of
    /// those no further event tells: one comes with each arrival (EPOLLET, epoll(7)). Nor does one after a signal,
    /// though Linux lets none into a call that doesn't wait.
    fn received(&self, result: Result<usize, Errno>, room: usize) -> Result<Option<usize>, PeerGone> {
        if result == Ok(room) || result == Err(Errno::INTR) {
            self.notify_readable(false);
        }
        not_yet(result)
    }

    /// Waits until something can be sent, or nothing ever will be.
    pub(super) async fn writable(&self) -> Result<(), PeerGone> {
        self.stream.writable().await.map_err(|_| PeerGone)?;
        if self.stream.is_writable() {
            return Ok(());
        }
        // Boxed: what is rare must not take up room in every transfer.
        Box::pin(self.writable_past_half_close()).await
    }

    /// A ring's POLL_ADD always ends with the peer's half-close as well (IO_POLL_UNMASK holds EPOLLRDHUP, seen on
    /// 6.18), so behind one it says "writable" at once and for ever.
    async fn writable_past_half_close(&self) -> Result<(), PeerGone> {
        match self.stream.writable_alone().await {
            Some(result) => result.map_err(|_| PeerGone),
            None => {
                // Out of descriptors. Slow, but no spin.
                platform::sleep(TICK).await;
                Ok(())
            }
        }
    }

    /// Fills `buffer` with what has arrived, and says how much that is. None: nothing yet. 0: the peer has ended.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, PeerGone> {
        let room = buffer.len();
        self.received(self.stream.receive(buffer), room)
    }

    /// Drops up to `scratch.len()` bytes that have arrived.
    pub(super) fn try_discard(&self, scratch: &mut [u8]) -> Result<Option<usize>, PeerGone> {
        let room = scratch.len();
        self.received(self.stream.discard(scratch), room)
    }

    /// Whether the peer sends nothing more: it has ended in order, and all before has arrived, or broken off.
    pub(super) fn has_peer_ended(&self) -> bool {
        self.stream.has_peer_ended()
    }

    /// Tells whether nothing can be sent any more, since one side has broken the connection off.
    pub(super) fn is_broken_off(&self) -> bool {
        self.stream.is_broken()
    }

    /// Hands bytes to the kernel, as many as it takes. `more`: others follow at once, so that it needn't send a
    /// small segment for these.
    pub(super) fn try_send(&self, bytes: &[u8], more: bool) -> Result<Option<usize>, PeerGone> {
        not_yet(self.stream.send(bytes, more))
    }

    /// Holds back segments that aren't full (TCP_CORK), or releases them.
    pub(super) fn set_cork(&self, on: bool) {
        self.stream.set_cork(on);
    }

    /// Ends our direction: the peer sees an orderly close after the last byte.
    pub(super) fn finish(&self) {
        self.stream.finish();
    }

    /// Breaks the connection off: unsent bytes are dropped and the peer gets a reset, so that it can't take a
    /// part for the whole. Wakes whoever waits for the connection.
    pub(super) fn abort(&self) {
        self.stream.abort();
    }

    /// All has been said: closing is no breaking off any more, where it was meant to be one until then (SO_LINGER).
    pub(super) fn end_in_order(&self) {
        self.stream.end_in_order();
    }

    /// The error of a connect that has ended.
    pub(super) fn connect_error(&self) -> Result<(), Errno> {
        self.stream.connect_error()
    }

    /// Bytes that were sent and that the peer has not acknowledged.
    pub(super) fn unacknowledged_bytes(&self) -> u32 {
        self.stream.unacknowledged_bytes()
    }
}

/// Sorts a socket call's result: done, not yet, or the peer is gone. Every other error of a connected socket
/// (reset, timed out, unreachable, broken pipe) means the same to a transfer.
pub(super) fn not_yet(result: Result<usize, Errno>) -> Result<Option<usize>, PeerGone> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(_) => Err(PeerGone),
    }
}
