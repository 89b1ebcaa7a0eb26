//! From a request to a response: which file, which condition, which ranges.

use std::rc::Rc;
use std::sync::Arc;

use super::super::clock::Clock;
use super::super::worker::Worker;
use super::{has_body, listing};
use crate::files::{FileError, Found, KnownFile, Root, SourceFile};
use crate::protocol::conditional::{Verdict, evaluate, range_applies};
use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::{Request, Version};
use crate::protocol::http1::response::ResponseHead;
use crate::protocol::multipart::{self, Segment};
use crate::protocol::name::Name;
use crate::protocol::problem;
use crate::protocol::range::{ByteRange, Selection, select};

/// What of a request shapes every answer to it.
pub(super) struct Asked {
    method: Method,
    version: Version,
    keep_alive: bool,
    date: String,
}

impl Asked {
    pub(super) fn new(request: &Request, clock: &Clock, keep_alive: bool) -> Asked {
        Asked { method: request.method, version: request.version, keep_alive, date: clock.date() }
    }

    /// For answers to what could not be read as a request; `input` is what there is of it.
    pub(super) fn unread(clock: &Clock, input: &[u8]) -> Asked {
        // Whatever is wrong with it, a HEAD is answered without a body.
        let method = if input.starts_with(b"HEAD ") { Method::Head } else { Method::Get };
        Asked { method, version: Version::Http11, keep_alive: false, date: clock.date() }
    }

    fn head<'o>(&self, out: &'o mut Vec<u8>, status: u16) -> ResponseHead<'o> {
        ResponseHead::new(out, status, &self.date)
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
}

/// File bytes that follow a head.
pub(super) struct FileBody {
    pub(super) file: Rc<KnownFile>,
    pub(super) segments: Vec<Segment>,
    pub(super) content_length: u64,
}

/// Room for a usual head, so that it is written without growing.
const HEAD_BYTES_USUAL: usize = 512;

impl Response {
    /// A head without a body.
    fn bare(status: u16, head: Vec<u8>) -> Response {
        Response { status, head, text_bytes: 0, file: None }
    }

    /// An error as a problem document (RFC 9457).
    pub(super) fn problem(asked: &Asked, status: u16, detail: &str) -> Response {
        Self::problem_with(asked, status, detail, |_| {})
    }

    /// A request that could not be understood, or whose method isn't offered.
    pub(super) fn refused(asked: &Asked, error: &RequestError) -> Response {
        Self::problem_with(asked, error.status(), &error.to_string(), |head| {
            if let Some(methods) = error.allow() {
                head.field("Allow", methods);
            }
        })
    }

    fn problem_with(
        asked: &Asked,
        status: u16,
        detail: &str,
        more_fields: impl FnOnce(&mut ResponseHead<'_>),
    ) -> Response {
        let document = problem::document(status, detail);
        Self::text_with(asked, status, problem::CONTENT_TYPE, document.as_bytes(), more_fields)
    }

    /// A short body of ours.
    pub(super) fn text_with(
        asked: &Asked,
        status: u16,
        content_type: &str,
        text: &[u8],
        more_fields: impl FnOnce(&mut ResponseHead<'_>),
    ) -> Response {
        let mut out = Vec::with_capacity(HEAD_BYTES_USUAL + text.len());
        let mut head = asked.head(&mut out, status);
        head.field("Content-Type", content_type).field_number("Content-Length", text.len() as u64);
        more_fields(&mut head);
        head.finish(asked.keep_alive, asked.version);
        let mut response = Response::bare(status, out);
        if has_body(asked.method) {
            response.head.extend_from_slice(text);
            response.text_bytes = text.len() as u64;
        }
        response
    }

    fn of_file_error(asked: &Asked, error: FileError) -> Response {
        let detail = error.to_string();
        match error {
            FileError::NotFound => Self::problem(asked, 404, &detail),
            FileError::Denied => Self::problem(asked, 403, &detail),
            FileError::Exhausted(_) | FileError::Busy => Self::problem_with(asked, 503, &detail, |head| {
                head.field("Retry-After", "1");
            }),
            FileError::Failed(errno) => {
                tracing::warn!(%errno, "a file could not be opened");
                Self::problem(asked, 500, "the file could not be opened; the daemon's log says why")
            }
        }
    }
}

/// Finds out what answers `request`.
pub(super) async fn prepare(worker: &Worker, request: &Request, asked: &Asked) -> Response {
    let Some(root) = &worker.resources.root else {
        return Response::problem(asked, 404, "no files are served: no root is configured");
    };
    if let Some(known) = worker.files.get(&request.name, worker.clock.ticks()) {
        return of_file(request, asked, &known);
    }
    match find(worker, root, &request.name).await {
        Ok(Found::File(file)) => {
            let known = keep(worker, &request.name, file);
            let response = of_file(request, asked, &known);
            worker.disk.release(known);
            response
        }
        Ok(Found::Directory(directory)) if worker.live().settings.listing => {
            listing::respond(worker, request, asked, directory)
                .await
                .unwrap_or_else(|error| Response::of_file_error(asked, error))
        }
        Ok(Found::Directory(_)) => Response::of_file_error(asked, FileError::NotFound),
        Err(error) => Response::of_file_error(asked, error),
    }
}

/// Keeps a file that was just opened for the requests that follow.
fn keep(worker: &Worker, name: &Name, file: SourceFile) -> Rc<KnownFile> {
    let now = worker.clock.ticks();
    let valid_ms = worker.live().settings.cache_valid_ms;
    worker.files.add(name, file, now, now + worker.clock.ticks_within(valid_ms))
}

/// Resolves a name, at once where that needs no disk.
pub(in super::super) async fn find(
    worker: &Worker,
    root: &Arc<Root>,
    name: &Name,
) -> Result<Found, FileError> {
    if let Some(found) = root.find_cached(name) {
        return found;
    }
    let (root, name) = (Arc::clone(root), name.clone());
    worker.disk.run_or_refuse(move || root.find(&name)).await.map_err(|_| FileError::Busy)?
}

fn of_file(request: &Request, asked: &Asked, known: &Rc<KnownFile>) -> Response {
    match evaluate(&request.preconditions, &known.validators) {
        Verdict::Proceed => {}
        Verdict::NotModified => return not_modified(asked, known),
        Verdict::Failed => {
            return Response::problem(asked, 412, "the file is not in the state that was asked for");
        }
    }
    let size = known.file.size();
    let whole = ByteRange { start: 0, length: size };
    let content = Content { asked, known };
    let selection = match &request.range {
        // Ranges are defined for GET alone (RFC 9110 14.2).
        Some(field) if request.method == Method::Get && applies(request, known) => select(field, size),
        _ => Selection::Whole,
    };
    match selection {
        Selection::Whole => content.single(200, whole),
        Selection::Unsatisfiable => unsatisfiable(asked, size),
        Selection::Ranges(ranges) => match ranges.as_slice() {
            [range] => content.single(206, *range),
            ranges => content.several(ranges, whole),
        },
    }
}

fn applies(request: &Request, known: &KnownFile) -> bool {
    range_applies(request.if_range.as_deref(), &known.validators)
}

fn not_modified(asked: &Asked, known: &KnownFile) -> Response {
    let mut out = Vec::with_capacity(HEAD_BYTES_USUAL);
    let mut head = asked.head(&mut out, 304);
    head.field("ETag", &known.validators.etag).field("Last-Modified", &known.last_modified);
    head.finish(asked.keep_alive, asked.version);
    Response::bare(304, out)
}

fn unsatisfiable(asked: &Asked, size: u64) -> Response {
    let detail = format!("no such range: the file has {size} bytes");
    Response::problem_with(asked, 416, &detail, |head| {
        head.content_range_unsatisfied(size);
    })
}

/// What every answer with bytes of a file says.
struct Content<'a> {
    asked: &'a Asked,
    known: &'a Rc<KnownFile>,
}

impl Content<'_> {
    /// One range, or the whole file.
    fn single(&self, status: u16, range: ByteRange) -> Response {
        let segments = vec![Segment::File(range)];
        self.respond(status, &self.known.media_type, segments, range.length, |head| {
            if status == 206 {
                head.content_range(range, self.known.file.size());
            }
        })
    }

    /// Several ranges as multipart/byteranges (RFC 9110 14.6).
    fn several(&self, ranges: &[ByteRange], whole: ByteRange) -> Response {
        let boundary = format!("{:032x}", u128::from_ne_bytes(random()));
        let Some(plan) = multipart::plan(ranges, whole.length, &self.known.media_type, boundary) else {
            return self.single(200, whole);
        };
        let media_type = plan.content_type();
        self.respond(206, &media_type, plan.segments, plan.content_length, |_| {})
    }

    fn respond(
        &self,
        status: u16,
        media_type: &str,
        segments: Vec<Segment>,
        content_length: u64,
        more_fields: impl FnOnce(&mut ResponseHead<'_>),
    ) -> Response {
        let mut out = Vec::with_capacity(HEAD_BYTES_USUAL);
        let mut head = self.asked.head(&mut out, status);
        head.field("Content-Type", media_type).field_number("Content-Length", content_length);
        head.field("Last-Modified", &self.known.last_modified);
        head.field("ETag", &self.known.validators.etag).field("Accept-Ranges", "bytes");
        more_fields(&mut head);
        head.finish(self.asked.keep_alive, self.asked.version);
        let has_body = has_body(self.asked.method) && content_length > 0;
        let file = has_body.then(|| FileBody { file: Rc::clone(self.known), segments, content_length });
        Response { status, head: out, text_bytes: 0, file }
    }
}

/// A boundary that the file can't have been written to contain.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without randomness a constant boundary still is right for every file that doesn't contain it.
    let _ = getrandom::fill(&mut bytes);
    bytes
}
