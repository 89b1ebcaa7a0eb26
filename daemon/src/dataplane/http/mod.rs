//! HTTP/1.1 on a connection: requests one after the other, each answered once.

mod body;
mod digest;
mod listing;
mod response;
mod send;
mod upload;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::account::{Access, Tally};
use super::error::TransferError;
use super::input::{Input, Patience};
use super::linger::{LINGER_BYTES_MAX, linger, settle};
use super::registry::Registered;
use super::worker::Worker;
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::{Body, Progress, Request, parse};
use body::Drained;
pub(super) use response::find;
use response::{Asked, Response};

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
    Response(Exchange, Response),
}

/// What becomes of a connection after an answer.
enum After {
    NextRequest,
    /// The client has said that it sends nothing more, so closing costs no byte of the answer.
    Close,
    /// The client may be sending still, of which no more than so many bytes are taken.
    Linger {
        bytes_max: u64,
    },
}

/// Serves requests until either side ends the connection. `patience` is that of the first, and after it of each next.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    connection: &Registered,
    input: &mut Input,
    patience: &mut Patience,
) {
    let mut answered = 0_u64;
    loop {
        if input.is_empty() {
            match patience.receive(worker, connection, input).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => return Box::pin(settle(worker, connection)).await,
            }
        }
        let after = match serve_next(worker, connection, input, *patience) {
            Ok(after) => after,
            Err(rest) => rest.await,
        };
        match after {
            After::NextRequest => {
                *patience = Patience::new(worker, worker.live().settings.head_timeout_ms);
                answered += 1;
                if answered == ANSWERS_BEFORE_WATCH {
                    worker.arrivals.watch(connection);
                }
            }
            After::Close => return,
            After::Linger { bytes_max } => {
                return Box::pin(linger(worker, connection, bytes_max)).await;
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
    patience: Patience,
) -> Result<After, Pin<Box<dyn Future<Output = After> + 'a>>> {
    match begin(worker, connection, input) {
        Begun::Answered(after) => Ok(after),
        begun => Err(Box::pin(go_on(worker, connection, input, patience, begun))),
    }
}

/// The usual request: its head is there, it brings no body, its file is known and the answer fits into the socket.
/// What isn't usual is given back as it is by then.
fn begin(worker: &Worker, connection: &Registered, input: &mut Input) -> Begun {
    let request = match take_request(worker, input) {
        Ok(Some(request)) => request,
        Ok(None) => return Begun::Incomplete,
        Err(error) => return Begun::Refused(error),
    };
    if request.body != Body::None || !request.method.is_read() || request.want_repr_digest.is_some() {
        return Begun::Request(request);
    }
    let exchange = Exchange::new(worker, request, Drained::NOTHING_LEFT);
    let Some(mut response) = response::of_known_file(worker, &exchange.request, exchange.keep_alive) else {
        return Begun::Request(exchange.request);
    };
    match send::send_at_once(worker, connection, &mut response) {
        Ok(None) => Begun::Response(exchange, response),
        Ok(Some(tally)) => {
            let after = exchange.finish(worker, connection, input, response.status, tally, Ok(()));
            response.recycle(worker);
            Begun::Answered(after)
        }
        Err(error) => {
            let (tally, result) = (Tally::default(), Err(error.into()));
            Begun::Answered(exchange.finish(worker, connection, input, response.status, tally, result))
        }
    }
}

/// Does what has to be waited for.
async fn go_on(
    worker: &Rc<Worker>,
    connection: &Registered,
    input: &mut Input,
    patience: Patience,
    begun: Begun,
) -> After {
    let next = match begun {
        Begun::Answered(after) => return after,
        Begun::Response(exchange, response) => {
            return send_rest(worker, connection, input, exchange, response).await;
        }
        Begun::Request(request) => Ok(Next::Request(request)),
        Begun::Refused(error) => Ok(Next::Refused(error)),
        Begun::Incomplete => rest_of_head(worker, connection, input, patience).await,
    };
    match next {
        Ok(Next::Request(request)) => return answer(worker, connection, request, input).await,
        Ok(Next::Refused(error)) => {
            let asked = Asked::unread(worker, input.bytes());
            refuse(worker, connection, Response::refused(&asked, &error)).await;
        }
        Ok(Next::Ended) => {}
        Err(TransferError::TimedOut) => {
            let detail = "the request head was not complete in time";
            let response = Response::problem(&Asked::unread(worker, input.bytes()), 408, detail);
            refuse(worker, connection, response).await;
        }
        Err(_) => settle(worker, connection).await,
    }
    After::Close
}

/// Receives until a whole head is there, and takes it out of the input.
async fn rest_of_head(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
    mut patience: Patience,
) -> Result<Next, TransferError> {
    loop {
        if !patience.receive(worker, connection, input).await? {
            return Ok(Next::Ended);
        }
        match take_request(worker, input) {
            Ok(Some(request)) => return Ok(Next::Request(request)),
            Ok(None) => {}
            Err(error) => return Ok(Next::Refused(error)),
        }
    }
}

/// Takes a request's head out of the input, if it is whole. A method that writes is refused where uploads are off.
fn take_request(worker: &Worker, input: &mut Input) -> Result<Option<Request>, RequestError> {
    match parse(input.bytes())? {
        Progress::Complete { request, .. }
            if !request.method.is_read() && worker.resources.uploads.is_none() =>
        {
            Err(RequestError::MethodNotOffered { method: request.method.as_str() })
        }
        Progress::Complete { request, head_bytes } => {
            input.consume(head_bytes);
            Ok(Some(request))
        }
        Progress::Incomplete => Ok(None),
    }
}

/// Answers a request.
async fn answer(worker: &Rc<Worker>, connection: &Registered, request: Request, input: &mut Input) -> After {
    if let Some(uploads) = worker.resources.uploads.as_ref().filter(|_| upload::concerns(&request)) {
        return Box::pin(upload::serve(worker, connection, request, input, Arc::clone(uploads))).await;
    }
    let Ok(drained) = body::drain(worker, connection, input, &request).await else {
        connection.socket.abort();
        return After::Close;
    };
    let exchange = Exchange::new(worker, request, drained);
    let response = response::prepare(worker, &exchange.request, exchange.keep_alive).await;
    send_rest(worker, connection, input, exchange, response).await
}

async fn send_rest(
    worker: &Worker,
    connection: &Registered,
    input: &Input,
    exchange: Exchange,
    response: Response,
) -> After {
    let status = response.status;
    let (tally, result) = send::send(worker, connection, response).await;
    exchange.finish(worker, connection, input, status, tally, result)
}

/// A request that is being answered.
struct Exchange {
    request: Request,
    started: Instant,
    /// What became of the request's body, if any.
    drained: Drained,
    keep_alive: bool,
    /// Of a body that somebody wanted.
    received_bytes: u64,
}

impl Exchange {
    /// One that brought `received_bytes` of an upload.
    fn of_upload(
        worker: &Worker,
        request: Request,
        drained: Drained,
        received_bytes: u64,
        started: Instant,
    ) -> Exchange {
        Exchange { received_bytes, started, ..Exchange::new(worker, request, drained) }
    }

    fn new(worker: &Worker, request: Request, drained: Drained) -> Exchange {
        let keep_alive = request.keep_alive && drained.is_whole && !worker.is_draining();
        Exchange { request, started: Instant::now(), drained, keep_alive, received_bytes: 0 }
    }

    /// Accounts for the answer, whole or not.
    fn finish(
        &self,
        worker: &Worker,
        connection: &Registered,
        input: &Input,
        status: u16,
        tally: Tally,
        result: Result<(), TransferError>,
    ) -> After {
        let access = Access {
            peer: connection.socket.peer(),
            protocol: "http",
            method: self.request.method.as_str(),
            path: &self.request.target,
            status,
            bytes: tally.total() + self.received_bytes,
            started: self.started,
            engine: tally.engine(),
        };
        access.finish(worker, &result);
        if result.is_err() {
            connection.socket.abort();
            return After::Close;
        }
        let is_last = !self.request.keep_alive && self.drained.is_whole && input.is_empty();
        match (self.keep_alive, is_last) {
            (true, _) => After::NextRequest,
            (false, true) => After::Close,
            (false, false) => {
                After::Linger { bytes_max: LINGER_BYTES_MAX.saturating_sub(self.drained.bytes) }
            }
        }
    }
}

/// Answers what isn't a request, and ends the connection.
async fn refuse(worker: &Rc<Worker>, connection: &Registered, response: Response) {
    let started = Instant::now();
    let status = response.status;
    let (tally, result) = send::send(worker, connection, response).await;
    let access = Access {
        peer: connection.socket.peer(),
        protocol: "http",
        method: "-",
        path: "-",
        status,
        bytes: tally.total(),
        started,
        engine: tally.engine(),
    };
    access.finish(worker, &result);
    linger(worker, connection, LINGER_BYTES_MAX).await;
}

/// Whether an answer to `method` has a body.
fn has_body(method: Method) -> bool {
    method != Method::Head
}
