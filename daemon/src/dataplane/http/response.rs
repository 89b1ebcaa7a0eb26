//! An answer that is ready to be sent.

use std::ops::Range;
use std::rc::Rc;

use super::super::account::Tally;
use super::super::context::Worker;
use super::super::disk::{DiskError, SILENT_RETRY_AFTER};
use super::super::error::TransferError;
use super::archive::ArchiveBody;
use super::chunks::Framing;
use super::cors::Cors;
use super::listing::ListingBody;
use crate::files::archive::ArchiveError;
use crate::files::{FileError, KnownFile};
use crate::limits::Share;
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::Version;
use crate::protocol::http1::response::ResponseHead;
use crate::protocol::multipart::Segment;
use crate::protocol::{error_page, problem};
use crate::telemetry::RequestId;

/// The traits of a request that shape every answer to it.
pub(super) struct Asked<'w> {
    pub(super) worker: &'w Worker,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    pub(super) id: &'w RequestId,
    /// Whether errors are for people.
    pub(super) prefers_html: bool,
    /// Pages of which other origins may read the answer.
    pub(super) cors: Option<Cors<'w>>,
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
        // The date is that of now, since what is known of a file may be younger than the request.
        let mut head = ResponseHead::new(out, status, &self.worker.clock.beginning());
        head.field_bytes("X-Request-Id", self.id.as_bytes());
        if let Some(cors) = self.cors {
            cors.describe(&mut head);
        }
        head
    }
}

/// An answer that is ready to be sent.
pub(super) struct Response {
    pub(super) status: u16,
    /// The head, and behind it a body that is [text](Body::Text).
    pub(super) head: Vec<u8>,
    pub(super) body: Body,
    /// Why the request was refused, where it was.
    pub(super) reason: Option<Box<str>>,
    /// The bytes that have been sent already, and aren't here any more.
    pub(super) sent: Tally,
    /// The client sees the end of the answer by the end of the connection.
    pub(super) is_last: bool,
    /// The part of its address's share that the answer takes until it has been sent.
    pub(super) share: Option<Box<Share>>,
}

/// Where the body of an answer is.
pub(super) enum Body {
    /// The last bytes of the head's buffer; none where there is no body.
    Text { bytes: usize },
    /// A part of the content that is kept of a short file, for the copy engine.
    Kept { file: Rc<KnownFile>, range: Range<usize> },
    /// Parts of a file, for whatever engine suits each.
    File(FileBody),
    /// All of a file that doesn't say how long it is.
    Unsized { file: Rc<KnownFile>, framing: Framing },
    /// A listing, which is written while it is sent.
    Listing(Box<ListingBody>),
    /// An archive, which is made while it is sent.
    Archive(Box<ArchiveBody>),
}

impl Body {
    /// The body of an answer that has none.
    pub(super) const NONE: Body = Body::Text { bytes: 0 };
}

/// File bytes that follow a head.
pub(super) struct FileBody {
    pub(super) file: Rc<KnownFile>,
    pub(super) segments: Vec<Segment>,
    pub(super) content_length: u64,
    /// Whether there was time for the file to change since it was looked at.
    pub(super) may_have_changed: bool,
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

    /// Whether all of the answer is in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.body, Body::Text { .. } | Body::Kept { .. })
    }

    /// The buffer of the head and what follows it, where all of the answer is in memory.
    pub(super) fn in_memory(&self) -> Option<(&[u8], &[u8])> {
        match &self.body {
            Body::Text { .. } => Some((&self.head, &[])),
            Body::Kept { file, range } => Some((&self.head, file.content()?.get(range.clone())?)),
            Body::File(_) | Body::Unsized { .. } | Body::Listing(_) | Body::Archive(_) => None,
        }
    }

    /// How many bytes of an answer in memory are its body, which is what ends it.
    pub(super) fn payload_bytes(&self) -> usize {
        match &self.body {
            Body::Text { bytes } => *bytes,
            Body::Kept { range, .. } => range.len(),
            Body::File(_) | Body::Unsized { .. } | Body::Listing(_) | Body::Archive(_) => 0,
        }
    }

    /// Drops the first `sent` bytes of an answer in memory, of which something is left; and gives up the file whose
    /// content was part of it.
    pub(super) fn drop_sent(&mut self, sent: usize) -> Option<Rc<KnownFile>> {
        if sent == 0 {
            return None;
        }
        let payload_bytes = self.payload_bytes();
        let of_head = sent.min(self.head.len());
        self.head.drain(..of_head);
        let body = std::mem::replace(&mut self.body, Body::NONE);
        let file = match body {
            Body::Kept { file, range } => {
                let content = file.content().and_then(|content| content.get(range)).unwrap_or_default();
                self.head.extend_from_slice(&content[sent - of_head..]);
                Some(file)
            }
            _ => None,
        };
        self.body = Body::Text { bytes: payload_bytes.min(self.head.len()) };
        file
    }

    /// A head without a body.
    pub(super) fn bare(status: u16, head: Vec<u8>) -> Response {
        Response {
            status,
            head,
            body: Body::NONE,
            reason: None,
            sent: Tally::default(),
            is_last: false,
            share: None,
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

    /// The answer to a request that could not be understood, or whose method isn't offered.
    pub(super) fn refused(asked: &Asked<'_>, error: &RequestError) -> Response {
        Self::problem_with(asked, error.status(), &error.to_string(), |head| {
            if let Some(methods) = error.allow(asked.worker.takes_uploads()) {
                head.field("Allow", methods);
            }
        })
    }

    /// An error with `more_fields` in its head: a page for whoever prefers one, else a problem document.
    pub(super) fn problem_with(
        asked: &Asked<'_>,
        status: u16,
        detail: &str,
        more_fields: impl FnOnce(&mut ResponseHead<'_>),
    ) -> Response {
        let more_fields = |head: &mut ResponseHead<'_>| {
            head.field("Vary", "Accept");
            if asked.prefers_html {
                head.field("Content-Security-Policy", error_page::CONTENT_SECURITY_POLICY);
            }
            more_fields(head);
        };
        let (content_type, text) = if asked.prefers_html {
            (error_page::CONTENT_TYPE, error_page::page(status, detail))
        } else {
            (problem::CONTENT_TYPE, problem::document(status, detail))
        };
        let response = Self::text_with(asked, status, content_type, text.as_bytes(), more_fields);
        Response { reason: Some(detail.into()), ..response }
    }

    /// An answer with a short body of ours.
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
        head.field("X-Content-Type-Options", "nosniff");
        more_fields(&mut head);
        head.finish(asked.keep_alive, asked.version);
        let mut response = Response::bare(status, out);
        if asked.has_body() {
            response.append_body(text);
        }
        response
    }

    /// The head of a body that is sent in pieces, with the framing by which the client sees their end.
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

    /// Gives an answer without a body this one, behind its head.
    pub(super) fn append_body(&mut self, text: &[u8]) {
        self.head.extend_from_slice(text);
        self.body = Body::Text { bytes: text.len() };
    }

    /// The answer where the disk threads didn't do what it takes.
    pub(super) fn of_disk_error(asked: &Asked<'_>, error: &DiskError) -> Response {
        Self::unavailable(asked, &error.to_string(), error.retry_after())
    }

    fn unavailable(asked: &Asked<'_>, detail: &str, retry_after: &str) -> Response {
        Self::problem_with(asked, 503, detail, |head| {
            head.field("Retry-After", retry_after);
        })
    }

    /// The answer where a file can't be read after all, and nothing of another answer has been sent.
    pub(super) fn of_unread_source(asked: &Asked<'_>, error: &TransferError) -> Response {
        let response = match error {
            TransferError::Disk(error) => return Self::of_disk_error(asked, error),
            TransferError::Archive(error) => Self::of_archive_error(asked, error.clone()),
            _ => Self::problem(asked, 500, "the file could not be read; the daemon's log says why"),
        };
        // The line gives the failure as its reason, which says more.
        Response { reason: None, ..response }
    }

    /// The answer where a directory gives no archive.
    pub(super) fn of_archive_error(asked: &Asked<'_>, error: ArchiveError) -> Response {
        let detail = error.to_string();
        match error {
            ArchiveError::File(error) => Self::of_file_error(asked, error),
            ArchiveError::Denied { .. } | ArchiveError::TooMany { .. } => Self::problem(asked, 403, &detail),
            ArchiveError::Changed { .. } => Self::problem(asked, 503, &detail),
            ArchiveError::Failed { .. } => {
                tracing::warn!(%error, "an archive could not be made");
                Self::problem(asked, 500, &detail)
            }
        }
    }

    /// The answer where a file can't be opened.
    pub(super) fn of_file_error(asked: &Asked<'_>, error: FileError) -> Response {
        let detail = error.to_string();
        match error {
            FileError::NotFound => Self::problem(asked, 404, &detail),
            FileError::Denied => Self::problem(asked, 403, &detail),
            FileError::Exhausted(_) | FileError::Busy(_) | FileError::NoRoom(_) => {
                Self::unavailable(asked, &detail, "1")
            }
            FileError::Silent(_) => Self::unavailable(asked, &detail, SILENT_RETRY_AFTER),
            FileError::NoOpenat2 | FileError::Reserved | FileError::Failed(_) => {
                tracing::warn!(%error, "a file could not be opened");
                Self::problem(asked, 500, "the file could not be opened; the daemon's log says why")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, Response};

    fn answer() -> Response {
        let mut response = Response::bare(200, b"head".to_vec());
        response.append_body(b"body");
        response
    }

    #[test]
    fn an_answer_of_text_is_in_memory_and_ends_with_its_body() {
        let response = answer();
        assert_eq!(response.in_memory(), Some((&b"headbody"[..], &b""[..])));
        assert_eq!(response.payload_bytes(), 4);
        assert_eq!(Response::bare(204, b"head".to_vec()).payload_bytes(), 0);
    }

    #[test]
    fn what_was_sent_is_dropped_and_the_rest_still_tells_head_from_body() {
        for (sent, left, payload_bytes) in [(0, &b"headbody"[..], 4), (3, b"dbody", 4), (6, b"dy", 2)] {
            let mut response = answer();
            assert!(response.drop_sent(sent).is_none());
            assert_eq!(response.in_memory(), Some((left, &b""[..])));
            assert!(matches!(response.body, Body::Text { bytes } if bytes == payload_bytes));
        }
    }
}
