//! HTTP/1.1 on a connection: requests one after the other, each answered once.
//!
//! To be read in this order: `serve` is the loop of a connection; `states` takes a request from its head to its answer;
//! `head` and `refusal` read it, or say why there is none; `body` drops a body that nobody wants; `answer` finds out what
//! answers it (`content`: a file; `listing`: a directory; `digest`) and makes a `response`; `send` sends that; and
//! `exchange` accounts for it by what was `sent`. Requests that write take `upload` instead.

mod answer;
mod body;
mod chunks;
mod content;
mod digest;
mod exchange;
mod head;
mod listing;
mod refusal;
mod response;
mod send;
mod sent;
#[cfg(test)]
mod sizes;
mod states;
mod unsized_body;
mod upload;

use std::pin::Pin;
use std::rc::Rc;

use super::context::Worker;
use super::input::{Input, ReadDeadline};
use super::lingering_close::{linger, wait_until_acknowledged};
use super::registry::Registered;
use exchange::After;
use states::State;

/// Answers after which a connection is told of arrivals: to be registered costs as much as a wait through the ring, and
/// many connections bring one request alone.
const ANSWERS_BEFORE_WATCH: u64 = 2;

/// Serves requests until either side ends the connection, and says why that is. `read_deadline` is that of the first
/// request, and after it of each next.
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
            Served::Answered(after) => after,
            Served::Waits(rest) => rest.await,
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

/// How far a request came at once.
enum Served<'a> {
    Answered(After),
    /// The rest of it has to wait for something.
    Waits(Pin<Box<dyn Future<Output = After> + 'a>>),
}

/// Serves the request whose first bytes are there. What has to wait is boxed: the state of a request must not take up
/// room in every idle connection. No async function, since its future would keep room for what it moves into the box.
fn serve_next<'a>(
    worker: &'a Rc<Worker>,
    connection: &'a Registered,
    input: &'a mut Input,
    read_deadline: ReadDeadline,
) -> Served<'a> {
    match states::advance(worker, connection, input) {
        State::Answered(after) => Served::Answered(after),
        state => Served::Waits(Box::pin(states::finish(worker, connection, input, read_deadline, state))),
    }
}
