//! Sends a prepared response.

use super::super::account::Tally;
use super::super::engine::{self, Facts, Transfer, UNCORKED_BYTES_MAX};
use super::super::error::TransferError;
use super::super::registry::Connection;
use super::super::worker::Worker;
use super::response::{FileBody, Response};
use crate::files::residency::Residency;
use crate::protocol::multipart::Segment;
use crate::telemetry::EngineLabel;

/// Sends head and body. The tally holds what was sent even where that failed.
pub(super) async fn send(
    worker: &Worker,
    connection: &Connection,
    response: Response,
) -> (Tally, Result<(), TransferError>) {
    let mut transfer = Transfer::new(worker, connection);
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
    transfer.send_all(head, false).await?;
    if text_bytes > 0 {
        transfer.count(EngineLabel::Copy, text_bytes);
    }
    Ok(())
}

async fn send_file(transfer: &mut Transfer<'_>, head: Vec<u8>, body: &FileBody) -> Result<(), TransferError> {
    if let Some(content) = content_to_copy(transfer, body) {
        transfer.send_both(&head, content).await?;
        transfer.count(EngineLabel::Copy, content.len() as u64);
        return Ok(());
    }
    let corked = body.content_length > UNCORKED_BYTES_MAX || body.segments.len() > 1;
    if corked {
        transfer.connection.socket.set_cork(true);
    }
    send_segments(transfer, head, body).await?;
    if corked {
        transfer.connection.socket.set_cork(false);
    }
    Ok(())
}

/// The part of the body that is in memory already, where it is the whole body and the copy engine's.
fn content_to_copy<'b>(transfer: &Transfer<'_>, body: &'b FileBody) -> Option<&'b [u8]> {
    let ([Segment::File(range)], Some(content)) = (body.segments.as_slice(), &body.file.content) else {
        return None;
    };
    let choice = transfer.worker.live().settings.engine;
    let facts = Facts { choice, transfer_bytes: range.length, residency: Residency::Hot };
    if engine::choose(facts) != EngineLabel::Copy {
        return None;
    }
    let (start, length) = (usize::try_from(range.start).ok()?, usize::try_from(range.length).ok()?);
    content.get(start..start.checked_add(length)?)
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
                transfer.count(EngineLabel::Copy, text.len() as u64);
            }
            Segment::File(range) => {
                let head = std::mem::take(&mut head);
                engine::send_range(transfer, head, &body.file.file, *range, number < last).await?;
            }
        }
    }
    transfer.send_all(&head, false).await
}
