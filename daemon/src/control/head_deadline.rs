//! The time limit on a request head, apart from the limit on an idle connection.
//!
//! hyper has one limit for both. A proxy keeps idle connections for a minute (NGINX: `keepalive_timeout`),
//! and a connection that the server closes first loses the POST that the proxy was just sending over it, so
//! an idle connection must be kept longer than a half-sent head may hold one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Tells when a connection's requests start and end: odd within a request, even between two.
#[derive(Clone, Default)]
pub(super) struct RequestClock(Arc<AtomicU64>);

/// A request is being answered as long as this lives.
pub(super) struct InRequest(RequestClock);

impl RequestClock {
    /// The head has been read.
    pub(super) fn start_request(&self) -> InRequest {
        self.0.fetch_add(1, Ordering::Relaxed);
        InRequest(self.clone())
    }

    /// Whether no request has begun yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.now() == 0
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stream whose reads fail with `TimedOut` when a head takes longer than its limit, counted from the
/// connection's start for the first head and from its first byte for the others.
pub(super) struct HeadDeadline<S> {
    stream: S,
    clock: RequestClock,
    head_timeout: Duration,
    deadline: Pin<Box<Sleep>>,
    /// The clock's value between whose ticks `deadline` holds.
    armed_at: Option<u64>,
}

impl<S> HeadDeadline<S> {
    /// Starts the limit of the first head. Must be called within a runtime that has timers.
    pub(super) fn new(stream: S, clock: RequestClock, head_timeout: Duration) -> HeadDeadline<S> {
        let armed_at = Some(clock.now());
        HeadDeadline { stream, clock, head_timeout, deadline: Box::pin(sleep(head_timeout)), armed_at }
    }

    fn arm(&mut self, now: u64) {
        if self.armed_at != Some(now) {
            self.armed_at = Some(now);
            self.deadline.as_mut().reset(Instant::now() + self.head_timeout);
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
        let filled_before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        let is_in_request = now % 2 == 1;
        if is_in_request {
            return polled;
        }
        if polled.is_ready() {
            if buffer.filled().len() > filled_before {
                this.arm(now);
            }
            return polled;
        }
        if this.armed_at != Some(now) {
            return Poll::Pending;
        }
        ready!(this.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request head was not complete in time")))
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
