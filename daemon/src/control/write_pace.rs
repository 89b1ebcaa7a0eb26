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
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::limits::{Pace, PaceMinimum};
use crate::sys;
use crate::telemetry::{Limit, Telemetry};

/// The interval at which it is checked how many bytes a client has taken while an answer waits.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A connection whose writes fail, and which is reset then, when its client takes less than the minimum.
pub(super) struct WritePace {
    stream: TcpStream,
    minimum: PaceMinimum,
    telemetry: Arc<Telemetry>,
    /// The state of a write that waits.
    waiting: Option<Box<Waiting>>,
}

struct Waiting {
    pace: Pace,
    looks: Interval,
}

impl WritePace {
    pub(super) fn new(stream: TcpStream, minimum: PaceMinimum, telemetry: Arc<Telemetry>) -> WritePace {
        WritePace { stream, minimum, telemetry, waiting: None }
    }

    /// Checks the pace while a write waits. Room for a good part of the socket's buffer is more than the minimum,
    /// so a client that makes that begins anew.
    fn pace<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let waiting = self.waiting.get_or_insert_with(|| {
            let mut looks = interval(LOOK_INTERVAL);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            Box::new(Waiting { pace: Pace::default(), looks })
        });
        while waiting.looks.poll_tick(context).is_ready() {
            if waiting.pace.wait(LOOK_INTERVAL, &self.minimum, || sys::transferred_bytes(&self.stream)) {
                self.telemetry.control.limited.add(Limit::Progress, 1);
                // The connection is reset: a part of an answer must not look like the whole, and the bytes left in
                // the socket are dropped too.
                let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                let reason = "the client took fewer than progress_bytes_min bytes a second";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)));
            }
        }
        Poll::Pending
    }
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
        this.pace(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
