//! HTTP/1.1 on a connection: requests one after the other, each answered once.

mod answer;
mod body;
mod chunks;
mod content;
mod digest;
mod exchange;
mod listing;
mod response;
mod send;
mod unsized_body;
mod upload;

use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use super::account::Tally;
use super::context::Worker;
use super::error::TransferError;
use super::input::{Input, ReadDeadline};
use super::lingering_close::{LINGER_BYTES_MAX, linger, wait_until_acknowledged};
use super::proxy;
use super::registry::Registered;
use crate::limits::{ADDRESS_FULL, Full};
use crate::protocol::http1::authority::Authority;
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::request::{Body, Progress, Request, parse_knowing};
use crate::protocol::name::escape_for_log;
use body::{Cut, Discarded};
use exchange::{After, Exchange, Sent, Unread};
use response::Response;

/// Answers after which a connection is told of arrivals: to be registered costs as much as a wait through the ring, and
/// many connections bring one request alone.
const ANSWERS_BEFORE_WATCH: u64 = 2;

/// What came next on a connection.
enum Next {
    Request(Request),
    Refused(RequestError),
    /// No further request.
    Ended,
}

/// How far a request came without waiting for anything.
enum Begun {
    Answered(After),
    /// More of its head is needed.
    Incomplete,
    Refused(RequestError),
    /// Its body is still to come, or its file isn't known.
    Request(Request),
    /// The rest of its answer doesn't fit into the socket, or comes from a file.
    Response(Box<(Exchange, Response)>),
}

/// Serves requests until either side ends the connection, and says why that is. `read_deadline` is that of the first,
/// and after it of each next.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    connection: &Registered,
    input: &mut Input,
    read_deadline: &mut ReadDeadline,
) -> &'static str {
    let mut answered = 0_u64;
    loop {
        if input.is_empty() {
            match read_deadline.receive(worker, connection, input).await {
                Ok(true) => {}
                Ok(false) => return "the peer closed it",
                Err(error) => {
                    Box::pin(wait_until_acknowledged(worker, connection)).await;
                    return error.closes_because();
                }
            }
        }
        let after = match serve_next(worker, connection, input, *read_deadline) {
            Ok(after) => after,
            Err(rest) => rest.await,
        };
        match after {
            After::NextRequest { left } => {
                if left > 0 && Box::pin(body::skip(worker, connection, input, left)).await.is_err() {
                    Box::pin(wait_until_acknowledged(worker, connection)).await;
                    return "the rest of a body that nobody wanted didn't come";
                }
                *read_deadline = ReadDeadline::new(worker, worker.live().settings.head_timeout_ms);
                answered += 1;
                if answered == ANSWERS_BEFORE_WATCH {
                    worker.readiness.watch(connection);
                }
            }
            After::Close(reason) => return reason,
            After::Linger { bytes_max } => {
                Box::pin(linger(worker, connection, bytes_max)).await;
                return "the last answer was sent";
            }
        }
    }
}

/// Serves the request whose first bytes are there: at once, or by a future that does the rest. That one is boxed: the
/// state of a request must not take up room in every idle connection.
fn serve_next<'a>(
    worker: &'a Rc<Worker>,
    connection: &'a Registered,
    input: &'a mut Input,
    read_deadline: ReadDeadline,
) -> Result<After, Pin<Box<dyn Future<Output = After> + 'a>>> {
    match begin(worker, connection, input) {
        Begun::Answered(after) => Ok(after),
        begun => Err(Box::pin(go_on(worker, connection, input, read_deadline, begun))),
    }
}

/// The usual request: its head is there, it brings no body, its file is known and the answer fits into the socket.
/// What isn't usual is given back as it is by then.
fn begin(worker: &Worker, connection: &Registered, input: &mut Input) -> Begun {
    let request = match take_request(worker, connection, input) {
        Ok(Some(request)) => request,
        Ok(None) => return Begun::Incomplete,
        Err(error) => return Begun::Refused(error),
    };
    if request.body != Body::None || !request.method.is_read() || request.want_repr_digest.is_some() {
        return Begun::Request(request);
    }
    let exchange = Exchange::new(worker, request, Discarded::NOTHING_LEFT, worker.request_began());
    let Some(mut response) = answer::of_known_file(worker, &exchange) else {
        return Begun::Request(exchange.into_request());
    };
    exchange.tell();
    match send::send_at_once(worker, connection, &mut response) {
        Ok(None) => Begun::Response(Box::new((exchange, response))),
        Ok(Some(tally)) => {
            let sent = Sent::of(&mut response, tally, Ok(()));
            let after = exchange.finish(worker, connection, input, sent);
            response.recycle(worker);
            Begun::Answered(after)
        }
        Err(error) => {
            let sent = Sent::of(&mut response, Tally::default(), Err(error.into()));
            send::give_up(worker, response);
            Begun::Answered(exchange.finish(worker, connection, input, sent))
        }
    }
}

/// Does what has to be waited for.
async fn go_on(
    worker: &Rc<Worker>,
    connection: &Registered,
    input: &mut Input,
    read_deadline: ReadDeadline,
    begun: Begun,
) -> After {
    let started = Instant::now();
    let next = match begun {
        Begun::Answered(after) => return after,
        Begun::Response(begun) => {
            let (exchange, response) = *begun;
            return send_rest(worker, connection, input, &exchange, response).await;
        }
        Begun::Request(request) => Ok(Next::Request(request)),
        Begun::Refused(error) => Ok(Next::Refused(error)),
        Begun::Incomplete => rest_of_head(worker, connection, input, read_deadline).await,
    };
    if !matches!(next, Ok(Next::Request(_))) {
        // For the log: it is refused for what was found first.
        let _ = proxy::hear(worker, connection, input.bytes());
    }
    let (status, detail) = match next {
        // Boxed again: what is begun already, a file on its way, needs no room for it.
        Ok(Next::Request(request)) => return Box::pin(answer(worker, connection, request, input)).await,
        Ok(Next::Refused(error)) => {
            let unread = Unread::new(worker, input, started);
            let response = Response::refused(&unread.asked(worker), &error);
            refuse(worker, connection, &unread, response).await;
            return After::Close("a request was refused");
        }
        Ok(Next::Ended) if has_begun_nothing(input) => return After::Close("the peer closed it"),
        Err(error @ (TransferError::TimedOut | TransferError::TooSlow)) if has_begun_nothing(input) => {
            wait_until_acknowledged(worker, connection).await;
            return After::Close(error.closes_because());
        }
        Ok(Next::Ended) => (400, "the connection ended inside the request head"),
        Err(TransferError::TimedOut) => (408, "the request head was not complete in time"),
        Err(TransferError::NoRoom(Full::Address)) => (503, ADDRESS_FULL),
        Err(TransferError::NoRoom(Full::Node)) => {
            (503, "too many answers and heads of requests wait (waiting_bytes_max)")
        }
        Err(TransferError::TooSlow) => {
            (408, "the request head came with fewer than progress_bytes_min bytes a second")
        }
        Err(error) => {
            let reason = error.closes_because();
            let unread = Unread::new(worker, input, started);
            Sent::nothing(error).account_unread(worker, connection, &unread);
            wait_until_acknowledged(worker, connection).await;
            return After::Close(reason);
        }
    };
    let unread = Unread::new(worker, input, started);
    let response = Response::problem(&unread.asked(worker), status, detail);
    refuse(worker, connection, &unread, response).await;
    After::Close("a request was refused")
}

/// An empty line or two may end a body (RFC 9112 2.2): that began no request.
fn has_begun_nothing(input: &Input) -> bool {
    input.bytes().iter().all(|byte| b"\r\n".contains(byte))
}

/// Receives until a whole head is there, and takes it out of the input.
async fn rest_of_head(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
    mut read_deadline: ReadDeadline,
) -> Result<Next, TransferError> {
    loop {
        if !read_deadline.receive(worker, connection, input).await? {
            return Ok(Next::Ended);
        }
        match take_request(worker, connection, input) {
            Ok(Some(request)) => return Ok(Next::Request(request)),
            Ok(None) => {}
            Err(error) => return Ok(Next::Refused(error)),
        }
    }
}

/// Takes a request's head out of the input, if it is whole. A method that writes is refused where uploads are off.
fn take_request(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
) -> Result<Option<Request>, RequestError> {
    let progress = parse_knowing(input.bytes(), &worker.admitted_host.borrow())?;
    match progress {
        Progress::Complete { request, .. } if !request.method.is_read() && !worker.takes_uploads() => {
            Err(RequestError::MethodNotOffered { method: request.method.as_str() })
        }
        Progress::Complete { request, head_bytes, authority } => {
            check_host(worker, &request, authority)?;
            proxy::hear(worker, connection, &input.bytes()[..head_bytes])?;
            input.consume(head_bytes);
            Ok(Some(request))
        }
        Progress::Incomplete => Ok(None),
    }
}

/// Refuses what isn't for this daemon. Who may write has a word in what an upload may be for.
fn check_host(
    worker: &Worker,
    request: &Request,
    authority: Option<Authority<'_>>,
) -> Result<(), RequestError> {
    // No browser speaks HTTP/1.0 without Host.
    let Some(Authority { host, text, .. }) = authority else { return Ok(()) };
    if worker.takes_uploads() && upload::concerns(request) {
        return Ok(());
    }
    if worker.live().hosts.admit(host) {
        worker.note_admitted(text);
        return Ok(());
    }
    Err(RequestError::HostNotAllowed { host: escape_for_log(host) })
}

/// Answers a request.
async fn answer(worker: &Rc<Worker>, connection: &Registered, request: Request, input: &mut Input) -> After {
    if let Some(uploads) = worker.served().uploads.clone().filter(|_| upload::concerns(&request)) {
        return Box::pin(upload::serve(worker, connection, request, input, uploads)).await;
    }
    // Boxed: it is over when the answer is sent, which may take long.
    let (exchange, response) = Box::pin(prepare(worker, connection, request, input)).await;
    send_rest(worker, connection, input, &exchange, response).await
}

/// Finds out what answers a request.
async fn prepare(
    worker: &Worker,
    connection: &Registered,
    request: Request,
    input: &mut Input,
) -> (Exchange, Response) {
    let started = Instant::now();
    let (discarded, cut) = match body::discard(worker, connection, input, &request).await {
        Ok(discarded) => (discarded, None),
        Err(Cut { bytes, error }) => (Discarded::partly(bytes), Some(error)),
    };
    let exchange = Exchange::since(worker, request, discarded, started);
    let asked = exchange.asked(worker);
    let response = match cut {
        None => answer::prepare(worker, connection, &exchange.request, &asked).await,
        Some(TransferError::TimedOut) => {
            Response::problem(&asked, 408, "the request body was not complete in time")
        }
        Some(TransferError::TooSlow) => Response::problem(
            &asked,
            408,
            "the request body came with fewer than progress_bytes_min bytes a second",
        ),
        Some(error @ TransferError::NoRoom(_)) => Response::problem(&asked, 503, &error.to_string()),
        // Whoever only ended its own direction can still read; to whoever left sending fails.
        Some(_) => Response::problem(&asked, 400, "the connection ended inside the request body"),
    };
    (exchange, response)
}

async fn send_rest(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
    exchange: &Exchange,
    mut response: Response,
) -> After {
    let tally = response.sent;
    let sent = Sent::of(&mut response, tally, Ok(()));
    // Requests that came ahead of their turn wait for this answer's reader too.
    let sent = match input.hold(worker, connection) {
        Ok(()) => sent.ended(send::send(worker, connection, response).await),
        Err(error) => {
            send::give_up(worker, response);
            sent.ended((tally, Err(error)))
        }
    };
    let sent = match sent.into_untold() {
        Ok(error) => Box::pin(tell_unread(worker, connection, exchange, error)).await,
        Err(sent) => sent,
    };
    exchange.finish(worker, connection, input, sent)
}

/// Says that the file can't be read, instead of the answer of which nothing was sent.
async fn tell_unread(
    worker: &Worker,
    connection: &Registered,
    exchange: &Exchange,
    error: Box<TransferError>,
) -> Sent {
    connection.socket.set_cork(false);
    let mut response = Response::of_unread_source(&exchange.asked(worker), &error);
    let sent = Sent::of(&mut response, Tally::default(), Ok(())).telling(error);
    sent.ended(send::send(worker, connection, response).await)
}

/// Answers what isn't a request, and ends the connection.
async fn refuse(worker: &Rc<Worker>, connection: &Registered, unread: &Unread<'_>, mut response: Response) {
    let sent = Sent::of(&mut response, Tally::default(), Ok(()));
    let sent = sent.ended(send::send(worker, connection, response).await);
    sent.account_unread(worker, connection, unread);
    linger(worker, connection, LINGER_BYTES_MAX).await;
}
