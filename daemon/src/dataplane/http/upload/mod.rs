//! Serves requests that write (PUT, POST, PATCH and DELETE) and those that ask for an upload that isn't complete.
//!
//! Each is checked (`permission`), gets a writer of the storage, has its body received by disk threads (`receive`)
//! and is answered once the storage says what became of it (`answer`). Every call of the storage is made on a disk
//! thread.

mod answer;
mod call;
mod conditions;
mod direct;
mod error;
mod framing;
mod permission;
mod place;
mod publish;
mod receive;
mod resource;
mod short;
mod trips;
mod turn;
mod whole;
mod written;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::super::connection::Phase;
use super::super::context::Worker;
use super::super::error::TransferError;
use super::super::input::Input;
use super::super::registry::Registered;
use super::body::{self, Discarded};
use super::ending::{After, Sent, finish};
use super::exchange::Exchange;
use super::send;
use crate::files::upload::UploadError;
use crate::limits::TICK_MS;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::{Body, Request};
use crate::protocol::http1::trailers::Trailers;
use crate::protocol::upload::UploadStep;
use crate::telemetry::UploadOutcome;
use answer::Answer;
use call::{BodyState, Call, Stop};
use conditions::Conditions;
pub(super) use permission::may_write;
pub(super) use written::WrittenShare;

/// Time that a client's acknowledgement of an answer may take that it would ask for again, in milliseconds: some round
/// trips, retransmissions included.
const DELIVERY_MS: u64 = 1_000;

/// How often the socket is asked for the acknowledgement, in milliseconds.
const ACKNOWLEDGED_MS: u64 = TICK_MS;

/// Whether a request is one for this module, uploads being on.
pub(super) fn concerns(request: &Request) -> bool {
    let asks_of_upload = || request.method != Method::Options && request.name.upload_resource().is_some();
    !request.method.is_read() || asks_of_upload()
}

/// Serves a request that [`concerns`] uploads.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    connection: &Registered,
    request: Box<Request>,
    input: &mut Input,
    written: Box<WrittenShare>,
) -> After {
    let started = Instant::now();
    let body = if request.body == Body::None { BodyState::Whole } else { BodyState::Untouched };
    let mut call = Call {
        worker,
        connection,
        input,
        request: &request,
        written,
        body,
        is_received_elsewhere: false,
        received_bytes: 0,
        dropped_bytes: 0,
        direct_bytes: 0,
        outcome: None,
        published_bytes: 0,
        trailers: Trailers::default(),
        may_repeat: None,
        mount: None,
    };
    let result = Box::pin(call.answer()).await;
    call.account(&result);
    let (state, received_bytes, dropped_bytes) = (call.body, call.received_bytes, call.dropped_bytes);
    let may_repeat = call.may_repeat.take();
    let uploads = Arc::clone(&call.written.uploads);
    if call.is_received_elsewhere {
        // Bytes behind the body may have come with it, of which the worker wasn't told.
        connection.socket.notify_readable(false);
    }
    let answer = match result {
        Ok(answer) | Err(Stop::Refused(answer)) => answer,
        Err(Stop::Ended(error)) => {
            let exchange = Exchange::begin(worker, *request, Discarded::partly(0), started);
            let exchange = exchange.of_upload(received_bytes);
            return finish(worker, connection, input, &exchange, Sent::nothing(error));
        }
    };
    let discarded = match state {
        BodyState::Whole => Discarded { bytes: dropped_bytes, ..Discarded::NOTHING_LEFT },
        // The bytes that were received were wanted, and are counted as uploaded.
        BodyState::Partly => Discarded::partly(0),
        // The answer is due whether or not the rest of the body comes.
        BodyState::Untouched => body::discard(worker, connection, input, &request)
            .await
            .unwrap_or_else(|cut| Discarded::partly(cut.bytes)),
    };
    let exchange = Exchange::begin(worker, *request, discarded, started).of_upload(received_bytes);
    let response = answer.respond(&exchange.asked(worker));
    let sent = send::send(worker, connection, response).await;
    if let Some(client) = may_repeat
        && sent.result.is_ok()
        && Box::pin(is_delivered(worker, connection)).await
    {
        uploads.forget_repeat(client);
    }
    finish(worker, connection, input, &exchange, sent)
}

/// Whether the peer acknowledges the answer in time. A client that waits for it sends nothing before.
async fn is_delivered(worker: &Worker, connection: &Registered) -> bool {
    let end = worker.clock.deadline(DELIVERY_MS);
    while connection.socket.unacknowledged_bytes() > 0 {
        if worker.clock.now() >= end.tick {
            return false;
        }
        match connection.readable(Phase::Receiving, worker.clock.deadline(ACKNOWLEDGED_MS)).await {
            Err(TransferError::TimedOut) => {}
            // The client goes on, or ends the connection: it acknowledges no more of this answer.
            Ok(()) => return connection.socket.unacknowledged_bytes() == 0,
            Err(_) => return false,
        }
    }
    true
}

/// The outcome of an upload whose body nothing is known of; None where the request brings none.
fn outcome_of(method: Method, result: &Result<Answer, Stop>) -> Option<UploadOutcome> {
    if method.is_read() || method == Method::Delete {
        return None;
    }
    match result {
        Ok(_) => None,
        Err(Stop::Refused(answer)) if answer.status() < 500 => Some(UploadOutcome::Refused),
        Err(Stop::Refused(_)) => Some(UploadOutcome::Failed),
        Err(Stop::Ended(_)) => Some(UploadOutcome::BrokenOff),
    }
}

impl Call<'_> {
    async fn answer(&mut self) -> Result<Answer, Stop> {
        permission::check(self.worker, self.connection, &self.request.name, self.fields()?)?;
        if let Some(resource) = self.written.name.upload_resource() {
            return match self.request.method {
                Method::Get | Method::Head | Method::Options => self.status(resource).await,
                Method::Delete => self.cancel(resource).await,
                _ => {
                    let _place = self.take_place().await?;
                    Box::pin(self.append(resource)).await
                }
            };
        }
        if self.written.name.is_reserved() {
            return Err(Answer::of_error(&UploadError::NotFound, &[]).into());
        }
        if self.request.method == Method::Delete {
            self.find_mount().await?;
            return self.delete().await;
        }
        self.check_content_encoding()?;
        let step = self.step()?;
        let _place = self.take_place().await?;
        self.find_mount().await?;
        match step {
            UploadStep::Create { complete, length } => Box::pin(self.create(complete, length)).await,
            UploadStep::Neither if self.request.method == Method::Put => {
                self.put().await.map(|answer| self.located(answer))
            }
            UploadStep::Neither | UploadStep::Append { .. } => {
                let detail = "POST begins an upload in several requests and needs Upload-Complete: ?0 or ?1; a whole \
                              file takes PUT (curl -T FILE URL)";
                Err(Answer::problem(400, detail).into())
            }
        }
    }

    /// Says of a file that is new where it is.
    fn located(&self, answer: Answer) -> Answer {
        let location = (answer.status() == 201).then(|| self.request.name.path());
        answer.field_if("Location", location)
    }

    /// Counts the upload. A request that only asks or removes is none.
    fn account(&self, result: &Result<Answer, Stop>) {
        let without = || outcome_of(self.request.method, result);
        if let Some(outcome) = self.outcome.or_else(without) {
            self.worker.counters.uploads.add(outcome, 1);
        }
        self.worker.counters.bytes_uploaded.add(self.received_bytes);
        self.worker.counters.bytes_uploaded_direct.add(self.direct_bytes);
    }

    /// Removes a file.
    async fn delete(&mut self) -> Result<Answer, Stop> {
        let (uploads, limits, name) =
            (Arc::clone(&self.written.uploads), self.limits(), self.written.name.clone());
        let conditions = Conditions::of(&self.request.preconditions);
        self.on_disk_at_first(move || {
            let permits = |current: Option<&_>| conditions.permit(current);
            uploads.delete(&name, (!conditions.are_none()).then_some(&permits), &limits)
        })
        .await?;
        Ok(Answer::new(204))
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Method, Stop, TransferError, UploadOutcome, concerns, outcome_of};
    use crate::protocol::http1::request::{Progress, parse};

    #[test]
    fn requests_that_write_or_ask_for_an_upload_are_for_this_module() {
        let is_concerned = |line: &str| {
            let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
            let Ok(Progress::Complete { request, .. }) = parse(head.as_bytes()) else { panic!("{head}") };
            concerns(&request)
        };
        assert!(is_concerned("PUT /file") && is_concerned("DELETE /file") && is_concerned("POST /file"));
        assert!(!is_concerned("GET /file") && !is_concerned("HEAD /file"));
    }

    #[test]
    fn an_upload_without_a_body_has_the_outcome_of_its_answer() {
        let refused = |status| Err(Stop::Refused(Answer::new(status)));
        let ended = || Err(Stop::Ended(TransferError::PeerGone));
        for (method, result, expected) in [
            (Method::Put, Ok(Answer::new(201)), None),
            (Method::Put, refused(409), Some(UploadOutcome::Refused)),
            (Method::Put, refused(503), Some(UploadOutcome::Failed)),
            (Method::Patch, ended(), Some(UploadOutcome::BrokenOff)),
            (Method::Delete, refused(404), None),
            (Method::Head, ended(), None),
        ] {
            assert_eq!(outcome_of(method, &result), expected, "{method:?}");
        }
    }
}
