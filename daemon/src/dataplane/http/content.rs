//! Makes the answer to a request for a file that was found: its conditions are judged, its ranges selected, and its
//! head written.

use std::ops::Range;
use std::rc::Rc;

use super::super::engine::{self, Engine, Facts};
use super::chunks::Framing;
use super::response::{Asked, Body, FileBody, Response};
use crate::files::KnownFile;
use crate::files::residency::Residency;
use crate::protocol::conditional::{Validators, Verdict, evaluate, range_applies};
use crate::protocol::disposition;
use crate::protocol::http1::method::Method;
use crate::protocol::http1::request::Request;
use crate::protocol::http1::response::ResponseHead;
use crate::protocol::multipart::{self, Segment};
use crate::protocol::range::{ByteRange, Selection, select};

/// Bodies up to this length are copied behind their head: that costs less than sending two pieces in one call.
const JOINED_BYTES_MAX: usize = 4 << 10;

/// The answer to `request` for this file, with its digest where one is wanted.
pub(super) fn of_file(
    request: &Request,
    asked: &Asked<'_>,
    known: &Rc<KnownFile>,
    repr_digest: Option<&str>,
) -> Response {
    if known.file.is_unsized() {
        return of_unsized_file(request, asked, known);
    }
    match evaluate(&request.preconditions, &known.validators) {
        Verdict::Proceed => {}
        Verdict::NotModified => return not_modified(asked, known),
        Verdict::Failed => {
            return Response::problem(asked, 412, "the file is not in the state that was asked for");
        }
    }
    let size = known.file.size();
    let whole = ByteRange { start: 0, length: size };
    let disposition = disposition(request);
    let content = Content { asked, known, repr_digest, disposition: disposition.as_deref() };
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

/// A file that doesn't say how long it is has no ranges, and nothing that tells this content of it from the next.
fn of_unsized_file(request: &Request, asked: &Asked<'_>, known: &Rc<KnownFile>) -> Response {
    let validators = Validators { modified: None, ..known.validators.clone() };
    match evaluate(&request.preconditions, &validators) {
        Verdict::Proceed => {}
        Verdict::NotModified | Verdict::Failed => {
            return Response::problem(asked, 412, "nothing tells which content the file has at this moment");
        }
    }
    let framing = Framing::of_unknown_length(asked.version);
    let is_last = framing == Framing::Connection;
    let mut out = asked.buffer();
    let mut head = asked.head(&mut out, 200);
    head.field("Content-Type", &known.description.media_type).block(&known.description.fields);
    if let Some(value) = disposition(request) {
        head.field("Content-Disposition", &value);
    }
    if !asked.has_body() {
        head.finish(asked.keep_alive, asked.version);
        return Response::bare(200, out);
    }
    if framing == Framing::Chunks {
        head.field("Transfer-Encoding", "chunked");
    }
    head.finish(asked.keep_alive && !is_last, asked.version);
    let body = Body::Unsized { file: Rc::clone(known), framing };
    Response { body, is_last, ..Response::bare(200, out) }
}

/// The field that has a browser save the file, where the request asks for that.
fn disposition(request: &Request) -> Option<String> {
    if !request.is_download {
        return None;
    }
    let mut segments = request.name.as_bytes().split(|&byte| byte == b'/');
    let own = segments.rfind(|segment| !segment.is_empty());
    let attachment = |name: &[u8]| disposition::attachment(&String::from_utf8_lossy(name));
    Some(own.map_or_else(|| "attachment".to_owned(), attachment))
}

fn applies(request: &Request, known: &KnownFile) -> bool {
    range_applies(request.if_range.as_deref(), &known.validators)
}

fn not_modified(asked: &Asked<'_>, known: &KnownFile) -> Response {
    let mut out = asked.buffer();
    let mut head = asked.head(&mut out, 304);
    head.field("ETag", &known.validators.etag);
    if let Some(last_modified) = &known.last_modified {
        head.field("Last-Modified", last_modified);
    }
    head.block(&known.description.fields);
    head.finish(asked.keep_alive, asked.version);
    Response::bare(304, out)
}

fn unsatisfiable(asked: &Asked<'_>, size: u64) -> Response {
    let detail = format!("no such range: the file has {size} bytes");
    Response::problem_with(asked, 416, &detail, |head| {
        head.content_range_unsatisfied(size);
    })
}

/// The answers that have bytes of a file.
struct Content<'a> {
    asked: &'a Asked<'a>,
    known: &'a Rc<KnownFile>,
    repr_digest: Option<&'a str>,
    disposition: Option<&'a str>,
}

impl Content<'_> {
    /// An answer with one range, or with the whole file.
    fn single(&self, status: u16, range: ByteRange) -> Response {
        let body = self.body(range);
        let mut response = self.head(status, |head| match status {
            206 => {
                self.known.describe(head, &self.known.description.media_type, range.length);
                head.content_range(range, self.known.file.size());
            }
            _ => {
                head.block(&self.known.whole);
            }
        });
        match (&body, self.known.content()) {
            (Body::Kept { range, .. }, Some(content)) if range.len() <= JOINED_BYTES_MAX => {
                response.append_body(&content[range.clone()]);
            }
            _ => response.body = body,
        }
        response
    }

    /// The body of an answer with one range.
    fn body(&self, range: ByteRange) -> Body {
        if !self.has_body(range.length) {
            return Body::NONE;
        }
        match self.kept(range) {
            Some(range) => Body::Kept { file: Rc::clone(self.known), range },
            None => self.file(vec![Segment::File(range)], range.length),
        }
    }

    /// An answer with several ranges as multipart/byteranges (RFC 9110 14.6).
    fn several(&self, ranges: &[ByteRange], whole: ByteRange) -> Response {
        let boundary = format!("{:032x}", u128::from_ne_bytes(random()));
        let Some(plan) = multipart::plan(ranges, whole.length, &self.known.description.media_type, boundary)
        else {
            return self.single(200, whole);
        };
        let mut response = self.head(206, |head| {
            self.known.describe(head, &plan.content_type(), plan.content_length);
        });
        if self.has_body(plan.content_length) {
            response.body = self.file(plan.segments, plan.content_length);
        }
        response
    }

    fn head(&self, status: u16, describe: impl FnOnce(&mut ResponseHead<'_>)) -> Response {
        let mut out = self.asked.buffer();
        let mut head = self.asked.head(&mut out, status);
        describe(&mut head);
        if let Some(digest) = self.repr_digest {
            head.field("Repr-Digest", digest);
        }
        if let Some(disposition) = self.disposition {
            head.field("Content-Disposition", disposition);
        }
        head.finish(self.asked.keep_alive, self.asked.version);
        Response::bare(status, out)
    }

    fn has_body(&self, content_length: u64) -> bool {
        self.asked.has_body() && content_length > 0
    }

    fn file(&self, segments: Vec<Segment>, content_length: u64) -> Body {
        let file = Rc::clone(self.known);
        Body::File(FileBody { file, segments, content_length, may_have_changed: false })
    }

    /// Where in the kept content a range is, if all of it is and the copy engine sends it.
    fn kept(&self, range: ByteRange) -> Option<Range<usize>> {
        let content = self.known.content()?;
        let choice = self.asked.worker.live().settings.engine;
        let facts = Facts { choice, transfer_bytes: range.length, residency: Residency::Hot };
        if engine::choose(facts) != Engine::Copy {
            return None;
        }
        within(range, content.len())
    }
}

/// A range of a file as one of its first `bytes` bytes, if it lies in them.
fn within(range: ByteRange, bytes: usize) -> Option<Range<usize>> {
    let (start, length) = (usize::try_from(range.start).ok()?, usize::try_from(range.length).ok()?);
    let end = start.checked_add(length).filter(|end| *end <= bytes)?;
    Some(start..end)
}

/// A boundary that the file can't have been written to contain.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Where the kernel gives no random bytes a constant boundary is still right for every file without it.
    let _ = getrandom::fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{ByteRange, random, within};

    #[test]
    fn only_what_lies_in_the_kept_content_is_sent_from_there() {
        for (start, length, expected) in [
            (0, 100, Some(0..100)),
            (40, 60, Some(40..100)),
            (0, 101, None),
            (100, 1, None),
            (u64::MAX, u64::MAX, None),
        ] {
            assert_eq!(within(ByteRange { start, length }, 100), expected, "{length} bytes from {start} on");
        }
    }

    #[test]
    fn no_two_multipart_answers_have_one_boundary() {
        assert_ne!(random(), random());
    }
}
