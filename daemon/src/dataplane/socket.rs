//! One TCP connection, seen as a non-blocking descriptor plus readiness from the event loop.
//!
//! Every socket is non-blocking from birth, on both drivers: calls are tried at once, and what would block
//! waits for readiness. A readiness wait that is dropped loses nothing, unlike a dropped ring receive, whose
//! bytes would be gone.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::Poll;
use std::time::Duration;

use monoio::net::{TcpStream, UnixStream};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, connect_unspec, recv, send, sendmsg, shutdown,
    sockopt,
};

use super::error::PeerGone;
use crate::limits::TICK;
use crate::sys;

/// Bytes of a long body that gather before its worker is woken: dropping frames costs 0.47 of the CPU that it does at
/// 256 KiB. The kernel makes the receive buffer twice as large (tcp_set_rcvlowat), so more would cost memory.
pub(super) const GATHERED_BYTES: u32 = 1 << 20;

/// A connected socket. Closed when dropped.
pub(super) struct Socket {
    stream: TcpStream,
    peer: SocketAddr,
    readiness: Cell<Readiness>,
    /// Bytes that gather before a waiter is woken.
    low_water: Cell<u32>,
}

/// What is known of bytes to receive.
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
    pub(super) fn new(descriptor: OwnedFd, peer: SocketAddr) -> std::io::Result<Socket> {
        let stream = TcpStream::from_std(descriptor.into())?;
        Ok(Socket { stream, peer, readiness: Cell::new(Readiness::Unwatched), low_water: Cell::new(1) })
    }

    /// The other end.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Waits until there is something to receive, or nothing ever will be. A socket whose readiness is delivered
    /// doesn't wake its waiter; who delivers it does.
    pub(super) async fn readable(&self) -> Result<(), PeerGone> {
        if self.readiness.get() == Readiness::Unwatched {
            // `false`: the epoll driver asks the kernel again instead of trusting what it remembers.
            return self.stream.readable(false).await.map_err(|_| PeerGone);
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
            let result = sys::set_receive_low_water(self, bytes);
            self.low_water.set(if result.is_ok() { bytes } else { 1 });
            // Too few to be told of until now.
            self.notify_readable(false);
        }
        self.low_water.get() > 1
    }

    /// Sorts what a receive into room for `room` bytes gave. A full buffer may have left bytes in the socket, and of
    /// those no further event tells: one comes with each arrival (EPOLLET, epoll(7)).
    fn received(&self, result: Result<usize, Errno>, room: usize) -> Result<Option<usize>, PeerGone> {
        if result == Ok(room) {
            self.notify_readable(false);
        }
        not_yet(result)
    }

    /// Waits until something can be sent, or nothing ever will be.
    pub(super) async fn writable(&self) -> Result<(), PeerGone> {
        self.stream.writable(false).await.map_err(|_| PeerGone)?;
        if self.is_writable() {
            return Ok(());
        }
        // Boxed: what is rare must not take up room in every transfer.
        Box::pin(self.writable_past_half_close()).await
    }

    fn is_writable(&self) -> bool {
        let mut sockets = [PollFd::new(self, PollFlags::OUT)];
        // Where poll fails the next send says why.
        poll(&mut sockets, Some(&Timespec::default())) != Ok(0)
    }

    /// A ring's POLL_ADD always ends with the peer's half-close as well (IO_POLL_UNMASK holds EPOLLRDHUP, seen on
    /// 6.18), so behind one it says "writable" at once and for ever. An epoll of its own waits for the rest alone.
    async fn writable_past_half_close(&self) -> Result<(), PeerGone> {
        let Ok(waiter) = self.waiter() else {
            // Out of descriptors. Slow, but no spin.
            monoio::time::sleep(TICK).await;
            return Ok(());
        };
        waiter.readable(false).await.map_err(|_| PeerGone)
    }

    /// An epoll instance that is readable when this socket is writable or broken. monoio waits for any descriptor
    /// that poll(2) knows, whatever it is called.
    fn waiter(&self) -> std::io::Result<UnixStream> {
        let waiter = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&waiter, self, epoll::EventData::new_u64(0), epoll::EventFlags::OUT)?;
        UnixStream::from_std(waiter.into())
    }

    /// Fills `buffer` with what has arrived, and says how much that is. None: nothing yet. 0: the peer has ended.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, PeerGone> {
        let room = buffer.len();
        self.received(recv(self, buffer, RecvFlags::empty()).map(|(_, count)| count), room)
    }

    /// Drops up to `scratch.len()` bytes that have arrived, inside the kernel: with MSG_TRUNC, TCP counts bytes
    /// without copying them (tcp(7), Linux 2.4), so `scratch` only lends its length.
    pub(super) fn try_discard(&self, scratch: &mut [u8]) -> Result<Option<usize>, PeerGone> {
        let room = scratch.len();
        self.received(recv(self, scratch, RecvFlags::TRUNC).map(|(_, count)| count), room)
    }

    /// Whether the peer sends nothing more: it has ended in order, and all before has arrived, or broken off.
    pub(super) fn has_peer_ended(&self) -> bool {
        let mut sockets = [PollFd::new(self, PollFlags::RDHUP)];
        // HUP and ERR are told in any case: poll(2).
        poll(&mut sockets, Some(&Timespec::default())) != Ok(0)
    }

    /// Tells whether nothing can be sent any more, since one side has broken the connection off.
    pub(super) fn is_broken_off(&self) -> bool {
        // HUP and ERR are told in any case: poll(2).
        poll(&mut [PollFd::new(self, PollFlags::empty())], Some(&Timespec::default())) != Ok(0)
    }

    /// Hands bytes to the kernel, as many as it takes. `more`: others follow at once, so that it needn't send a
    /// small segment for these.
    pub(super) fn try_send(&self, bytes: &[u8], more: bool) -> Result<Option<usize>, PeerGone> {
        not_yet(self.send(bytes, more))
    }

    /// [`Socket::try_send`] with what the system said of it.
    pub(super) fn send(&self, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        let more = if more { SendFlags::MORE } else { SendFlags::empty() };
        send(self, bytes, SendFlags::NOSIGNAL | more)
    }

    /// Hands two pieces to the kernel in one call, as much of them as it takes. An error is what the system said of it.
    pub(super) fn send_both(&self, first: &[u8], second: &[u8]) -> Result<usize, Errno> {
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        sendmsg(self, &pieces, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
    }

    /// Holds back segments that aren't full (TCP_CORK), or releases them.
    pub(super) fn set_cork(&self, on: bool) {
        // A socket that refuses has been reset; the next send says so.
        let _ = sockopt::set_tcp_cork(self, on);
    }

    /// Ends our direction: the peer sees an orderly close after the last byte.
    pub(super) fn finish(&self) {
        let _ = shutdown(self, Shutdown::Write);
    }

    /// Breaks the connection off: unsent bytes are dropped and the peer gets a reset, so that it can't take a
    /// part for the whole. Wakes whoever waits for the connection.
    pub(super) fn abort(&self) {
        // Dissolving the association resets it (connect(2), AF_UNSPEC; seen on 6.18). A shutdown would send a
        // FIN ahead of the reset, and a peer that is reading takes that for an orderly end.
        if connect_unspec(self).is_err() {
            let _ = sockopt::set_socket_linger(self, Some(Duration::ZERO));
            let _ = shutdown(self, Shutdown::Both);
        }
    }

    /// All has been said: closing is no breaking off any more, where it was meant to be one until then (SO_LINGER).
    pub(super) fn end_in_order(&self) {
        let _ = sockopt::set_socket_linger(self, None);
    }

    /// The error of a connect that has ended.
    pub(super) fn connect_error(&self) -> Result<(), Errno> {
        sockopt::socket_error(self).and_then(|result| result)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        sys::borrow(&self.stream)
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
