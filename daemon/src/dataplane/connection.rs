//! One open connection: who is served on it, what it waits for and until when.
//!
//! A connection has a deadline only while it waits, and waits only through [`Connection::readable`] and
//! [`Connection::writable`]. Deadlines are swept once a tick instead of armed one by one: to begin a wait costs a
//! few stores. The sweep interrupts a wait by waking its task, never by touching the socket, so what the kernel
//! still has to deliver is delivered.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::client::Client;
use super::clock::Deadline;
use super::error::{PeerGone, TransferError};
use super::socket::Socket;
use crate::limits::{AddressGroup, Holder, Pace, PaceMinimum, Peer, Share, Shares, TICK, Tick};

/// The event that a connection waits for.
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
    TooSlow,
    Evicted,
    Drained,
}

/// Names a connection: its place in the registry, and in the upper half a number that tells it from others that had or
/// will have the place.
pub(super) type Token = u64;

/// The way by which a connection came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Via {
    /// The place of its listener; any for a connection that the daemon made itself.
    pub(super) listener: u16,
    /// Whether its peer is a trusted proxy.
    pub(super) is_proxy: bool,
    /// Whether TCP paces what is sent on it.
    pub(super) is_paced: bool,
}

/// A connection and what it waits for.
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) who: Client,
    pub(super) via: Via,
    token: Token,
    phase: Cell<Phase>,
    deadline: Cell<Deadline>,
    /// Bytes that the peer had not acknowledged when the sweep last looked, within the same wait.
    unacknowledged_bytes: Cell<Option<u32>>,
    /// The pace of the peer while it was waited for in `paced_phase`.
    pace: Cell<Pace>,
    paced_phase: Cell<Phase>,
    /// Its part of its address's share; None for connections that the daemon made itself.
    share: RefCell<Option<Share>>,
    is_uploading: Cell<bool>,
    interrupt: Cell<Option<Interrupt>>,
    /// The daemon broke it off at the end of its drain.
    is_broken_off: Cell<bool>,
    /// It was ended for others.
    is_evicted: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Connection {
    /// One on which nothing is waited for yet.
    pub(super) fn new(socket: Socket, via: Via, token: Token) -> Connection {
        Connection {
            who: Client::of_peer(socket.peer(), via.is_proxy),
            socket,
            via,
            token,
            phase: Cell::new(Phase::Working),
            deadline: Cell::new(Deadline::NONE),
            unacknowledged_bytes: Cell::new(None),
            pace: Cell::default(),
            paced_phase: Cell::new(Phase::Working),
            share: RefCell::new(None),
            is_uploading: Cell::new(false),
            interrupt: Cell::new(None),
            is_broken_off: Cell::new(false),
            is_evicted: Cell::new(false),
            waker: Cell::new(None),
        }
    }

    /// Who is served.
    pub(super) fn client(&self) -> Peer {
        self.who.address()
    }

    /// Whom limits for each address count it as.
    pub(super) fn group(&self) -> Option<AddressGroup> {
        self.who.group()
    }

    /// Returns its name in the registry.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// Counts it for its client, and for whom it was counted before no longer. False: that address holds
    /// `connections_max` already.
    pub(super) fn take_share(&self, shares: &Arc<Shares>, connections_max: u64) -> bool {
        let mut share = self.share.borrow_mut();
        *share = None;
        *share = shares.take(self.group(), 1, connections_max);
        share.is_some()
    }

    /// For whom it is counted; None where it isn't.
    pub(super) fn holder(&self) -> Option<Holder> {
        self.share.borrow().as_ref().map(Share::holder)
    }

    /// Whether an upload is under way on it.
    pub(super) fn is_uploading(&self) -> bool {
        self.is_uploading.get()
    }

    pub(super) fn set_uploading(&self, is_uploading: bool) {
        self.is_uploading.set(is_uploading);
    }

    /// Whether it was ended to make room for others.
    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.get()
    }

    /// `error`, or who broke the connection off: what was just working sees only that it is gone.
    pub(super) fn blame(&self, error: TransferError) -> TransferError {
        match error {
            TransferError::PeerGone if self.is_broken_off.get() => TransferError::Drained,
            error => error,
        }
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
                Some(Interrupt::TooSlow) => Poll::Ready(Err(TransferError::TooSlow)),
                Some(Interrupt::Evicted) => Poll::Ready(Err(TransferError::Evicted)),
                Some(Interrupt::Drained) => Poll::Ready(Err(TransferError::Drained)),
                None => {
                    self.waker.set(Some(context.waker().clone()));
                    Poll::Pending
                }
            }
        })
        .await;
        self.phase.set(Phase::Working);
        self.deadline.set(Deadline::NONE);
        // An interrupt that came too late concerns nobody any more.
        self.interrupt.set(None);
        result
    }

    /// Something has arrived, or the end has.
    pub(super) fn notify_readable(&self, is_end: bool) {
        self.socket.notify_readable(is_end);
        // Whoever sends has a wait of its own.
        if matches!(self.phase.get(), Phase::Idle | Phase::Receiving)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// Ends it for others.
    pub(super) fn evict(&self) {
        self.is_evicted.set(true);
        self.interrupt(Interrupt::Evicted);
    }

    /// Interrupts it if it has waited for its next request for `ticks_min`.
    pub(super) fn close_if_idle(&self, now: Tick, ticks_min: u64) {
        if self.phase.get() == Phase::Idle && self.ticks_waited(now) >= ticks_min {
            self.interrupt(Interrupt::Drained);
        }
    }

    /// Interrupts whatever waits, and breaks it off: the daemon's drain is over.
    pub(super) fn break_off(&self) {
        self.is_broken_off.set(true);
        if self.phase.get() != Phase::Working {
            self.interrupt(Interrupt::Drained);
        }
        self.socket.abort();
    }

    fn interrupt(&self, interrupt: Interrupt) {
        self.deadline.set(Deadline::NONE);
        self.interrupt.set(Some(interrupt));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ticks since the present wait began; 0 where it has no deadline.
    fn ticks_waited(&self, now: Tick) -> u64 {
        let Deadline { tick, timeout_ticks } = self.deadline.get();
        now.since(tick.earlier_by(timeout_ticks))
    }

    /// Ticks that it has waited for its next request; None where it waits for something else, or is ended already.
    pub(super) fn idle_ticks(&self, now: Tick) -> Option<u64> {
        (self.phase.get() == Phase::Idle && self.interrupt.get().is_none()).then(|| self.ticks_waited(now))
    }

    /// Whether its peer has to move something now, and isn't given up yet.
    pub(super) fn is_waited_for(&self) -> bool {
        matches!(self.phase.get(), Phase::Receiving | Phase::Sending) && self.interrupt.get().is_none()
    }

    /// Returns the bytes a second that its peer moves while it is waited for; None where that time is too short.
    pub(super) fn bytes_a_second(&self) -> Option<u64> {
        self.pace.get().bytes_a_second(|| self.moved())
    }

    /// Whether that is less than the minimum, for so long that others may have its place.
    pub(super) fn is_below(&self, minimum: &PaceMinimum) -> bool {
        self.pace.get().is_below(minimum, || self.moved())
    }

    fn moved(&self) -> u64 {
        self.socket.stream.transferred_bytes()
    }

    /// Looks at its deadline and its pace, once a tick. True: its peer was given up for being too slow.
    pub(super) fn sweep(&self, now: Tick, minimum: &PaceMinimum) -> bool {
        let is_too_slow = match self.phase.get() {
            Phase::Idle => self.end_pace(),
            Phase::Receiving => self.note_pace(minimum),
            // Where all has been taken, nobody knows how fast more would be.
            Phase::Sending if self.note_progress(now) == 0 => self.end_pace(),
            Phase::Sending => self.note_pace(minimum),
            // Ours to end.
            Phase::Working => false,
        };
        if is_too_slow {
            self.interrupt(Interrupt::TooSlow);
        } else if self.deadline.get().tick <= now {
            self.interrupt(Interrupt::TimedOut);
        }
        is_too_slow
    }

    /// The peer has been waited for, for a tick more. True: it is too slow.
    fn note_pace(&self, minimum: &PaceMinimum) -> bool {
        let phase = self.phase.get();
        let mut pace =
            if self.paced_phase.replace(phase) == phase { self.pace.get() } else { Pace::default() };
        let is_too_slow = pace.wait(TICK, minimum, || self.moved());
        self.pace.set(pace);
        is_too_slow
    }

    fn end_pace(&self) -> bool {
        if !self.pace.get().is_new() {
            self.pace.set(Pace::default());
        }
        false
    }

    /// A socket becomes writable only when a third of its send buffer is free (sk_stream_is_writeable), which a
    /// slow peer may take long for; each byte that it acknowledges meanwhile is progress. Says how many it hasn't.
    fn note_progress(&self, now: Tick) -> u32 {
        let bytes = self.socket.unacknowledged_bytes();
        let before = self.unacknowledged_bytes.replace(Some(bytes));
        if before.is_some_and(|before| bytes < before) {
            let Deadline { timeout_ticks, .. } = self.deadline.get();
            self.deadline.set(Deadline { tick: now + timeout_ticks, timeout_ticks });
        }
        bytes
    }

    /// Whether it waits for its peer as it has to: with a deadline, and by a wait that is swept.
    #[cfg(test)]
    pub(super) fn has_deadline(&self, is_waited_for: bool) -> bool {
        match self.phase.get() {
            Phase::Working => !is_waited_for,
            _ => self.deadline.get().tick != Tick::NEVER || self.interrupt.get().is_some(),
        }
    }
}
