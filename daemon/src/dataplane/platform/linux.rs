//! Linux and monoio. Each function is one system call, or one wait.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use monoio::net::{TcpStream, UnixStream};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::sendfile;
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, connect_unspec, recv, send, sendmsg, shutdown,
    sockopt,
};
use rustix::pipe::{SpliceFlags, splice};

use crate::sys;

/// Events taken from the kernel in one call; what is left is there at the next.
const EVENTS_MAX: usize = 256;

/// The most bytes of a Unix socket that are dropped in one call. Other than TCP it copies them for that, so that what
/// they are copied to should stay in the core's cache.
const LOCAL_DISCARD_BYTES: usize = 64 << 10;

/// A connected socket that is non-blocking and close-on-exec: one of TCP, or a Unix socket, for which monoio has
/// another name and the same waits.
pub(in crate::dataplane) struct Stream {
    socket: TcpStream,
    /// What a Unix socket has moved, of which the kernel keeps no count; None for TCP.
    local: Option<Box<Moved>>,
}

/// The bytes that went through a Unix socket.
#[derive(Default)]
struct Moved {
    handed_over: Cell<u64>,
    received: Arc<AtomicU64>,
}

impl Stream {
    pub(in crate::dataplane) fn new(descriptor: OwnedFd, is_local: bool) -> io::Result<Stream> {
        let socket = TcpStream::from_std(descriptor.into())?;
        Ok(Stream { socket, local: is_local.then(Box::default) })
    }

    /// Returns a handle of the socket for a disk thread.
    pub(in crate::dataplane) fn share(&self) -> io::Result<SharedStream> {
        let received = self.local.as_ref().map(|moved| Arc::clone(&moved.received));
        let descriptor = self.as_fd().try_clone_to_owned()?;
        Ok(SharedStream(Arc::new(Shared { descriptor, received })))
    }

    /// Counts what was handed to the kernel, where it doesn't.
    fn handed_over(&self, result: Result<usize, Errno>) -> Result<usize, Errno> {
        if let (Some(moved), Ok(count)) = (&self.local, result) {
            moved.handed_over.set(moved.handed_over.get() + count as u64);
        }
        result
    }

    /// Counts what was received, where the kernel doesn't.
    fn received(&self, result: Result<usize, Errno>) -> Result<usize, Errno> {
        if let (Some(moved), Ok(count)) = (&self.local, result) {
            moved.received.fetch_add(count as u64, Ordering::Relaxed);
        }
        result
    }

    /// Waits until there is something to receive, or nothing ever will be. `false`: the epoll driver asks the kernel
    /// again instead of trusting what it remembers.
    pub(in crate::dataplane) fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.socket.readable(false)
    }

    /// Waits until something can be sent, or nothing ever will be. Behind a half-close this may be at once and in vain.
    pub(in crate::dataplane) fn writable(&self) -> impl Future<Output = io::Result<()>> {
        self.socket.writable(false)
    }

    pub(in crate::dataplane) fn is_writable(&self) -> bool {
        let mut sockets = [PollFd::new(self, PollFlags::OUT)];
        // Where poll fails the next send says why.
        poll(&mut sockets, Some(&Timespec::default())) != Ok(0)
    }

    /// [`Stream::writable`], which ends for nothing else, by an epoll instance that is readable when this socket is
    /// writable or broken. None: there is no descriptor for one. monoio waits for any descriptor that poll(2) knows,
    /// whatever it is called.
    pub(in crate::dataplane) async fn writable_alone(&self) -> Option<io::Result<()>> {
        let waiter = epoll::create(CreateFlags::CLOEXEC).ok()?;
        epoll::add(&waiter, self, EventData::new_u64(0), EventFlags::OUT).ok()?;
        let waiter = UnixStream::from_std(waiter.into()).ok()?;
        Some(waiter.readable(false).await)
    }

    pub(in crate::dataplane) fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.received(recv(self, buffer, RecvFlags::empty()).map(|(_, count)| count))
    }

    /// Drops up to `scratch.len()` bytes that have arrived, inside the kernel: with MSG_TRUNC, TCP counts bytes without
    /// copying them (tcp(7), Linux 2.4), so `scratch` only lends its length. A Unix socket copies them.
    pub(in crate::dataplane) fn discard(&self, scratch: &mut [u8]) -> Result<usize, Errno> {
        let length =
            if self.local.is_some() { scratch.len().min(LOCAL_DISCARD_BYTES) } else { scratch.len() };
        self.received(recv(self, &mut scratch[..length], RecvFlags::TRUNC).map(|(_, count)| count))
    }

    /// Hands bytes to the kernel, and says how many it took. `more`: others follow at once.
    pub(in crate::dataplane) fn send(&self, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        let more = if more { SendFlags::MORE } else { SendFlags::empty() };
        self.handed_over(send(self, bytes, SendFlags::NOSIGNAL | more))
    }

    pub(in crate::dataplane) fn send_both(&self, first: &[u8], second: &[u8]) -> Result<usize, Errno> {
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        let sent = sendmsg(self, &pieces, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL);
        self.handed_over(sent)
    }

    /// Hands bytes of a file to the kernel. The offset is ours, not the file's: one descriptor serves many transfers.
    pub(in crate::dataplane) fn sendfile(
        &self,
        file: impl AsFd,
        mut offset: u64,
        bytes: usize,
    ) -> Result<usize, Errno> {
        self.handed_over(sendfile(self, file, Some(&mut offset), bytes))
    }

    /// Hands bytes that a pipe holds to the kernel.
    pub(in crate::dataplane) fn empty_pipe(
        &self,
        pipe: BorrowedFd<'_>,
        bytes: usize,
        more: bool,
    ) -> Result<usize, Errno> {
        let more = if more { SpliceFlags::MORE } else { SpliceFlags::empty() };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK | more;
        self.handed_over(splice(pipe, None, self, None, bytes, flags))
    }

    /// Whether the peer sends nothing more: it has ended in order, or broken off. HUP and ERR are told in any case:
    /// poll(2).
    pub(in crate::dataplane) fn has_peer_ended(&self) -> bool {
        let mut sockets = [PollFd::new(self, PollFlags::RDHUP)];
        poll(&mut sockets, Some(&Timespec::default())) != Ok(0)
    }

    /// Whether both directions are over, or the connection is broken. HUP and ERR are told in any case: poll(2).
    pub(in crate::dataplane) fn is_broken(&self) -> bool {
        poll(&mut [PollFd::new(self, PollFlags::empty())], Some(&Timespec::default())) != Ok(0)
    }

    /// Bytes that have arrived and not been received; 0 where the kernel doesn't say.
    pub(in crate::dataplane) fn arrived_bytes(&self) -> u64 {
        ioctl_fionread(self).unwrap_or(0)
    }

    /// Bytes that were sent and that the peer has not acknowledged. Of a Unix socket it is the memory of what the peer
    /// hasn't received, which goes by pieces of some 64 KiB (sock_wfree).
    pub(in crate::dataplane) fn unacknowledged_bytes(&self) -> u32 {
        sys::unacknowledged_bytes(self)
    }

    /// Bytes that the peer has acknowledged and bytes that have come from it.
    pub(in crate::dataplane) fn transferred_bytes(&self) -> u64 {
        let Some(moved) = &self.local else { return sys::transferred_bytes(self) };
        let taken = moved.handed_over.get().saturating_sub(self.unacknowledged_bytes().into());
        taken + moved.received.load(Ordering::Relaxed) + self.arrived_bytes()
    }

    /// Bytes that have to be there before a waiter is woken.
    pub(in crate::dataplane) fn set_receive_low_water(&self, bytes: u32) -> io::Result<()> {
        if self.local.is_some() {
            // It could be set, and nobody would heed it (unix_poll, Linux 6.18).
            return Err(io::ErrorKind::Unsupported.into());
        }
        sys::set_receive_low_water(self, bytes)
    }

    /// Holds back segments that aren't full (TCP_CORK), or releases them. A socket that refuses has been reset; the
    /// next send says so.
    pub(in crate::dataplane) fn set_cork(&self, on: bool) {
        if self.local.is_none() {
            let _ = sockopt::set_tcp_cork(self, on);
        }
    }

    /// Ends our direction.
    pub(in crate::dataplane) fn finish(&self) {
        let _ = shutdown(self, Shutdown::Write);
    }

    /// Resets the connection, and wakes whoever waits for it. A Unix socket knows no reset: its peer gets what was sent
    /// and then the end, ahead of the length that it was told.
    pub(in crate::dataplane) fn abort(&self) {
        // Dissolving the association resets it (connect(2), AF_UNSPEC; seen on 6.18). A shutdown would send a
        // FIN ahead of the reset, and a peer that is reading takes that for an orderly end.
        if self.local.is_some() || connect_unspec(self).is_err() {
            let _ = sockopt::set_socket_linger(self, Some(Duration::ZERO));
            let _ = shutdown(self, Shutdown::Both);
        }
    }

    /// Closing it is no breaking off, whatever was said before (SO_LINGER).
    pub(in crate::dataplane) fn end_in_order(&self) {
        let _ = sockopt::set_socket_linger(self, None);
    }

    /// The error of a connect that has ended.
    pub(in crate::dataplane) fn connect_error(&self) -> Result<(), Errno> {
        sockopt::socket_error(self).and_then(|result| result)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        sys::borrow(&self.socket)
    }
}

/// A socket for whoever receives of it on a disk thread.
#[derive(Clone)]
pub(in crate::dataplane) struct SharedStream(Arc<Shared>);

struct Shared {
    descriptor: OwnedFd,
    /// The bytes that were received, where the kernel doesn't count them.
    received: Option<Arc<AtomicU64>>,
}

impl SharedStream {
    /// Never waits.
    pub(in crate::dataplane) fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let count = recv(&self.0.descriptor, buffer, RecvFlags::DONTWAIT).map(|(_, count)| count)?;
        if let Some(received) = &self.0.received {
            received.fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(count)
    }
}

/// That something has arrived on a stream, or its end has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) struct Event {
    /// The token that the stream was added with.
    pub(in crate::dataplane) token: u64,
    pub(in crate::dataplane) is_end: bool,
}

/// An epoll instance that tells of arrivals, once each.
pub(in crate::dataplane) struct Events {
    /// monoio waits for any descriptor that poll(2) knows, whatever it is called.
    epoll: UnixStream,
    events: RefCell<Vec<epoll::Event>>,
}

impl Events {
    pub(in crate::dataplane) fn new() -> io::Result<Events> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let events = RefCell::new(Vec::with_capacity(EVENTS_MAX));
        Ok(Events { epoll: UnixStream::from_std(epoll.into())?, events })
    }

    /// From now on it tells of a stream, and of what is there already. False: the kernel refused.
    pub(in crate::dataplane) fn add(&self, stream: &Stream, token: u64) -> bool {
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(sys::borrow(&self.epoll), stream, EventData::new_u64(token), flags).is_ok()
    }

    /// Waits until there are some.
    pub(in crate::dataplane) fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.epoll.readable(false)
    }

    /// Takes those that are there.
    pub(in crate::dataplane) fn take(&self, mut each: impl FnMut(Event)) {
        let mut events = self.events.borrow_mut();
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(sys::borrow(&self.epoll), room, Some(&Timespec::default())) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => tracing::error!(%errno, "epoll_wait failed"),
        }
        for epoll::Event { flags, data } in events.iter().copied() {
            let is_end = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            each(Event { token: data.u64(), is_end });
        }
    }
}

/// Waits for so long.
pub(in crate::dataplane) fn sleep(time: Duration) -> impl Future<Output = ()> {
    monoio::time::sleep(time)
}

/// Runs a task beside the others of this thread.
pub(in crate::dataplane) fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(task));
}

/// The monotonic clock.
pub(in crate::dataplane) fn now() -> Instant {
    Instant::now()
}

/// The wall clock.
pub(in crate::dataplane) fn wall_clock() -> SystemTime {
    SystemTime::now()
}
