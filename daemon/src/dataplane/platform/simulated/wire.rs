//! A simulated TCP connection: the daemon's socket on one side, its client on the other, and between them a kernel that
//! takes what a seed lets it take. What it does is what Linux does, as far as anybody above could tell.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use rustix::io::{Errno, pread, read};

use super::Seeded;

/// Most bytes that one call takes: what is beyond is a short count.
const CALL_BYTES_MAX: usize = 1 << 20;

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) enum End {
    /// In order, after its last byte.
    Finished,
    /// It was broken off.
    Reset,
}

/// One connection.
pub(in crate::dataplane) struct Wire(Mutex<State>);

struct State {
    seeded: Seeded,
    /// One of so many calls breaks the connection off; none where it is 0.
    resets_in: u64,
    /// One of so many reads of a file fails; none where it is 0.
    read_errors_in: u64,
    /// The bytes that have arrived and weren't received, and how the client ended.
    arrived: Vec<u8>,
    client_end: Option<End>,
    /// Whether the client is gone, so that whatever it is sent is answered with a reset.
    is_client_gone: bool,
    /// Whether the reset was told by a call.
    is_reset_told: bool,
    /// The bytes that were sent and that the client didn't take yet, of so many at most, and how the daemon ended.
    sent: Vec<u8>,
    sent_bytes_max: usize,
    daemon_end: Option<End>,
    is_end_acknowledged: bool,
    is_closed: bool,
    received_bytes: u64,
    acknowledged_bytes: u64,
    low_water: u32,
    readable: Wait,
    writable: Wait,
    token: Option<u64>,
    has_event: bool,
    /// Whether something was done to it that a client needn't bear.
    has_failed: bool,
}

/// Somebody waits for a side of it, or nobody.
#[derive(Default)]
struct Wait {
    waker: Option<Waker>,
    is_over: bool,
}

/// Which side is waited for.
#[derive(Clone, Copy)]
enum Side {
    Readable,
    Writable,
}

impl Wire {
    /// A connection whose socket holds so many bytes that weren't taken.
    pub(in crate::dataplane) fn new(
        seeded: Seeded,
        sent_bytes_max: usize,
        resets_in: u64,
        read_errors_in: u64,
    ) -> Arc<Wire> {
        Arc::new(Wire(Mutex::new(State {
            seeded,
            resets_in,
            read_errors_in,
            arrived: Vec::new(),
            client_end: None,
            is_client_gone: false,
            is_reset_told: false,
            sent: Vec::new(),
            sent_bytes_max,
            daemon_end: None,
            is_end_acknowledged: false,
            is_closed: false,
            received_bytes: 0,
            acknowledged_bytes: 0,
            low_water: 1,
            readable: Wait::default(),
            writable: Wait::default(),
            token: None,
            has_event: false,
            has_failed: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The daemon's side.
impl Wire {
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.wait(Side::Readable).await;
        Ok(())
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.wait(Side::Writable).await;
        Ok(())
    }

    pub(super) async fn writable_alone(&self) -> Option<io::Result<()>> {
        if self.lock().seeded.one_in(8) {
            return None;
        }
        loop {
            self.wait(Side::Writable).await;
            if self.is_writable() {
                return Some(Ok(()));
            }
        }
    }

    /// Waits until whoever plays says that it is over. A wait that is dropped loses nothing.
    async fn wait(&self, side: Side) {
        struct Forget<'a>(&'a Wire, Side);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                *self.0.lock().wait(self.1) = Wait::default();
            }
        }
        let _forget = Forget(self, side);
        poll_fn(|context| {
            let mut state = self.lock();
            let wait = state.wait(side);
            if wait.is_over {
                return Poll::Ready(());
            }
            wait.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(super) fn is_writable(&self) -> bool {
        self.lock().is_writable()
    }

    pub(super) fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.lock();
        let count = state.receive(buffer.len())?;
        buffer[..count].copy_from_slice(&state.arrived[..count]);
        state.arrived.drain(..count);
        Ok(count)
    }

    pub(super) fn discard(&self, scratch: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.lock();
        let count = state.receive(scratch.len())?;
        state.arrived.drain(..count);
        Ok(count)
    }

    pub(super) fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut state = self.lock();
        let count = state.room(bytes.len())?;
        state.sent.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    pub(super) fn sendfile(&self, file: impl AsFd, offset: u64, bytes: usize) -> Result<usize, Errno> {
        let mut state = self.lock();
        let count = state.room(bytes)?;
        if state.fails_to_read() {
            return Err(Errno::IO);
        }
        let mut buffer = vec![0; count];
        let count = pread(file, &mut buffer, offset)?;
        state.sent.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    pub(super) fn empty_pipe(&self, pipe: BorrowedFd<'_>, bytes: usize) -> Result<usize, Errno> {
        let mut state = self.lock();
        let count = state.room(bytes)?;
        let mut buffer = vec![0; count];
        let count = read(pipe, &mut buffer)?;
        state.sent.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    pub(super) fn has_peer_ended(&self) -> bool {
        let state = self.lock();
        state.client_end.is_some() || state.daemon_end == Some(End::Reset)
    }

    pub(super) fn is_broken(&self) -> bool {
        let state = self.lock();
        state.is_dead() || state.client_end.is_some() && state.daemon_end.is_some()
    }

    pub(super) fn arrived_bytes(&self) -> u64 {
        self.lock().arrived.len() as u64
    }

    pub(super) fn unacknowledged_bytes(&self) -> u32 {
        let state = self.lock();
        let of_end = usize::from(state.daemon_end == Some(End::Finished) && !state.is_end_acknowledged);
        u32::try_from(state.sent.len() + of_end).unwrap_or(u32::MAX)
    }

    pub(super) fn transferred_bytes(&self) -> u64 {
        let state = self.lock();
        state.received_bytes + state.acknowledged_bytes
    }

    pub(super) fn set_receive_low_water(&self, bytes: u32) -> io::Result<()> {
        let mut state = self.lock();
        if state.seeded.one_in(16) {
            return Err(Errno::INVAL.into());
        }
        state.low_water = bytes;
        state.tell_arrival();
        Ok(())
    }

    pub(super) fn finish(&self) {
        self.lock().daemon_end.get_or_insert(End::Finished);
    }

    pub(super) fn abort(&self) {
        self.lock().break_off();
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.token = None;
        // close(2) with unread bytes is a reset, which throws away what is on its way.
        if state.arrived.is_empty() {
            state.daemon_end.get_or_insert(End::Finished);
        } else {
            state.break_off();
        }
    }

    pub(super) fn watch(&self, token: u64) -> bool {
        let mut state = self.lock();
        if state.seeded.one_in(8) {
            return false;
        }
        state.token = Some(token);
        state.tell_arrival();
        true
    }
}

impl State {
    fn wait(&mut self, side: Side) -> &mut Wait {
        match side {
            Side::Readable => &mut self.readable,
            Side::Writable => &mut self.writable,
        }
    }

    fn is_dead(&self) -> bool {
        self.client_end == Some(End::Reset) || self.daemon_end == Some(End::Reset)
    }

    fn is_readable(&self) -> bool {
        self.arrived.len() >= self.low_water as usize || self.client_end.is_some() || self.is_dead()
    }

    fn is_writable(&self) -> bool {
        (self.sent_bytes_max.saturating_sub(self.sent.len())) * 3 >= self.sent_bytes_max || self.is_dead()
    }

    fn tell_arrival(&mut self) {
        self.has_event |= self.token.is_some() && self.is_readable();
    }

    fn receive(&mut self, bytes_max: usize) -> Result<usize, Errno> {
        if self.seeded.one_in(16) {
            return Err(Errno::INTR);
        }
        if self.daemon_end == Some(End::Reset) {
            return Err(Errno::NOTCONN);
        }
        if !self.arrived.is_empty() {
            let count = bytes_max.min(self.arrived.len());
            self.received_bytes += count as u64;
            return Ok(count);
        }
        match self.client_end {
            Some(End::Reset) if !std::mem::replace(&mut self.is_reset_told, true) => Err(Errno::CONNRESET),
            Some(_) => Ok(0),
            None => Err(Errno::AGAIN),
        }
    }

    /// How many of `bytes` bytes the socket takes.
    fn room(&mut self, bytes: usize) -> Result<usize, Errno> {
        if self.is_dead() || self.daemon_end.is_some() {
            return Err(Errno::PIPE);
        }
        if self.seeded.one_in(self.resets_in) {
            self.has_failed = true;
            self.client_end = Some(End::Reset);
            return Err(Errno::CONNRESET);
        }
        let room = self.sent_bytes_max.saturating_sub(self.sent.len()).min(CALL_BYTES_MAX);
        if self.seeded.one_in(12) {
            return Err(Errno::INTR);
        }
        if room == 0 {
            return Err(Errno::AGAIN);
        }
        if self.is_client_gone {
            self.client_end = Some(End::Reset);
        }
        let count = room.min(bytes);
        Ok(if self.seeded.one_in(4) { self.seeded.length(count) } else { count })
    }

    fn fails_to_read(&mut self) -> bool {
        let fails = self.seeded.one_in(self.read_errors_in);
        self.has_failed |= fails;
        fails
    }

    /// The daemon resets the connection: any part of what is on its way gets lost.
    fn break_off(&mut self) {
        if self.daemon_end != Some(End::Reset) {
            let kept = self.seeded.index(self.sent.len() + 1);
            self.sent.truncate(kept);
            self.daemon_end = Some(End::Reset);
        }
    }
}

/// The client's side, and whoever plays.
impl Wire {
    /// Bytes arrive. Whoever has closed by then answers with a reset.
    pub(in crate::dataplane) fn arrive(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.is_closed {
            state.break_off();
        }
        if !state.is_dead() {
            state.arrived.extend_from_slice(bytes);
            state.tell_arrival();
        }
    }

    /// The client sends no more.
    pub(in crate::dataplane) fn half_close(&self) {
        let mut state = self.lock();
        state.client_end.get_or_insert(End::Finished);
        state.tell_arrival();
    }

    /// The client closes: it takes no more either.
    pub(in crate::dataplane) fn leave(&self) {
        self.half_close();
        let mut state = self.lock();
        state.is_client_gone = true;
        state.sent.clear();
    }

    /// The client breaks off.
    pub(in crate::dataplane) fn reset(&self) {
        let mut state = self.lock();
        state.client_end = Some(End::Reset);
        state.is_client_gone = true;
        state.tell_arrival();
    }

    /// The client takes up to so many bytes.
    pub(in crate::dataplane) fn take(&self, bytes_max: usize) -> Vec<u8> {
        let mut state = self.lock();
        let count = bytes_max.min(state.sent.len());
        state.acknowledged_bytes += count as u64;
        let taken = state.sent.drain(..count).collect();
        if state.sent.is_empty() && state.daemon_end.is_some() {
            state.is_end_acknowledged = true;
        }
        taken
    }

    /// How the daemon ended, once all before that was taken.
    pub(in crate::dataplane) fn daemon_end(&self) -> Option<End> {
        let state = self.lock();
        if state.sent.is_empty() { state.daemon_end } else { None }
    }

    /// Bytes that are on their way to the daemon.
    pub(in crate::dataplane) fn window_bytes(&self) -> u64 {
        self.lock().arrived.len() as u64
    }

    /// Whether anybody waits for it.
    pub(in crate::dataplane) fn is_waited_for(&self) -> bool {
        let state = self.lock();
        state.readable.waker.is_some() || state.writable.waker.is_some()
    }

    /// Whether the socket was closed.
    pub(in crate::dataplane) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Bytes that the daemon received.
    pub(in crate::dataplane) fn received_bytes(&self) -> u64 {
        self.lock().received_bytes
    }

    /// Whether something was done to it that a client needn't bear.
    pub(in crate::dataplane) fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    /// Takes the event of an arrival: the token, and whether that is the end.
    pub(in crate::dataplane) fn take_event(&self) -> Option<(u64, bool)> {
        let mut state = self.lock();
        let is_told = std::mem::take(&mut state.has_event);
        let is_end = state.client_end.is_some() || state.is_dead();
        state.token.filter(|_| is_told).map(|token| (token, is_end))
    }

    /// Waits that have a reason to be over are: of one side, or of the other. `is_false_alarm`: so are those that have
    /// none. Says whether there was any.
    pub(in crate::dataplane) fn end_waits(&self, is_false_alarm: bool) -> bool {
        let mut state = self.lock();
        let is_readable = state.is_readable() || is_false_alarm;
        // A poll through the ring ends with the peer's half-close as well.
        let is_writable = state.is_writable() || state.client_end.is_some() || is_false_alarm;
        let mut wakers = Vec::new();
        for (side, is_over) in [(Side::Readable, is_readable), (Side::Writable, is_writable)] {
            let wait = state.wait(side);
            if is_over && let Some(waker) = wait.waker.take() {
                wait.is_over = true;
                wakers.push(waker);
            }
        }
        drop(state);
        let has_ended = !wakers.is_empty();
        wakers.into_iter().for_each(Waker::wake);
        has_ended
    }
}
