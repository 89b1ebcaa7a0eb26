//! The time limit on a request head, and the one on an idle connection.
//!
//! hyper has one limit for both, and closes without an answer. A proxy keeps idle connections for a minute (NGINX:
//! `keepalive_timeout`), and a connection that the server closes first loses the POST that the proxy was just
//! sending over it, so an idle connection must be kept longer than a half-sent head may hold one. And a head that
//! begins when a connection has long been idle has its own time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A shared record of when a connection's requests start and end.
#[derive(Clone, Default)]
pub(super) struct RequestClock(Arc<Clock>);

struct Clock {
    /// The number of starts and ends: odd within a request, even between two.
    ticks: AtomicU64,
    /// Whether the present request has a stream running.
    is_working: AtomicBool,
    started: Instant,
    /// The time at which a request last began or ended, in microseconds since `started`.
    last_us: AtomicU64,
    /// Whether part of the next head has come.
    has_next_begun: AtomicBool,
}

impl Default for Clock {
    fn default() -> Self {
        Clock {
            ticks: AtomicU64::new(0),
            is_working: AtomicBool::new(false),
            started: Instant::now(),
            last_us: AtomicU64::new(0),
            has_next_begun: AtomicBool::new(false),
        }
    }
}

/// A guard that lives as long as a request is being answered.
pub(super) struct InRequest(RequestClock);

impl RequestClock {
    /// Notes that a head has been read and its request begins.
    pub(super) fn start_request(&self) -> InRequest {
        self.0.tick();
        InRequest(self.clone())
    }

    /// Whether the client waits for a stream, which must not be ended for other connections.
    pub(super) fn is_working(&self) -> bool {
        self.0.is_working.load(Ordering::Relaxed)
    }

    /// Returns the time since a request last began or ended, or since the connection began.
    pub(super) fn since_last(&self) -> Duration {
        let last = Duration::from_micros(self.0.last_us.load(Ordering::Relaxed));
        self.0.started.elapsed().saturating_sub(last)
    }

    /// Whether no request has begun yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.now() == 0
    }

    /// Whether a request is being answered.
    pub(super) fn is_in_request(&self) -> bool {
        self.now() % 2 == 1
    }

    /// Notes whether part of a head has come and the rest is missing. It may have come together with the request
    /// before, so that reading alone doesn't tell.
    pub(super) fn tell_next(&self, has_begun: bool) {
        self.0.has_next_begun.store(has_begun, Ordering::Relaxed);
    }

    fn has_next_begun(&self) -> bool {
        self.0.has_next_begun.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.0.ticks.load(Ordering::Relaxed)
    }
}

impl Clock {
    fn tick(&self) {
        self.is_working.store(false, Ordering::Relaxed);
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_us.store(now, Ordering::Relaxed);
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }
}

impl InRequest {
    /// Notes that the request waits for a stream from now on.
    pub(super) fn begin_work(&self) {
        self.0.0.is_working.store(true, Ordering::Relaxed);
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        self.0.0.tick();
    }
}

/// A stream whose reads fail with `TimedOut` when a connection is idle for longer than its limit, and when a head takes
/// longer than its own, counted from the connection's start for the first head and from its first byte, or the end of
/// the request before, for the others.
pub(super) struct HeadDeadline<S> {
    stream: S,
    clock: RequestClock,
    head_timeout: Duration,
    idle_timeout: Duration,
    deadline: Pin<Box<Sleep>>,
    /// The value of the clock at which `deadline` was set for a head.
    armed_at: Option<u64>,
    /// The value of the clock at which `deadline` was set for an idle connection.
    idle_at: Option<u64>,
}

impl<S> HeadDeadline<S> {
    /// Starts the limit of the first head. Must be called within a runtime that has timers.
    pub(super) fn new(
        stream: S,
        clock: RequestClock,
        head_timeout: Duration,
        idle_timeout: Duration,
    ) -> HeadDeadline<S> {
        let armed_at = Some(clock.now());
        let deadline = Box::pin(sleep(head_timeout));
        HeadDeadline { stream, clock, head_timeout, idle_timeout, deadline, armed_at, idle_at: None }
    }

    fn arm(&mut self, now: u64) {
        if self.armed_at != Some(now) {
            self.armed_at = Some(now);
            self.deadline.as_mut().reset(Instant::now() + self.head_timeout);
        }
    }

    /// Starts the limit of an idle connection, unless it runs already or a head has begun.
    fn rest(&mut self, now: u64) {
        if self.armed_at != Some(now) && self.idle_at != Some(now) {
            self.idle_at = Some(now);
            self.deadline.as_mut().reset(Instant::now() + self.idle_timeout);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadDeadline<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let now = this.clock.now();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        let is_in_request = now % 2 == 1;
        // A head that comes whole needs no limit, and a timer that is brought forward costs more than one put off.
        if is_in_request || polled.is_ready() {
            return polled;
        }
        if this.clock.has_next_begun() {
            this.arm(now);
        } else {
            this.rest(now);
        }
        ready!(this.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request came in time")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadDeadline<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, io::Error>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<Result<usize, io::Error>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
