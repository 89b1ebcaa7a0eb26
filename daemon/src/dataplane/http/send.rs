//! Sends a prepared response.

use super::super::account::Tally;
use super::super::connection::Connection;
use super::super::context::Worker;
use super::super::engine::{self, Engine, Transfer, UNCORKED_BYTES_MAX};
use super::super::error::{PeerGone, TransferError};
use super::listing;
use super::response::{FileBody, Response};
use super::unsized_body;
use crate::protocol::multipart::Segment;

/// Sends a response that is in memory, if the socket takes all of it now; what it doesn't take stays in `response`.
/// None: there is something left to send.
pub(super) fn send_at_once(
    worker: &Worker,
    connection: &Connection,
    response: &mut Response,
) -> Result<Option<Tally>, PeerGone> {
    let socket = &connection.socket;
    let (sent, body_bytes) = match &response.file {
        None => (socket.try_send(&response.head, false)?, response.text_bytes),
        Some(body) => match body.in_memory() {
            Some(content) => (socket.try_send_both(&response.head, content)?, body.content_length),
            None => return Ok(None),
        },
    };
    let Some(sent) = sent else { return Ok(None) };
    let left = keep_rest(worker, response, sent);
    // The body is what ends it.
    let body_left = body_bytes.min(left as u64);
    response.sent.begin();
    if body_bytes > body_left {
        response.sent.add(Engine::Copy.label(), body_bytes - body_left);
        worker.counters.bytes_sent.add(Engine::Copy.label(), body_bytes - body_left);
    }
    if left == 0 {
        return Ok(Some(response.sent));
    }
    response.text_bytes = body_left;
    Ok(None)
}

/// Drops the first `sent` bytes of a response that is in memory, unless those are all, and says how many are left.
fn keep_rest(worker: &Worker, response: &mut Response, sent: usize) -> usize {
    let content = response.file.as_ref().and_then(FileBody::in_memory).unwrap_or_default();
    let left = (response.head.len() + content.len()).saturating_sub(sent);
    if left > 0 {
        let of_head = sent.min(response.head.len());
        response.head.drain(..of_head);
        response.head.extend_from_slice(&content[sent - of_head..]);
        if let Some(body) = response.file.take() {
            worker.disk.release(body.file);
        }
    }
    left
}

/// Lets go of a response that isn't sent, or not to its end: what it has open is closed where that may wait.
pub(super) fn give_up(worker: &Worker, response: Response) {
    if let Some(body) = response.file {
        worker.disk.release(body.file);
    }
    if let Some(body) = response.listing {
        body.give_up(worker);
    }
}

/// Sends head and body, or what is left of them. The tally holds what was sent even where that failed.
pub(super) async fn send(
    worker: &Worker,
    connection: &Connection,
    response: Response,
) -> (Tally, Result<(), TransferError>) {
    let mut transfer = Transfer::new(worker, connection);
    if response.file.as_ref().is_some_and(|body| body.may_have_changed) {
        transfer.note_wait();
    }
    transfer.tally = response.sent;
    if let Some(body) = response.listing {
        let result = Box::pin(listing::send(&mut transfer, &response.head, *body)).await;
        return (transfer.tally, result);
    }
    let result = match response.file {
        None => send_text(&mut transfer, &response.head, response.text_bytes).await,
        Some(body) => {
            let result = send_file(&mut transfer, response.head, &body).await;
            worker.disk.release(body.file);
            result
        }
    };
    (transfer.tally, result)
}

async fn send_text(transfer: &mut Transfer<'_>, head: &[u8], text_bytes: u64) -> Result<(), TransferError> {
    let text_bytes = usize::try_from(text_bytes).unwrap_or(usize::MAX);
    let (head, text) = head.split_at(head.len().saturating_sub(text_bytes));
    transfer.send_both(head, text).await
}

async fn send_file(transfer: &mut Transfer<'_>, head: Vec<u8>, body: &FileBody) -> Result<(), TransferError> {
    if let Some(framing) = body.unsized_as {
        return Box::pin(unsized_body::send(transfer, head, &body.file.file, framing)).await;
    }
    if let Some(content) = body.in_memory() {
        return transfer.send_both(&head, content).await;
    }
    let corked = body.content_length > UNCORKED_BYTES_MAX || body.segments.len() > 1;
    if corked {
        transfer.connection().socket.set_cork(true);
    }
    let result = send_segments(transfer, head, body).await;
    // What failed before its first byte is answered otherwise.
    if corked && (result.is_ok() || !transfer.tally.is_begun()) {
        transfer.connection().socket.set_cork(false);
    }
    result
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
                // Of a single range there is no text behind it.
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
