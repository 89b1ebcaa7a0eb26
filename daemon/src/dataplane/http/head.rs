//! Takes the head of a request out of what was received.

use super::super::context::Worker;
use super::super::input::{Input, ReadDeadline};
use super::super::proxy;
use super::super::registry::Registered;
use super::refusal::Refusal;
use super::upload;
use crate::protocol::http1::authority::Authority;
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::request::{Progress, Request, parse_knowing};
use crate::protocol::name::escape_for_log;

/// Takes a head out of the input, if it is whole. A method that writes is refused where the share takes no uploads.
pub(super) fn take(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
) -> Result<Option<Request>, RequestError> {
    let progress =
        parse_knowing(input.bytes(), &worker.admitted_at(connection.via.listener), worker.wanted.get())?;
    match progress {
        Progress::Complete { request, .. }
            if !request.method.is_read() && !worker.takes_upload_of(&request.name) =>
        {
            Err(RequestError::UploadsOff { method: request.method.as_str() })
        }
        Progress::Complete { request, head_bytes, authority } => {
            check_host(worker, connection, &request, authority)?;
            proxy::hear(worker, connection, &input.bytes()[..head_bytes])?;
            input.consume(head_bytes);
            Ok(Some(request))
        }
        Progress::Incomplete => Ok(None),
    }
}

/// Receives until a whole head is there, and takes it.
pub(super) async fn receive(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
    mut read_deadline: ReadDeadline,
) -> Result<Request, Refusal> {
    loop {
        match read_deadline.receive(worker, connection, input).await {
            Ok(true) => {}
            Ok(false) => return Err(Refusal::CutShort),
            Err(error) => return Err(Refusal::NotReceived(error)),
        }
        if let Some(request) = take(worker, connection, input).map_err(Refusal::Malformed)? {
            return Ok(request);
        }
    }
}

/// Refuses a request that is for another host. One for uploads is judged with the right to write (`upload/permission`).
fn check_host(
    worker: &Worker,
    connection: &Registered,
    request: &Request,
    authority: Option<Authority<'_>>,
) -> Result<(), RequestError> {
    // No browser speaks HTTP/1.0 without Host.
    let Some(Authority { host, text, .. }) = authority else { return Ok(()) };
    if worker.takes_uploads() && upload::concerns(request) && worker.takes_upload_of(&request.name) {
        return Ok(());
    }
    let (live, listener) = (worker.live(), connection.via.listener);
    if live.listeners.admit(listener, host) {
        worker.note_admitted(listener, text);
        return Ok(());
    }
    Err(RequestError::HostNotAllowed { host: escape_for_log(host) })
}
