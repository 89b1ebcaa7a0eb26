//! Sends an answer: at once where it is in memory and the socket takes it, else at the pace of its reader.

use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::engine::{self, Transfer, UNCORKED_BYTES_MAX};
use super::super::error::{PeerGone, TransferError};
use super::super::input::Input;
use super::super::registry::Registered;
use super::ending::{After, Sent, finish};
use super::exchange::Exchange;
use super::response::{Body, FileBody, Response};
use super::{archive, listing, unsized_body};
use crate::protocol::multipart::Segment;

/// How much of an answer has been sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Whole,
    Partly,
}

/// Sends what the socket takes now of an answer that is in memory. The rest stays in `response`.
pub(super) fn send_now(
    worker: &Worker,
    connection: &Connection,
    response: &mut Response,
) -> Result<Progress, PeerGone> {
    let Some((head, content)) = response.in_memory() else { return Ok(Progress::Partly) };
    let bytes = head.len() + content.len();
    let payload = bytes - response.payload_bytes()..bytes;
    let mut transfer = Transfer::new(worker, connection);
    let sent = transfer.send_now(head, content, payload)?;
    response.sent = transfer.tally;
    if sent == bytes {
        return Ok(Progress::Whole);
    }
    if let Some(file) = response.drop_sent(sent) {
        worker.disk.release(file);
    }
    Ok(Progress::Partly)
}

/// Sends an answer, or what is left of it, and accounts for it.
pub(super) async fn send_and_account(
    worker: &Worker,
    connection: &Registered,
    input: &mut Input,
    responding: Box<(Exchange, Response)>,
) -> After {
    let (exchange, mut response) = *responding;
    // Requests that came ahead of their turn wait for this answer's reader too.
    if let Err(error) = input.hold(worker, connection) {
        let sent = Sent::of(&mut response, Err(error));
        give_up(worker, response);
        return finish(worker, connection, input, &exchange, sent);
    }
    let sent = match send(worker, connection, response).await {
        Sent { result: Err(error), tally, .. } if !tally.is_begun() && error.can_be_told() => {
            Box::pin(explain(worker, connection, &exchange, error)).await
        }
        sent => sent,
    };
    finish(worker, connection, input, &exchange, sent)
}

/// Answers that the file can't be read, where nothing has been sent of the answer that failed.
async fn explain(
    worker: &Worker,
    connection: &Registered,
    exchange: &Exchange,
    error: TransferError,
) -> Sent {
    connection.socket.set_cork(false);
    let response = Response::of_unread_source(&exchange.asked(worker), &error);
    let sent = send(worker, connection, response).await;
    Sent { explained: Some(Box::new(error)), ..sent }
}

/// Lets go of an answer that isn't sent: what it has open is closed where that may wait.
pub(super) fn give_up(worker: &Worker, response: Response) {
    match response.body {
        Body::Text { .. } => {}
        Body::Kept { file, .. } | Body::Unsized { file, .. } => worker.disk.release(file),
        Body::File(body) => worker.disk.release(body.file),
        Body::Listing(body) => body.give_up(worker),
        Body::Archive(body) => body.give_up(worker),
    }
}

/// Sends head and body, or what is left of them.
pub(super) async fn send(worker: &Worker, connection: &Connection, response: Response) -> Sent {
    let Response { status, head, body, reason, sent, is_last, share: _share } = response;
    let mut transfer = Transfer::new(worker, connection);
    transfer.tally = sent;
    let result = match body {
        Body::Text { bytes } => {
            let (head, text) = head.split_at(head.len() - bytes);
            transfer.send_both(head, text).await
        }
        Body::Kept { file, range } => {
            let content = file.content().and_then(|content| content.get(range)).unwrap_or_default();
            let result = transfer.send_both(&head, content).await;
            worker.disk.release(file);
            result
        }
        Body::File(body) => {
            let result = send_file(&mut transfer, head, &body).await;
            worker.disk.release(body.file);
            result
        }
        // Boxed, and the listing too: files need no room for them.
        Body::Unsized { file, framing } => {
            let result = Box::pin(unsized_body::send(&mut transfer, head, &file.file, framing)).await;
            worker.disk.release(file);
            result
        }
        Body::Listing(body) => Box::pin(listing::send(&mut transfer, &head, *body)).await,
        Body::Archive(body) => Box::pin(archive::send(&mut transfer, head, *body)).await,
    };
    Sent { status, reason, tally: transfer.tally, result, explained: None, is_last }
}

async fn send_file(transfer: &mut Transfer<'_>, head: Vec<u8>, body: &FileBody) -> Result<(), TransferError> {
    if body.may_have_changed {
        transfer.note_wait();
    }
    let corked = is_corked(body.content_length, body.segments.len());
    if corked {
        transfer.connection().socket.set_cork(true);
    }
    let result = send_segments(transfer, head, body).await;
    // Where nothing was sent the failure is answered instead, which uncorks by itself.
    if corked && (result.is_ok() || !transfer.tally.is_begun()) {
        transfer.connection().socket.set_cork(false);
    }
    result
}

/// Whether a body is sent under TCP_CORK: a long one, and one of several parts.
fn is_corked(content_length: u64, parts: usize) -> bool {
    content_length > UNCORKED_BYTES_MAX || parts > 1
}

async fn send_segments(
    transfer: &mut Transfer<'_>,
    head: Vec<u8>,
    body: &FileBody,
) -> Result<(), TransferError> {
    let mut head = head;
    let last = body.segments.len().saturating_sub(1);
    for (number, segment) in body.segments.iter().enumerate() {
        match segment {
            Segment::Text(text) => {
                // Sent with what follows, like a head.
                head.extend_from_slice(text);
                transfer.note_text(text.len());
            }
            Segment::File(range) => {
                let head = std::mem::take(&mut head);
                engine::send_range(transfer, head, &body.file.file, *range, number < last).await?;
                // A single range has no text behind it.
                if number < last {
                    transfer.part_sent().await?;
                }
            }
        }
    }
    if body.segments.len() > 1 {
        // The closing boundary is what makes several parts a whole.
        engine::check(transfer, &body.file.file).await?;
    }
    transfer.send_all(&head, false).await
}

#[cfg(test)]
mod tests {
    use super::{UNCORKED_BYTES_MAX, is_corked};

    #[test]
    fn long_bodies_and_those_of_several_parts_are_corked() {
        assert!(!is_corked(UNCORKED_BYTES_MAX, 1));
        assert!(is_corked(UNCORKED_BYTES_MAX + 1, 1));
        assert!(is_corked(2, 2));
    }
}
