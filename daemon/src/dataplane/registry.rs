//! The open connections of a worker, each with what it waits for and until when.
//!
//! A connection has a deadline only while it waits, and waits only through [`Connection::readable`] and
//! [`Connection::writable`]. Deadlines are swept once a tick instead of armed one by one: to begin a wait costs a
//! few stores. The sweep interrupts a wait by waking its task, never by touching the socket, so what the kernel
//! still has to deliver is delivered.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker};

use slab::Slab;

use super::error::{PeerGone, TransferError};
use super::socket::Socket;
use crate::sys;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its next request or frame, of which nothing has come.
    Idle,
    /// The rest of a request head, a body or a frame.
    Receiving,
    /// The peer to take what was sent: any byte that it acknowledges is progress.
    Sending,
    /// Nothing of the peer: something of ours, such as a disk.
    Working,
}

/// Why the sweep interrupted a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupt {
    TimedOut,
    Drained,
}

/// Until when a wait may last, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    pub(super) tick: u64,
    /// Ticks that progress of the peer adds.
    pub(super) timeout_ticks: u64,
}

/// Names a connection: its place in the registry, and in the upper half a number that tells it from others that had or
/// will have the place.
type Token = u64;

/// A connection and what it waits for.
pub(super) struct Connection {
    pub(super) socket: Socket,
    token: Token,
    phase: Cell<Phase>,
    deadline: Cell<Deadline>,
    /// Bytes that the peer had not acknowledged when the sweep last looked, within the same wait.
    unacknowledged_bytes: Cell<Option<u32>>,
    interrupt: Cell<Option<Interrupt>>,
    waker: Cell<Option<Waker>>,
}

const NO_DEADLINE: Deadline = Deadline { tick: u64::MAX, timeout_ticks: 0 };

impl Connection {
    /// What names it in its registry.
    pub(super) fn token(&self) -> u64 {
        self.token
    }

    /// Waits until there is something to receive, or nothing ever will be.
    pub(super) fn readable(
        &self,
        phase: Phase,
        deadline: Deadline,
    ) -> impl Future<Output = Result<(), TransferError>> {
        self.begin_wait(phase, deadline);
        async { self.wait(pin!(self.socket.readable())).await }
    }

    /// Waits until the peer has taken enough for more to be sent.
    pub(super) fn writable(&self, deadline: Deadline) -> impl Future<Output = Result<(), TransferError>> {
        self.begin_wait(Phase::Sending, deadline);
        async { self.wait(pin!(self.socket.writable())).await }
    }

    /// Not part of the futures, in each of which it would take up room.
    fn begin_wait(&self, phase: Phase, deadline: Deadline) {
        self.phase.set(phase);
        self.deadline.set(deadline);
        self.unacknowledged_bytes.set(None);
    }

    /// Waits for `readiness`, until the deadline or the end of the daemon. A readiness wait that is dropped loses
    /// nothing; what is ready in the same turn as an interrupt wins.
    async fn wait(
        &self,
        mut readiness: Pin<&mut impl Future<Output = Result<(), PeerGone>>>,
    ) -> Result<(), TransferError> {
        let result = poll_fn(|context| {
            if let Poll::Ready(result) = readiness.as_mut().poll(context) {
                return Poll::Ready(result.map_err(TransferError::from));
            }
            match self.interrupt.take() {
                Some(Interrupt::TimedOut) => Poll::Ready(Err(TransferError::TimedOut)),
                Some(Interrupt::Drained) => Poll::Ready(Err(TransferError::Drained)),
                None => {
                    self.waker.set(Some(context.waker().clone()));
                    Poll::Pending
                }
            }
        })
        .await;
        self.phase.set(Phase::Working);
        self.deadline.set(NO_DEADLINE);
        // An interrupt that came too late concerns nobody any more.
        self.interrupt.set(None);
        result
    }

    fn interrupt(&self, interrupt: Interrupt) {
        self.deadline.set(NO_DEADLINE);
        self.interrupt.set(Some(interrupt));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ticks since the present wait began; 0 where it has no deadline.
    fn ticks_waited(&self, ticks: u64) -> u64 {
        let Deadline { tick, timeout_ticks } = self.deadline.get();
        ticks.saturating_sub(tick.saturating_sub(timeout_ticks))
    }

    fn sweep(&self, ticks: u64) {
        if self.phase.get() == Phase::Sending {
            self.note_progress(ticks);
        }
        if self.deadline.get().tick <= ticks {
            self.interrupt(Interrupt::TimedOut);
        }
    }

    /// A socket becomes writable only when a third of its send buffer is free (sk_stream_is_writeable), which a
    /// slow peer may take long for; each byte that it acknowledges meanwhile is progress.
    fn note_progress(&self, ticks: u64) {
        let now = sys::unacknowledged_bytes(&self.socket);
        let before = self.unacknowledged_bytes.replace(Some(now));
        if before.is_some_and(|before| now < before) {
            let Deadline { timeout_ticks, .. } = self.deadline.get();
            self.deadline.set(Deadline { tick: ticks.saturating_add(timeout_ticks), timeout_ticks });
        }
    }
}

/// All connections of a worker.
#[derive(Default)]
pub(super) struct Registry {
    connections: RefCell<Slab<Rc<Connection>>>,
    added: Cell<u32>,
}

impl Registry {
    /// Adds a connection, which stays until the guard is dropped.
    pub(super) fn add(self: &Rc<Self>, socket: Socket) -> Registered {
        let mut connections = self.connections.borrow_mut();
        let place = connections.vacant_entry();
        let key = place.key();
        self.added.set(self.added.get().wrapping_add(1));
        let connection = Rc::new(Connection {
            socket,
            token: u64::from(self.added.get()) << u32::BITS | key as u64,
            phase: Cell::new(Phase::Working),
            deadline: Cell::new(NO_DEADLINE),
            unacknowledged_bytes: Cell::new(None),
            interrupt: Cell::new(None),
            waker: Cell::new(None),
        });
        place.insert(Rc::clone(&connection));
        drop(connections);
        Registered { connection, registry: Rc::clone(self), key }
    }

    /// Tells the connection that `token` names of an arrival, if it is still there.
    pub(super) fn tell(&self, token: Token, is_end: bool) {
        let connections = self.connections.borrow();
        let key = usize::try_from(token & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        if let Some(connection) = connections.get(key).filter(|connection| connection.token == token) {
            connection.socket.arrived(is_end);
            // Whoever sends has a wait of its own.
            if matches!(connection.phase.get(), Phase::Idle | Phase::Receiving)
                && let Some(waker) = connection.waker.take()
            {
                waker.wake();
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Interrupts all that missed their deadline.
    pub(super) fn sweep(&self, ticks: u64) {
        for (_, connection) in self.connections.borrow().iter() {
            connection.sweep(ticks);
        }
    }

    /// Interrupts all that have waited for their next request for `ticks_min`.
    pub(super) fn close_idle(&self, ticks: u64, ticks_min: u64) {
        for (_, connection) in self.connections.borrow().iter() {
            if connection.phase.get() == Phase::Idle && connection.ticks_waited(ticks) >= ticks_min {
                connection.interrupt(Interrupt::Drained);
            }
        }
    }

    /// Interrupts all that wait, and breaks all connections off.
    pub(super) fn abort_all(&self) {
        for (_, connection) in self.connections.borrow().iter() {
            if connection.phase.get() != Phase::Working {
                connection.interrupt(Interrupt::Drained);
            }
            connection.socket.abort();
        }
    }
}

/// Keeps a connection in its registry.
pub(super) struct Registered {
    connection: Rc<Connection>,
    registry: Rc<Registry>,
    key: usize,
}

impl std::ops::Deref for Registered {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.connections.borrow_mut().remove(self.key);
    }
}
