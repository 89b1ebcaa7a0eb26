//! Half-closed connections: clients that have ended their direction and wait for their answer, as `nc -N` does. A
//! client that has left altogether looks the same (TCP has one FIN for both), until something is sent: its host
//! answers with a reset.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep};

use crate::protocol::http1::response::CONTINUE;

/// The time between two tests whether the client is still there. Most answers come before the first.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The time that a reset gets to come back: a round trip.
const RESET_TIME: Duration = Duration::from_millis(200);

/// A test whether such a client is still there, by an interim answer that any client of HTTP/1.1 passes over (RFC
/// 9110 15.2.1). A client of HTTP/1.0 knows none, and is waited for.
pub(super) struct HalfClose {
    may_ask: bool,
    has_asked: bool,
    next: Pin<Box<Sleep>>,
}

impl HalfClose {
    /// Begins the tests, the first of them after an interval.
    pub(super) fn new(knows_interim_answers: bool) -> HalfClose {
        HalfClose { may_ask: knows_interim_answers, has_asked: false, next: Box::pin(sleep(LOOK_INTERVAL)) }
    }

    /// Ready once the client has left.
    pub(super) fn poll_left<S: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Error> {
        while self.may_ask {
            ready!(self.next.as_mut().poll(context));
            // A write of no bytes still tells the state of the connection (send(2)).
            let bytes = if self.has_asked { &[][..] } else { CONTINUE };
            match Pin::new(&mut *stream).poll_write(context, bytes) {
                Poll::Ready(Ok(count)) if count == bytes.len() => {
                    self.has_asked = !self.has_asked;
                    let pause = if self.has_asked { RESET_TIME } else { LOOK_INTERVAL };
                    self.next.as_mut().reset(Instant::now() + pause);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                // Half an interim answer must not be followed by another.
                Poll::Ready(Ok(_)) | Poll::Pending => self.may_ask = false,
            }
        }
        Poll::Pending
    }
}
