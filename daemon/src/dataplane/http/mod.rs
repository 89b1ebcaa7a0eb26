//! HTTP/1.1 on a connection: requests one after the other, each answered once.

mod body;
mod listing;
mod response;
mod send;

use std::rc::Rc;
use std::time::Instant;

use super::account::Access;
use super::error::TransferError;
use super::input::{Input, Patience};
use super::linger::{linger, settle};
use super::registry::Registered;
use super::worker::Worker;
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::{Progress, Request, parse};
pub(super) use response::find;
use response::{Asked, Response};

/// What came next on a connection.
enum Next {
    Request(Request),
    Refused(RequestError),
    /// No further request.
    Ended,
}

/// What becomes of a connection after an answer.
enum After {
    NextRequest,
    /// The client has said that it sends nothing more, so closing costs no byte of the answer.
    Close,
    /// The client may be sending still.
    Linger,
}

/// Serves requests until either side ends the connection. `patience` is that of the first, and after it of each next.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    connection: &Registered,
    input: &mut Input,
    patience: &mut Patience,
) {
    loop {
        if input.is_empty() {
            match patience.receive(worker, connection, input).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => return Box::pin(settle(worker, connection)).await,
            }
        }
        // Boxed: the state of a request must not take up room in every idle connection.
        if !Box::pin(serve_next(worker, connection, input, *patience)).await {
            return;
        }
        *patience = Patience::new(worker, worker.live().settings.head_timeout_ms);
    }
}

/// Serves the request whose first bytes are there. False: the connection has ended.
async fn serve_next(
    worker: &Rc<Worker>,
    connection: &Registered,
    input: &mut Input,
    patience: Patience,
) -> bool {
    match next_request(worker, connection, input, patience).await {
        Ok(Next::Request(request)) => match answer(worker, connection, request, input).await {
            Ok(After::NextRequest) => return true,
            Ok(After::Close) => {}
            Ok(After::Linger) => linger(worker, connection).await,
            Err(_) => connection.socket.abort(),
        },
        Ok(Next::Refused(error)) => {
            let response = Response::refused(&Asked::unread(&worker.clock, input.bytes()), &error);
            refuse(worker, connection, response).await;
        }
        Ok(Next::Ended) => {}
        Err(TransferError::TimedOut) => {
            let detail = "the request head was not complete in time";
            let response = Response::problem(&Asked::unread(&worker.clock, input.bytes()), 408, detail);
            refuse(worker, connection, response).await;
        }
        Err(_) => settle(worker, connection).await,
    }
    false
}

/// Receives until a whole head is there, and takes it out of the input.
async fn next_request(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
    mut patience: Patience,
) -> Result<Next, TransferError> {
    loop {
        match parse(input.bytes()) {
            Ok(Progress::Complete { request, head_bytes }) => {
                input.consume(head_bytes);
                return Ok(Next::Request(request));
            }
            Ok(Progress::Incomplete) => {}
            Err(error) => return Ok(Next::Refused(error)),
        }
        if !patience.receive(worker, connection, input).await? {
            return Ok(Next::Ended);
        }
    }
}

/// Answers one request.
async fn answer(
    worker: &Rc<Worker>,
    connection: &Registered,
    request: Request,
    input: &mut Input,
) -> Result<After, TransferError> {
    let started = Instant::now();
    let drained = body::drain(worker, connection, input, &request).await?;
    let keep_alive = request.keep_alive && drained && !worker.is_draining();
    let asked = Asked::new(&request, &worker.clock, keep_alive);
    let response = response::prepare(worker, &request, &asked).await;
    let status = response.status;
    let (tally, result) = send::send(worker, connection, response).await;
    let access = Access {
        peer: connection.socket.peer(),
        protocol: "http",
        method: request.method.as_str(),
        path: &request.target,
        status,
        bytes: tally.total(),
        started,
        engine: tally.engine(),
    };
    access.finish(worker, &result);
    result?;
    let is_last = !request.keep_alive && drained && input.is_empty();
    Ok(match (keep_alive, is_last) {
        (true, _) => After::NextRequest,
        (false, true) => After::Close,
        (false, false) => After::Linger,
    })
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
    linger(worker, connection).await;
}

/// Whether an answer to `method` has a body.
fn has_body(method: Method) -> bool {
    method == Method::Get
}
