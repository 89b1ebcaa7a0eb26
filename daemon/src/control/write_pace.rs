//! The minimum of progress of clients that read an answer.
//!
//! An answer that fits into the socket is the kernel's. With a longer one hyper waits for room, and a client that
//! reads a byte now and then would keep its connection, and the answer in memory, for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::stream::Stream;
use crate::limits::{Pace, PaceMinimum};
use crate::sys;
use crate::telemetry::{Limit, Telemetry};

/// The interval at which it is checked how many bytes a client has taken while an answer waits.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A connection whose writes fail, and which is reset then, when its client takes less than the minimum.
pub(super) struct WritePace {
    stream: Stream,
    /// The time after which a peer that takes nothing is given up, where TCP doesn't see to that.
    send_timeout: Duration,
    /// The bytes that were written, of which the kernel keeps no count for a Unix socket.
    written: u64,
    minimum: PaceMinimum,
    telemetry: Arc<Telemetry>,
    /// The state of a write that waits.
    waiting: Option<Box<Waiting>>,
}

struct Waiting {
    pace: Pace,
    /// The bytes that the client of a Unix socket had taken when it last took some, and how long that is ago.
    taken: u64,
    silent: Duration,
    looks: Interval,
}

impl WritePace {
    pub(super) fn new(
        stream: Stream,
        send_timeout: Duration,
        minimum: PaceMinimum,
        telemetry: Arc<Telemetry>,
    ) -> WritePace {
        WritePace { stream, send_timeout, written: 0, minimum, telemetry, waiting: None }
    }

    /// Counts what was written.
    fn wrote(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &polled {
            self.written += *count as u64;
        }
        polled
    }

    /// Resets the connection: a part of an answer must not look like the whole, and the bytes left in the socket are
    /// dropped too. A Unix socket just ends.
    fn give_up(&self, reason: &'static str) -> io::Error {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        io::Error::new(io::ErrorKind::TimedOut, reason)
    }

    /// Checks the pace while a write waits. Room for a good part of the socket's buffer is more than the minimum,
    /// so a client that makes that begins anew.
    fn pace<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let (stream, written) = (&self.stream, self.written);
        let moved = || transferred_bytes(stream, written);
        let waiting = self.waiting.get_or_insert_with(|| {
            let mut looks = interval(LOOK_INTERVAL);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            Box::new(Waiting { pace: Pace::default(), taken: 0, silent: Duration::ZERO, looks })
        });
        while waiting.looks.poll_tick(context).is_ready() {
            if waiting.pace.wait(LOOK_INTERVAL, &self.minimum, moved) {
                self.telemetry.control.limited.add(Limit::Progress, 1);
                let reason = "the client took fewer than progress_bytes_min bytes a second";
                return Poll::Ready(Err(self.give_up(reason)));
            }
            if stream.is_unix() && waiting.is_silent_for(moved()) >= self.send_timeout {
                return Poll::Ready(Err(self.give_up("the client took nothing for send_timeout_ms")));
            }
        }
        Poll::Pending
    }
}

impl Waiting {
    /// Says for how long the client of a Unix socket has taken nothing, by what it has taken now.
    fn is_silent_for(&mut self, taken: u64) -> Duration {
        let is_silent = std::mem::replace(&mut self.taken, taken) == taken;
        self.silent = if is_silent { self.silent + LOOK_INTERVAL } else { Duration::ZERO };
        self.silent
    }
}

/// Returns the bytes that a client has taken, of the `written` ones and those that it sent where TCP counts them.
fn transferred_bytes(stream: &Stream, written: u64) -> u64 {
    if stream.is_unix() {
        return written.saturating_sub(sys::unacknowledged_bytes(stream).into());
    }
    sys::transferred_bytes(stream)
}

impl AsyncRead for WritePace {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WritePace {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        let polled = this.wrote(polled);
        this.pace(context, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, pieces);
        let polled = this.wrote(polled);
        this.pace(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
