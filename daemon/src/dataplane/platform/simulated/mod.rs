//! The platform of test builds: Linux as ever, or a simulation of it on a thread that plays one.

mod host;
mod seeded;
mod seeds;
mod wire;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;

use super::linux;
pub(in crate::dataplane) use host::{Entered, Host};
pub(in crate::dataplane) use seeded::Seeded;
pub(in crate::dataplane) use seeds::{Endings, play_seeds};
pub(in crate::dataplane) use wire::{End, Wire};

/// The bytes that a wait takes for the choice between a socket and a simulated one, which the daemon doesn't have.
pub(in crate::dataplane) const CHOICE_BYTES: usize = 24;

/// A connected socket.
pub(in crate::dataplane) enum Stream {
    Linux(linux::Stream),
    Simulated(Arc<Wire>),
}

/// Calls the same function of whichever it is.
macro_rules! either {
    ($stream:expr, $one:ident => $call:expr) => {
        match $stream {
            Stream::Linux($one) => $call,
            Stream::Simulated($one) => $call,
        }
    };
}

impl Stream {
    pub(in crate::dataplane) fn new(descriptor: OwnedFd, is_local: bool) -> io::Result<Stream> {
        linux::Stream::new(descriptor, is_local).map(Stream::Linux)
    }

    pub(in crate::dataplane) fn share(&self) -> io::Result<SharedStream> {
        match self {
            Stream::Linux(stream) => stream.share().map(SharedStream::Linux),
            Stream::Simulated(wire) => Ok(SharedStream::Simulated(Arc::clone(wire))),
        }
    }

    pub(in crate::dataplane) async fn readable(&self) -> io::Result<()> {
        either!(self, one => one.readable().await)
    }

    pub(in crate::dataplane) async fn writable(&self) -> io::Result<()> {
        either!(self, one => one.writable().await)
    }

    pub(in crate::dataplane) fn is_writable(&self) -> bool {
        either!(self, one => one.is_writable())
    }

    pub(in crate::dataplane) async fn writable_alone(&self) -> Option<io::Result<()>> {
        match self {
            Stream::Linux(stream) => stream.writable_alone().await,
            Stream::Simulated(wire) => wire.writable_alone().await,
        }
    }

    pub(in crate::dataplane) fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        either!(self, one => one.receive(buffer))
    }

    pub(in crate::dataplane) fn discard(&self, scratch: &mut [u8]) -> Result<usize, Errno> {
        either!(self, one => one.discard(scratch))
    }

    pub(in crate::dataplane) fn send(&self, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        match self {
            Stream::Linux(stream) => stream.send(bytes, more),
            Stream::Simulated(wire) => wire.send(bytes),
        }
    }

    pub(in crate::dataplane) fn send_both(&self, first: &[u8], second: &[u8]) -> Result<usize, Errno> {
        match self {
            Stream::Linux(stream) => stream.send_both(first, second),
            Stream::Simulated(wire) => wire.send(&[first, second].concat()),
        }
    }

    pub(in crate::dataplane) fn sendfile(
        &self,
        file: impl AsFd,
        offset: u64,
        bytes: usize,
    ) -> Result<usize, Errno> {
        either!(self, one => one.sendfile(file, offset, bytes))
    }

    pub(in crate::dataplane) fn empty_pipe(
        &self,
        pipe: BorrowedFd<'_>,
        bytes: usize,
        more: bool,
    ) -> Result<usize, Errno> {
        match self {
            Stream::Linux(stream) => stream.empty_pipe(pipe, bytes, more),
            Stream::Simulated(wire) => wire.empty_pipe(pipe, bytes),
        }
    }

    pub(in crate::dataplane) fn has_peer_ended(&self) -> bool {
        either!(self, one => one.has_peer_ended())
    }

    pub(in crate::dataplane) fn is_broken(&self) -> bool {
        either!(self, one => one.is_broken())
    }

    pub(in crate::dataplane) fn arrived_bytes(&self) -> u64 {
        either!(self, one => one.arrived_bytes())
    }

    pub(in crate::dataplane) fn unacknowledged_bytes(&self) -> u32 {
        either!(self, one => one.unacknowledged_bytes())
    }

    pub(in crate::dataplane) fn transferred_bytes(&self) -> u64 {
        either!(self, one => one.transferred_bytes())
    }

    pub(in crate::dataplane) fn set_receive_low_water(&self, bytes: u32) -> io::Result<()> {
        either!(self, one => one.set_receive_low_water(bytes))
    }

    pub(in crate::dataplane) fn set_cork(&self, on: bool) {
        if let Stream::Linux(stream) = self {
            stream.set_cork(on);
        }
    }

    pub(in crate::dataplane) fn finish(&self) {
        either!(self, one => one.finish());
    }

    pub(in crate::dataplane) fn abort(&self) {
        either!(self, one => one.abort());
    }

    pub(in crate::dataplane) fn end_in_order(&self) {
        if let Stream::Linux(stream) = self {
            stream.end_in_order();
        }
    }

    pub(in crate::dataplane) fn connect_error(&self) -> Result<(), Errno> {
        match self {
            Stream::Linux(stream) => stream.connect_error(),
            Stream::Simulated(_) => Ok(()),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Stream::Simulated(wire) = self {
            wire.close();
        }
    }
}

/// A socket for a disk thread.
#[derive(Clone)]
pub(in crate::dataplane) enum SharedStream {
    Linux(linux::SharedStream),
    Simulated(Arc<Wire>),
}

impl SharedStream {
    pub(in crate::dataplane) fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            SharedStream::Linux(stream) => stream.receive(buffer),
            SharedStream::Simulated(wire) => wire.receive(buffer),
        }
    }
}

/// The source of readiness events. In a simulation that is whoever plays it.
pub(in crate::dataplane) enum Events {
    Linux(linux::Events),
    Simulated,
}

impl Events {
    pub(in crate::dataplane) fn new() -> io::Result<Events> {
        match Host::current() {
            Some(_) => Ok(Events::Simulated),
            None => linux::Events::new().map(Events::Linux),
        }
    }

    pub(in crate::dataplane) fn add(&self, stream: &Stream, token: u64) -> bool {
        match (self, stream) {
            (Events::Linux(events), Stream::Linux(stream)) => events.add(stream, token),
            (Events::Simulated, Stream::Simulated(wire)) => wire.watch(token),
            _ => false,
        }
    }

    pub(in crate::dataplane) async fn readable(&self) -> io::Result<()> {
        match self {
            Events::Linux(events) => events.readable().await,
            Events::Simulated => std::future::pending().await,
        }
    }

    pub(in crate::dataplane) fn take(&self, each: impl FnMut(linux::Event)) {
        if let Events::Linux(events) = self {
            events.take(each);
        }
    }
}

pub(in crate::dataplane) async fn sleep(time: Duration) {
    match Host::current() {
        Some(host) => host.sleep(time).await,
        None => linux::sleep(time).await,
    }
}

pub(in crate::dataplane) fn spawn(task: impl Future<Output = ()> + 'static) {
    match Host::current() {
        Some(host) => host.spawn(task),
        None => linux::spawn(task),
    }
}

pub(in crate::dataplane) fn now() -> Instant {
    Host::current().map_or_else(linux::now, |host| host.now())
}

pub(in crate::dataplane) fn wall_clock() -> SystemTime {
    Host::current().map_or_else(linux::wall_clock, |host| host.wall_clock())
}
