//! Responses, ready to be sent.

use std::ops::Range;
use std::rc::Rc;

use super::super::account::Tally;
use super::super::context::Worker;
use super::super::disk::{DiskError, SILENT_RETRY_AFTER};
use super::super::error::TransferError;
use super::chunks::Framing;
use super::listing::ListingBody;
use crate::files::{FileError, KnownFile};
use crate::limits::Share;
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::Version;
use crate::protocol::http1::response::ResponseHead;
use crate::protocol::multipart::Segment;
use crate::protocol::problem;
use crate::telemetry::RequestId;

/// What of a request shapes every answer to it.
pub(super) struct Asked<'w> {
    pub(super) worker: &'w Worker,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    pub(super) id: &'w RequestId,
}

impl Asked<'_> {
    /// Whether the answer has a body.
    pub(super) fn has_body(&self) -> bool {
        self.method != Method::Head
    }

    /// An empty buffer for the answer, with room for a usual head.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.worker.response.take();
        buffer.reserve(HEAD_BYTES_USUAL);
        buffer
    }

    pub(super) fn head<'o>(&self, out: &'o mut Vec<u8>, status: u16) -> ResponseHead<'o> {
        // The date of now: what is known of a file may be younger than the request.
        let mut head = ResponseHead::new(out, status, &self.worker.clock.beginning());
        head.field_bytes("X-Request-Id", self.id.as_bytes());
        head
    }
}

/// A response, ready to be sent.
pub(super) struct Response {
    pub(super) status: u16,
    /// The head, and behind it a body that isn't a file's.
    pub(super) head: Vec<u8>,
    /// Bytes of `head` that are body.
    pub(super) text_bytes: u64,
    pub(super) file: Option<FileBody>,
    /// A body that is read while it is sent.
    pub(super) listing: Option<Box<ListingBody>>,
    /// Why the request was refused, where it was.
    pub(super) reason: Option<Box<str>>,
    /// What has been sent of it, and isn't here any more.
    pub(super) sent: Tally,
    /// The end of the connection is its end.
    pub(super) is_last: bool,
    /// What it takes of its address's share until it has been sent.
    pub(super) _share: Option<Box<Share>>,
}

/// File bytes that follow a head.
pub(super) struct FileBody {
    pub(super) file: Rc<KnownFile>,
    pub(super) segments: Vec<Segment>,
    pub(super) content_length: u64,
    /// The whole body as part of what is kept of the file, where the copy engine sends it.
    pub(super) kept: Option<Range<usize>>,
    /// Whether some time has passed since the file was looked at.
    pub(super) may_have_changed: bool,
    /// How it ends, where the file doesn't say how long it is.
    pub(super) unsized_as: Option<Framing>,
}

impl FileBody {
    /// The whole body, where it is in memory and the copy engine's.
    pub(super) fn in_memory(&self) -> Option<&[u8]> {
        self.file.content()?.get(self.kept.clone()?)
    }
}

/// Room for a usual head, so that it is written without growing.
const HEAD_BYTES_USUAL: usize = 512;

/// Largest buffer that is kept for the next response.
const BUFFER_BYTES_MAX: usize = 16 << 10;

impl Response {
    /// Gives the buffer back for the next response.
    pub(super) fn recycle(mut self, worker: &Worker) {
        if self.head.capacity() <= BUFFER_BYTES_MAX {
            self.head.clear();
            worker.response.set(self.head);
        }
    }

    /// A head without a body.
    pub(super) fn bare(status: u16, head: Vec<u8>) -> Response {
        Response {
            status,
            head,
            text_bytes: 0,
            file: None,
            listing: None,
            reason: None,
            sent: Tally::default(),
            is_last: false,
            _share: None,
        }
    }

    /// An error as a problem document (RFC 9457).
    pub(super) fn problem(asked: &Asked<'_>, status: u16, detail: &str) -> Response {
        Self::problem_with(asked, status, detail, |head| {
            if status == 503 {
                head.field("Retry-After", "1");
            }
        })
    }

    /// A request that could not be understood, or whose method isn't offered.
    pub(super) fn refused(asked: &Asked<'_>, error: &RequestError) -> Response {
        Self::problem_with(asked, error.status(), &error.to_string(), |head| {
            if let Some(methods) = error.allow(asked.worker.takes_uploads()) {
                head.field("Allow", methods);
            }
        })
    }

    pub(super) fn problem_with(
        asked: &Asked<'_>,
        status: u16,
        detail: &str,
        more_fields: impl FnOnce(&mut ResponseHead<'_>),
    ) -> Response {
        let document = problem::document(status, detail);
        let response =
            Self::text_with(asked, status, problem::CONTENT_TYPE, document.as_bytes(), more_fields);
        Response { reason: Some(detail.into()), ..response }
    }

    /// A short body of ours.
    pub(super) fn text_with(
        asked: &Asked<'_>,
        status: u16,
        content_type: &str,
        text: &[u8],
        more_fields: impl FnOnce(&mut ResponseHead<'_>),
    ) -> Response {
        let mut out = asked.buffer();
        let mut head = asked.head(&mut out, status);
        head.field("Content-Type", content_type).field_number("Content-Length", text.len() as u64);
        more_fields(&mut head);
        head.finish(asked.keep_alive, asked.version);
        let mut response = Response::bare(status, out);
        if asked.has_body() {
            response.append(text);
        }
        response
    }

    /// The head of a body that is sent in pieces, with what tells the client their end.
    pub(super) fn in_pieces(
        asked: &Asked<'_>,
        content_type: &str,
        framing: Framing,
        more_fields: impl FnOnce(&mut ResponseHead<'_>),
    ) -> Response {
        let mut out = asked.buffer();
        let mut head = asked.head(&mut out, 200);
        head.field("Content-Type", content_type);
        match framing {
            Framing::Length(length) => _ = head.field_number("Content-Length", length),
            Framing::Chunks => _ = head.field("Transfer-Encoding", "chunked"),
            Framing::Connection => {}
        }
        more_fields(&mut head);
        let is_last = framing == Framing::Connection;
        head.finish(asked.keep_alive && !is_last, asked.version);
        Response { is_last, ..Response::bare(200, out) }
    }

    /// An answer to a request that wrote: these fields, and a problem document where there is one.
    pub(super) fn made(
        asked: &Asked<'_>,
        status: u16,
        fields: &[(&'static str, String)],
        document: Option<&str>,
    ) -> Response {
        let more_fields = |head: &mut ResponseHead<'_>| {
            for (name, value) in fields {
                head.field(name, value);
            }
        };
        if let Some(document) = document {
            return Self::text_with(asked, status, problem::CONTENT_TYPE, document.as_bytes(), more_fields);
        }
        let mut out = asked.buffer();
        let mut head = asked.head(&mut out, status);
        // A 204 has none (RFC 9110 8.6).
        if status != 204 {
            head.field_number("Content-Length", 0);
        }
        more_fields(&mut head);
        head.finish(asked.keep_alive, asked.version);
        Response::bare(status, out)
    }

    pub(super) fn append(&mut self, text: &[u8]) {
        self.head.extend_from_slice(text);
        self.text_bytes += text.len() as u64;
    }

    /// What is answered where the disk threads didn't do it.
    pub(super) fn of_disk_error(asked: &Asked<'_>, error: &DiskError) -> Response {
        Self::unavailable(asked, &error.to_string(), error.retry_after())
    }

    fn unavailable(asked: &Asked<'_>, detail: &str, retry_after: &str) -> Response {
        Self::problem_with(asked, 503, detail, |head| {
            head.field("Retry-After", retry_after);
        })
    }

    /// What is told where a file can't be read after all, and nothing of the answer has been sent.
    pub(super) fn of_unread_source(asked: &Asked<'_>, error: &TransferError) -> Response {
        let response = match error {
            TransferError::Disk(error) => return Self::of_disk_error(asked, error),
            _ => Self::problem(asked, 500, "the file could not be read; the daemon's log says why"),
        };
        // What failed says more.
        Response { reason: None, ..response }
    }

    pub(super) fn of_file_error(asked: &Asked<'_>, error: FileError) -> Response {
        let detail = error.to_string();
        match error {
            FileError::NotFound => Self::problem(asked, 404, &detail),
            FileError::Denied => Self::problem(asked, 403, &detail),
            FileError::Exhausted(_) | FileError::Busy(_) | FileError::NoRoom(_) => {
                Self::unavailable(asked, &detail, "1")
            }
            FileError::Silent(_) => Self::unavailable(asked, &detail, SILENT_RETRY_AFTER),
            FileError::NoOpenat2 | FileError::Failed(_) => {
                tracing::warn!(%error, "a file could not be opened");
                Self::problem(asked, 500, "the file could not be opened; the daemon's log says why")
            }
        }
    }
}
