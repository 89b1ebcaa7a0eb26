//! HTTP/1.1 on a connection: requests one after the other, each answered once.
//!
//! `serve` is the loop of a connection. The files are read best in the order in which a request comes to them:
//!
//! 1. `states` takes it from its head to its answer, and calls all that follow.
//! 2. `head` reads it, and it becomes an `exchange`; `refusal` answers where that fails.
//! 3. `body` drops a body that nobody wants. Requests that write go to `upload` instead, which receives theirs.
//! 4. `answer` finds out what answers it, a file (`content`, `digest`), a file in the coding that the client takes
//!    (`negotiation`) or what there is of a directory (`directory`: `listing`, or `archive_content` for all of it), and
//!    makes a `response`, with what pages of other origins have to know of it (`cors`). `options` answers questions for
//!    the methods.
//! 5. `send` sends that, with `archive` where that is all of a directory, and with `chunks` and `unsized_body` where
//!    its length isn't known.
//! 6. `ending` accounts for how far that came, and says how the connection goes on.

mod answer;
mod archive;
mod archive_content;
mod body;
mod chunks;
mod content;
mod cors;
mod digest;
mod directory;
mod ending;
mod exchange;
mod head;
mod listing;
mod negotiation;
mod options;
mod refusal;
mod response;
mod send;
#[cfg(test)]
mod sizes;
mod states;
mod unsized_body;
mod upload;

use std::rc::Rc;

use super::context::Worker;
use super::input::{Input, ReadDeadline};
use super::lingering_close::{linger, wait_until_acknowledged};
use super::registry::Registered;
use ending::After;
use states::Served;

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
        let after = match states::serve(worker, connection, input, *read_deadline) {
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
