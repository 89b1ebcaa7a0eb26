//! The states of a request, and the steps from each to the next.
//!
//! `advance` goes as far as nothing has to be waited for: the usual request, whose file is known and whose answer fits
//! into the socket, is answered there. `finish` waits for whatever a state lacks, and goes on from there. Nothing is
//! done twice: a state owns all that was found out before it.

use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use super::super::context::Worker;
use super::super::input::{Input, ReadDeadline};
use super::super::look_up;
use super::super::registry::Registered;
use super::body::{self, Discarded};
use super::ending::{self, After, Sent};
use super::exchange::Exchange;
use super::refusal::{self, Refusal};
use super::response::Response;
use super::send::{self, Progress};
use super::{answer, head, options, upload};
use crate::files::KnownFile;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::{Body, Request};

/// How far a request has come, and what it waits for.
pub(super) enum State {
    /// The rest of its head has to come.
    Head,
    /// No request could be read, which has to be answered.
    Refused(Refusal),
    /// It is one of the uploads, which receive its body themselves.
    Upload(Box<Request>, Box<upload::WrittenShare>),
    /// It brings a body that nobody wants, which has to be out of the way.
    Body(Box<Request>),
    /// Its name has to be looked up: no file is known by it.
    Named(Box<Exchange>),
    /// Its file is known, and something of it has to be read before the answer is made.
    Found(Box<Exchange>, Rc<KnownFile>),
    /// Its answer has to be sent, or the rest of it.
    Responding(Box<(Exchange, Response)>),
    /// It has been answered and accounted for.
    Answered(After),
}

/// How far a request came at once.
pub(super) enum Served<'a> {
    Answered(After),
    /// The rest of it has to wait for something.
    Waits(Pin<Box<dyn Future<Output = After> + 'a>>),
}

/// Serves the request whose first bytes are there. What has to wait is boxed: the state of a request must not take up
/// room in every idle connection. No async function, since its future would keep room for what it moves into the box.
pub(super) fn serve<'a>(
    worker: &'a Rc<Worker>,
    connection: &'a Registered,
    input: &'a mut Input,
    read_deadline: ReadDeadline,
) -> Served<'a> {
    match advance(worker, connection, input) {
        State::Answered(after) => Served::Answered(after),
        state => Served::Waits(Box::pin(finish(worker, connection, input, read_deadline, state))),
    }
}

/// Advances a request of which something is in the input, as far as nothing has to be waited for.
fn advance(worker: &Worker, connection: &Registered, input: &mut Input) -> State {
    match head::take(worker, connection, input) {
        Ok(Some(request)) => with_head(worker, connection, input, request),
        Ok(None) => State::Head,
        Err(error) => State::Refused(Refusal::Malformed(error)),
    }
}

/// Waits for what a request lacks, state by state, until it is answered.
pub(super) async fn finish(
    worker: &Rc<Worker>,
    connection: &Registered,
    input: &mut Input,
    read_deadline: ReadDeadline,
    mut state: State,
) -> After {
    let started = Instant::now();
    loop {
        // Boxed, all but the wait for a head and the sending of an answer: the others must take up no room in those.
        state = match state {
            State::Head => match head::receive(worker, connection, input, read_deadline).await {
                Ok(request) => with_head(worker, connection, input, request),
                Err(refusal) => State::Refused(refusal),
            },
            State::Refused(refusal) => {
                return Box::pin(refusal::answer(worker, connection, input, refusal, started)).await;
            }
            State::Upload(request, written) => {
                return Box::pin(upload::serve(worker, connection, request, input, written)).await;
            }
            State::Body(request) => Box::pin(discard_body(worker, connection, input, *request)).await,
            State::Named(exchange) => Box::pin(look_up_name(worker, connection, *exchange)).await,
            State::Found(exchange, known) => {
                Box::pin(read_and_answer(worker, connection, *exchange, known)).await
            }
            State::Responding(responding) => {
                return send::send_and_account(worker, connection, input, responding).await;
            }
            State::Answered(after) => return after,
        };
    }
}

/// The head is whole: it says who takes the body.
fn with_head(worker: &Worker, connection: &Registered, input: &mut Input, request: Request) -> State {
    if let Some(written) = written_share(worker, &request) {
        return State::Upload(Box::new(request), Box::new(written));
    }
    if request.body != Body::None {
        return State::Body(Box::new(request));
    }
    let exchange = Exchange::begin(worker, request, Discarded::NOTHING_LEFT, worker.request_began());
    without_body(worker, connection, input, exchange)
}

fn written_share(worker: &Worker, request: &Request) -> Option<upload::WrittenShare> {
    if !worker.takes_uploads() || !upload::concerns(request) {
        return None;
    }
    upload::WrittenShare::of(&worker.served(), &request.name)
}

/// No body is in the way any more: the file is looked for among those that are known.
fn without_body(worker: &Worker, connection: &Registered, input: &mut Input, exchange: Exchange) -> State {
    if exchange.request.method == Method::Options {
        let response = options::answer(worker, &exchange);
        return with_response(worker, connection, input, exchange, response);
    }
    // No file has an archive, and no index answers for a listing as JSON: what the name leads to has to be seen.
    let request = &exchange.request;
    let known = if request.wants_archive || request.accepts_json && request.name.is_directory() {
        None
    } else {
        look_up::known_file(worker, &request.name)
    };
    let Some(known) = known else {
        return State::Named(Box::new(exchange.timed(worker)));
    };
    let Some(response) = answer::of_known_file(worker, connection, &exchange, &known) else {
        return State::Found(Box::new(exchange.timed(worker)), known);
    };
    with_response(worker, connection, input, exchange, response)
}

/// The answer is made: what is in memory is sent, as far as the socket takes it at once.
fn with_response(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
    exchange: Exchange,
    mut response: Response,
) -> State {
    if !response.is_in_memory() {
        return State::Responding(Box::new((exchange.timed(worker), response)));
    }
    match send::send_now(worker, connection, &mut response) {
        Ok(Progress::Partly) => State::Responding(Box::new((exchange.timed(worker), response))),
        Ok(Progress::Whole) => {
            let sent = Sent::of(&mut response, Ok(()));
            let after = ending::finish(worker, connection, input, &exchange, sent);
            response.recycle(worker);
            State::Answered(after)
        }
        Err(gone) => {
            let sent = Sent::of(&mut response, Err(gone.into()));
            send::give_up(worker, response);
            State::Answered(ending::finish(worker, connection, input, &exchange, sent))
        }
    }
}

/// Gets the body out of the way. A client whose body breaks off is told so.
async fn discard_body(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
    request: Request,
) -> State {
    let started = Instant::now();
    match body::discard(worker, connection, input, &request).await {
        Ok(discarded) => {
            let exchange = Exchange::begin(worker, request, discarded, started);
            without_body(worker, connection, input, exchange)
        }
        Err(cut) => {
            let exchange = Exchange::begin(worker, request, Discarded::partly(cut.bytes), started);
            let (status, detail) = cut.problem();
            let response = Response::problem(&exchange.asked(worker), status, &detail);
            State::Responding(Box::new((exchange, response)))
        }
    }
}

async fn look_up_name(worker: &Worker, connection: &Registered, exchange: Exchange) -> State {
    let response = answer::of_name(worker, connection, &exchange).await;
    State::Responding(Box::new((exchange, response)))
}

async fn read_and_answer(
    worker: &Worker,
    connection: &Registered,
    exchange: Exchange,
    known: Rc<KnownFile>,
) -> State {
    let response = answer::of_found_file(worker, connection, &exchange, known).await;
    State::Responding(Box::new((exchange, response)))
}
