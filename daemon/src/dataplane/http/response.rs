//! From a request to a response: which file, which condition, which ranges.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::super::engine::{self, Facts};
use super::super::worker::Worker;
use super::{digest, has_body, listing};
use crate::files::residency::Residency;
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
use crate::telemetry::EngineLabel;

/// What of a request shapes every answer to it.
pub(super) struct Asked<'w> {
    worker: &'w Worker,
    method: Method,
    version: Version,
    keep_alive: bool,
    date: Rc<str>,
}

impl<'w> Asked<'w> {
    pub(super) fn new(worker: &'w Worker, request: &Request, keep_alive: bool) -> Asked<'w> {
        let date = worker.clock.date();
        Asked { worker, method: request.method, version: request.version, keep_alive, date }
    }

    /// For answers to what could not be read as a request; `input` is what there is of it.
    pub(super) fn unread(worker: &'w Worker, input: &[u8]) -> Asked<'w> {
        // Whatever is wrong with it, a HEAD is answered without a body.
        let method = if input.starts_with(b"HEAD ") { Method::Head } else { Method::Get };
        Asked { worker, method, version: Version::Http11, keep_alive: false, date: worker.clock.date() }
    }

    /// An empty buffer for the answer, with room for a usual head.
    fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.worker.response.take();
        buffer.reserve(HEAD_BYTES_USUAL);
        buffer
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
    /// The whole body as part of what is kept of the file, where the copy engine sends it.
    kept: Option<Range<usize>>,
}

impl FileBody {
    /// The whole body, where it is in memory and the copy engine's.
    pub(super) fn in_memory(&self) -> Option<&[u8]> {
        self.file.content.as_deref()?.get(self.kept.clone()?)
    }
}

/// Room for a usual head, so that it is written without growing.
const HEAD_BYTES_USUAL: usize = 512;

/// Bodies up to this length are copied behind their head: that costs less than sending two pieces in one call.
const JOINED_BYTES_MAX: usize = 4 << 10;

/// Largest buffer that is kept for the next response: a listing's may be as large as its directory.
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
    fn bare(status: u16, head: Vec<u8>) -> Response {
        Response { status, head, text_bytes: 0, file: None }
    }

    /// An error as a problem document (RFC 9457).
    pub(super) fn problem(asked: &Asked<'_>, status: u16, detail: &str) -> Response {
        Self::problem_with(asked, status, detail, |_| {})
    }

    /// A request that could not be understood, or whose method isn't offered.
    pub(super) fn refused(asked: &Asked<'_>, error: &RequestError) -> Response {
        Self::problem_with(asked, error.status(), &error.to_string(), |head| {
            if let Some(methods) = error.allow(asked.worker.resources.uploads.is_some()) {
                head.field("Allow", methods);
            }
        })
    }

    fn problem_with(
        asked: &Asked<'_>,
        status: u16,
        detail: &str,
        more_fields: impl FnOnce(&mut ResponseHead<'_>),
    ) -> Response {
        let document = problem::document(status, detail);
        Self::text_with(asked, status, problem::CONTENT_TYPE, document.as_bytes(), more_fields)
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
        if has_body(asked.method) {
            response.append(text);
        }
        response
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

    fn append(&mut self, text: &[u8]) {
        self.head.extend_from_slice(text);
        self.text_bytes += text.len() as u64;
    }

    fn of_file_error(asked: &Asked<'_>, error: FileError) -> Response {
        let detail = error.to_string();
        match error {
            FileError::NotFound => Self::problem(asked, 404, &detail),
            FileError::Denied => Self::problem(asked, 403, &detail),
            FileError::Exhausted(_) | FileError::Busy => Self::problem_with(asked, 503, &detail, |head| {
                head.field("Retry-After", "1");
            }),
            FileError::NoOpenat2 | FileError::Failed(_) => {
                tracing::warn!(%error, "a file could not be opened");
                Self::problem(asked, 500, "the file could not be opened; the daemon's log says why")
            }
        }
    }
}

/// What answers a request for a file that is known.
pub(super) fn of_known_file(worker: &Worker, request: &Request, keep_alive: bool) -> Option<Response> {
    let known = known_file(worker, request)?;
    Some(of_file(request, &Asked::new(worker, request, keep_alive), &known, None))
}

fn known_file(worker: &Worker, request: &Request) -> Option<Rc<KnownFile>> {
    worker.files.get(&request.name, worker.clock.ticks(), worker.generation())
}

/// Finds out what answers `request`.
pub(super) async fn prepare(worker: &Worker, request: &Request, keep_alive: bool) -> Response {
    let asked = &Asked::new(worker, request, keep_alive);
    if let Some(known) = known_file(worker, request) {
        return of_found(worker, request, asked, &known).await;
    }
    let Some(root) = &worker.resources.root else {
        return Response::problem(asked, 404, "no files are served: no root is configured");
    };
    let generation = worker.generation();
    match find(worker, root, &request.name).await {
        Ok(Found::File(file)) => {
            let known = keep(worker, &request.name, file, generation);
            let response = of_found(worker, request, asked, &known).await;
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

async fn of_found(worker: &Worker, request: &Request, asked: &Asked<'_>, known: &Rc<KnownFile>) -> Response {
    let repr_digest = digest::of(worker, request, &known.file).await;
    of_file(request, asked, known, repr_digest.as_deref())
}

/// Keeps a file that was just opened for the requests that follow; `generation` is the one before the opening.
fn keep(worker: &Worker, name: &Name, file: SourceFile, generation: u64) -> Rc<KnownFile> {
    let now = worker.clock.ticks();
    let valid_ms = worker.live().settings.cache_valid_ms;
    worker.files.add(name, file, now, now + worker.clock.ticks_within(valid_ms), generation)
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

fn of_file(
    request: &Request,
    asked: &Asked<'_>,
    known: &Rc<KnownFile>,
    repr_digest: Option<&str>,
) -> Response {
    match evaluate(&request.preconditions, &known.validators) {
        Verdict::Proceed => {}
        Verdict::NotModified => return not_modified(asked, known),
        Verdict::Failed => {
            return Response::problem(asked, 412, "the file is not in the state that was asked for");
        }
    }
    let size = known.file.size();
    let whole = ByteRange { start: 0, length: size };
    let content = Content { asked, known, repr_digest };
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

fn not_modified(asked: &Asked<'_>, known: &KnownFile) -> Response {
    let mut out = asked.buffer();
    let mut head = asked.head(&mut out, 304);
    head.field("ETag", &known.validators.etag).field("Last-Modified", &known.last_modified);
    head.finish(asked.keep_alive, asked.version);
    Response::bare(304, out)
}

fn unsatisfiable(asked: &Asked<'_>, size: u64) -> Response {
    let detail = format!("no such range: the file has {size} bytes");
    Response::problem_with(asked, 416, &detail, |head| {
        head.content_range_unsatisfied(size);
    })
}

/// What every answer with bytes of a file says.
struct Content<'a> {
    asked: &'a Asked<'a>,
    known: &'a Rc<KnownFile>,
    repr_digest: Option<&'a str>,
}

impl Content<'_> {
    /// One range, or the whole file.
    fn single(&self, status: u16, range: ByteRange) -> Response {
        let mut response = self.head(status, &self.known.media_type, range.length, |head| {
            if status == 206 {
                head.content_range(range, self.known.file.size());
            }
        });
        if !self.has_body(range.length) {
            return response;
        }
        let kept = self.kept(range);
        match (&kept, &self.known.content) {
            (Some(kept), Some(content)) if kept.len() <= JOINED_BYTES_MAX => {
                response.append(&content[kept.clone()]);
            }
            _ => response.file = Some(self.body(vec![Segment::File(range)], range.length, kept)),
        }
        response
    }

    /// Several ranges as multipart/byteranges (RFC 9110 14.6).
    fn several(&self, ranges: &[ByteRange], whole: ByteRange) -> Response {
        let boundary = format!("{:032x}", u128::from_ne_bytes(random()));
        let Some(plan) = multipart::plan(ranges, whole.length, &self.known.media_type, boundary) else {
            return self.single(200, whole);
        };
        let mut response = self.head(206, &plan.content_type(), plan.content_length, |_| {});
        if self.has_body(plan.content_length) {
            response.file = Some(self.body(plan.segments, plan.content_length, None));
        }
        response
    }

    fn head(
        &self,
        status: u16,
        media_type: &str,
        content_length: u64,
        more_fields: impl FnOnce(&mut ResponseHead<'_>),
    ) -> Response {
        let mut out = self.asked.buffer();
        let mut head = self.asked.head(&mut out, status);
        head.field("Content-Type", media_type).field_number("Content-Length", content_length);
        head.field("Last-Modified", &self.known.last_modified);
        head.field("ETag", &self.known.validators.etag).field("Accept-Ranges", "bytes");
        if let Some(digest) = self.repr_digest {
            head.field("Repr-Digest", digest);
        }
        more_fields(&mut head);
        head.finish(self.asked.keep_alive, self.asked.version);
        Response::bare(status, out)
    }

    fn has_body(&self, content_length: u64) -> bool {
        has_body(self.asked.method) && content_length > 0
    }

    fn body(&self, segments: Vec<Segment>, content_length: u64, kept: Option<Range<usize>>) -> FileBody {
        FileBody { file: Rc::clone(self.known), segments, content_length, kept }
    }

    /// Where in the kept content a range is, if all of it is and the copy engine sends it.
    fn kept(&self, range: ByteRange) -> Option<Range<usize>> {
        let content = self.known.content.as_ref()?;
        let choice = self.asked.worker.live().settings.engine;
        let facts = Facts { choice, transfer_bytes: range.length, residency: Residency::Hot };
        if engine::choose(facts) != EngineLabel::Copy {
            return None;
        }
        let (start, length) = (usize::try_from(range.start).ok()?, usize::try_from(range.length).ok()?);
        let end = start.checked_add(length).filter(|end| *end <= content.len())?;
        Some(start..end)
    }
}

/// A boundary that the file can't have been written to contain.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without randomness a constant boundary still is right for every file that doesn't contain it.
    let _ = getrandom::fill(&mut bytes);
    bytes
}
