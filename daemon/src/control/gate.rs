//! The strict reader before hyper: requests are judged by the data plane's rules, so that both planes refuse the
//! same ones, and hyper reads only bytes with one possible meaning.
//!
//! Bytes go into hyper's own buffer and are judged there; a copy of them is kept only of a head that hasn't come
//! whole. In place of a refused request hyper gets [`REFUSED_TARGET`], which no client can ask for: so the refusal
//! is answered in its turn behind the requests before it, and is counted like any other answer.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::half_close::HalfClose;
use super::head_deadline::RequestClock;
use crate::protocol::detect::{TLS_ALERT, tell_tls};
use crate::protocol::http1::chunked::ChunkError;
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::framing::{BodyEnd, Framed, frame};
use crate::protocol::http1::glimpse::Glimpse;
use crate::protocol::name::escape_for_log;

/// The target that hyper reads in place of a refused request: an asterisk (RFC 9112 3.2.4), which the strict
/// reader takes from nobody.
pub(super) const REFUSED_TARGET: &str = "*";

const REFUSED: &[u8] = b"GET * HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";
/// The replacement of a refused HEAD, which is answered without a body whatever is wrong with it.
const REFUSED_HEAD: &[u8] = b"HEAD * HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";

/// The most bytes that are read and dropped at a connection's end, as on the data plane: closing a socket with
/// unread bytes resets it, and the reset throws away the answer that is on its way.
const LINGER_BYTES_MAX: usize = 64 << 10;
/// The time for which those bytes are waited for: a few round trips.
const LINGER: Duration = Duration::from_secs(2);

/// Why a connection brings no further request.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The bytes are no valid request.
    Request(RequestError),
    /// The head was not complete in time.
    Late,
    /// The head was not complete when the client ended its direction.
    Ended,
    /// The client speaks TLS, and has been told so in TLS.
    Tls,
}

/// A refused request: the reason, and its readable parts for the log.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: Refusal,
    pub(super) method: Option<String>,
    /// The path without its query, escaped.
    pub(super) path: Option<String>,
    /// The client's id of the request.
    pub(super) id: Option<Box<str>>,
}

impl Refused {
    fn of(why: Refusal, glimpse: &Glimpse<'_>) -> Refused {
        let path = glimpse.target.and_then(|target| target.split(|byte| *byte == b'?').next());
        Refused {
            why,
            method: glimpse.method.map(str::to_owned),
            path: path.map(escape_for_log),
            id: glimpse.caller.as_ref().and_then(|caller| caller.id.clone()),
        }
    }
}

/// The hand-over of a refusal from the gate to the service.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<Mutex<Option<Refused>>>);

impl Verdict {
    /// Takes the refusal that the request for [`REFUSED_TARGET`] stands for.
    pub(super) fn take(&self) -> Option<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, refused: Refused) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
    }
}

/// A stream that hands on to hyper only bytes that were judged.
pub(super) struct Gate<S> {
    stream: S,
    clock: RequestClock,
    verdict: Verdict,
    /// Whether no byte has come yet.
    is_fresh: bool,
    /// The rest of the body behind the last head.
    body: BodyEnd,
    /// Whether the last head was of HTTP/1.0.
    is_http10: bool,
    /// Whether all bytes that hyper wanted to send so far have been sent.
    is_all_sent: bool,
    /// The bytes that were received and not handed on.
    held: Vec<u8>,
    /// How many of them may be handed on.
    judged: usize,
    stage: Stage,
}

enum Stage {
    Open,
    /// The client has ended its direction, and waits for its answer.
    HalfClosed(HalfClose),
    /// Nothing further is read for hyper.
    Refused,
    /// The end of a body can't be found. hyper is told of a broken connection, and tells the body's reader.
    Broken(ChunkError),
    /// Our direction has ended; the peer's is read to its end.
    Lingering {
        left: usize,
        end: Pin<Box<Sleep>>,
    },
}

/// The result of judging some bytes.
struct Judged {
    /// How many of the bytes may be handed on.
    passed: usize,
    /// The fault in the bytes behind them.
    fault: Option<Fault>,
}

enum Fault {
    Head(RequestError),
    Body(ChunkError),
}

impl<S> Gate<S> {
    pub(super) fn new(stream: S, clock: RequestClock, verdict: Verdict) -> Gate<S> {
        Gate {
            stream,
            clock,
            verdict,
            is_fresh: true,
            body: BodyEnd::Reached,
            is_http10: false,
            is_all_sent: true,
            held: Vec::new(),
            judged: 0,
            stage: Stage::Open,
        }
    }

    /// Judges bytes that follow those that were handed on.
    fn judge(&mut self, bytes: &mut [u8]) -> Judged {
        let mut passed = 0;
        loop {
            match self.body.skip(&bytes[passed..]) {
                Ok(count) => passed += count,
                Err(error) => return Judged { passed, fault: Some(Fault::Body(error)) },
            }
            if passed == bytes.len() || !self.body.is_reached() {
                return Judged { passed, fault: None };
            }
            match frame(&bytes[passed..]).and_then(check_target) {
                Ok(None) => return Judged { passed, fault: None },
                Ok(Some(framed)) => {
                    self.body = BodyEnd::of(framed.body);
                    let (line_end, head_bytes) = (passed + framed.line_bytes, framed.head_bytes);
                    self.is_http10 = bytes[..line_end].ends_with(b"1.0");
                    spell_version(&mut bytes[..line_end]);
                    passed += head_bytes;
                }
                Err(error) => return Judged { passed, fault: Some(Fault::Head(error)) },
            }
        }
    }

    /// Lets hyper read nothing but the refusal from now on.
    fn refuse(&mut self, refusal: Refusal) {
        let glimpse = Glimpse::of(&self.held[self.judged..]);
        let is_head = glimpse.is_head();
        self.verdict.set(Refused::of(refusal, &glimpse));
        self.held.truncate(self.judged);
        self.held.extend_from_slice(if is_head { REFUSED_HEAD } else { REFUSED });
        self.judged = self.held.len();
        self.stage = Stage::Refused;
    }

    /// Hands on judged bytes, as far as there is room.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.judged.min(buffer.remaining());
        buffer.put_slice(&self.held[..count]);
        self.held.drain(..count);
        self.judged -= count;
        if self.held.is_empty() {
            // An idle connection needs no memory for this.
            self.held = Vec::new();
        }
    }

    /// Whether the connection begins with TLS, by the bytes behind the first `before`; `None` where too few have
    /// come to decide, which are held then.
    fn tell_tls(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> Option<bool> {
        if !self.is_fresh {
            return Some(false);
        }
        let came = &buffer.filled()[before..];
        let mut told = tell_tls(came).filter(|_| self.held.is_empty());
        if told.is_none() {
            self.held.extend_from_slice(came);
            buffer.set_filled(before);
            told = tell_tls(&self.held);
        }
        self.is_fresh = told.is_none();
        told
    }

    /// Judges the bytes that have just come into `buffer` behind `before` others, and leaves there those that may
    /// be handed on.
    fn take(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let judged = if self.held.is_empty() {
            let judged = self.judge(&mut buffer.filled_mut()[before..]);
            self.held.extend_from_slice(&buffer.filled()[before + judged.passed..]);
            buffer.set_filled(before + judged.passed);
            judged
        } else {
            self.held.extend_from_slice(&buffer.filled()[before..]);
            buffer.set_filled(before);
            let mut held = std::mem::take(&mut self.held);
            let judged = self.judge(&mut held);
            self.held = held;
            self.judged = judged.passed;
            judged
        };
        match judged.fault {
            None => {}
            Some(Fault::Head(error)) => self.refuse(Refusal::Request(error)),
            Some(Fault::Body(error)) => self.stage = Stage::Broken(error),
        }
        self.hand_on(buffer);
    }
}

/// Refuses targets with other bytes than a URI may have (RFC 3986 2), and hyper takes.
fn check_target(framed: Option<Framed<'_>>) -> Result<Option<Framed<'_>>, RequestError> {
    let Some(found) = &framed else { return Ok(None) };
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/?".contains(byte);
    let target = found.target;
    if target.starts_with(b"/") && target.iter().all(is_usual) || Uri::try_from(target).is_ok() {
        return Ok(framed);
    }
    Err(RequestError::TargetBytes { target: escape_for_log(target) })
}

/// Changes HTTP/1.2 and later to HTTP/1.1, as which they are answered (RFC 9110 2.5), and which is all that hyper
/// knows.
fn spell_version(line: &mut [u8]) {
    if let Some(minor @ b'2'..=b'9') = line.last_mut() {
        *minor = b'1';
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gate<S> {
    /// Refuses a TLS client in TLS; hyper is told that the connection has ended.
    fn refuse_tls(&mut self, context: &mut Context<'_>) {
        // Nothing was sent on the connection yet, so there is room. If the write fails the peer is gone.
        let _ = Pin::new(&mut self.stream).poll_write(context, &TLS_ALERT);
        self.verdict.set(Refused::of(Refusal::Tls, &Glimpse::of(&[])));
        self.stage = Stage::Refused;
    }

    /// Receives once into `buffer`. Ready without a byte in it means that there is more to receive first.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Received>> {
        let before = buffer.filled().len();
        self.clock.tell_next(!self.held.is_empty());
        match ready!(Pin::new(&mut self.stream).poll_read(context, buffer)) {
            Ok(()) if buffer.filled().len() == before => return Poll::Ready(Ok(self.end(buffer))),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut && self.has_head_begun() => {
                self.refuse(Refusal::Late);
                self.hand_on(buffer);
                return Poll::Ready(Ok(Received::Bytes));
            }
            Err(error) => return Poll::Ready(Err(error)),
        }
        match self.tell_tls(buffer, before) {
            Some(true) => {
                buffer.set_filled(before);
                self.held.clear();
                self.refuse_tls(context);
                return Poll::Ready(Ok(Received::End));
            }
            Some(false) => self.take(buffer, before),
            None => {}
        }
        Poll::Ready(Ok(Received::Bytes))
    }

    /// Whether part of a head has come. An empty line or two may end a body (RFC 9112 2.2): those begin no head.
    fn has_head_begun(&self) -> bool {
        !self.held.iter().all(|byte| b"\r\n".contains(byte))
    }

    /// Handles the end of the client's direction.
    fn end(&mut self, buffer: &mut ReadBuf<'_>) -> Received {
        if self.held.is_empty() && self.body.is_reached() && self.clock.is_in_request() {
            self.stage = Stage::HalfClosed(HalfClose::new(!self.is_http10 && self.is_all_sent));
            return Received::Bytes;
        }
        if !self.has_head_begun() {
            return Received::End;
        }
        self.refuse(Refusal::Ended);
        self.hand_on(buffer);
        Received::Bytes
    }

    /// Ends our direction, and reads the peer's until it closes, where it may still be sending.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Stage::Lingering { left, end } = &mut self.stage else {
                ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
                self.stage = Stage::Lingering { left: LINGER_BYTES_MAX, end: Box::pin(sleep(LINGER)) };
                continue;
            };
            let mut room = [0; 4096];
            let mut buffer = ReadBuf::new(&mut room);
            let polled = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
            let count = buffer.filled().len();
            match polled {
                Poll::Ready(Ok(())) if count > 0 && count < *left => *left -= count,
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return end.as_mut().poll(context).map(Ok),
            }
        }
    }
}

enum Received {
    Bytes,
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.judged > 0 {
            this.hand_on(buffer);
        }
        while buffer.filled().len() == before {
            match &mut this.stage {
                Stage::Open => {}
                Stage::HalfClosed(half) if this.clock.is_in_request() => {
                    return half.poll_left(context, &mut this.stream).map(Err);
                }
                Stage::HalfClosed(_) => break,
                Stage::Broken(error) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, *error)));
                }
                // The answer to the refusal closes the connection; until then hyper reads nothing.
                Stage::Refused | Stage::Lingering { .. } => return Poll::Pending,
            }
            match ready!(this.poll_receive(context, buffer))? {
                Received::Bytes => {}
                Received::End => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, io::Error>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.is_all_sent = matches!(polled, Poll::Ready(Ok(count)) if count == bytes.len());
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        let this = self.get_mut();
        if matches!(this.stage, Stage::Open | Stage::HalfClosed(_)) && this.body.is_reached() {
            return Pin::new(&mut this.stream).poll_shutdown(context);
        }
        this.poll_linger(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<Result<usize, io::Error>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        let bytes = slices.iter().map(|slice| slice.len()).sum::<usize>();
        this.is_all_sent = matches!(polled, Poll::Ready(Ok(count)) if count == bytes);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
