//! The end of a request head, and the faults that are certain before it comes.
//!
//! Each call looks at the head from its start, so a sender of single bytes costs one `memchr` over at most
//! [`HEAD_BYTES_MAX`] bytes per byte; fields are parsed once, when the head is whole.

use memchr::memchr3;

use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::limits::{FIELDS_MAX, HEAD_BYTES_MAX};
use crate::protocol::http1::line::{RequestLine, check_beginning};
use crate::protocol::proxy_header;

/// The most empty lines before a request line that are skipped. RFC 9112 2.2 asks for one, for clients that end a
/// body with a CR LF of their own.
const EMPTY_LINES_MAX: usize = 2;

/// A whole head, cut but not read.
pub(super) struct Head<'b> {
    pub(super) line: RequestLine<'b>,
    /// All field lines and the empty line after them.
    pub(super) fields: &'b [u8],
    /// The bytes of the head from the buffer's start, skipped empty lines included.
    pub(super) bytes: usize,
}

/// Locates the head at the start of the buffer; `None` while its end has not come and no fault is certain.
/// `check_line` looks at the request line as soon as that has come.
pub(super) fn locate<'b>(
    buffer: &'b [u8],
    check_line: impl FnOnce(&RequestLine<'b>) -> Result<(), RequestError>,
) -> Result<Option<Head<'b>>, RequestError> {
    // A PROXY header is looked for only in bytes that are refused anyway.
    let is_proxy_header = || proxy_header::begins(buffer) == Some(true);
    find(buffer, check_line)
        .map_err(|error| if is_proxy_header() { RequestError::ProxyHeader } else { error })
}

fn find<'b>(
    buffer: &'b [u8],
    check_line: impl FnOnce(&RequestLine<'b>) -> Result<(), RequestError>,
) -> Result<Option<Head<'b>>, RequestError> {
    let window = &buffer[..buffer.len().min(HEAD_BYTES_MAX)];
    let start = skip_empty_lines(window);
    let (text, ending) = first_line(&window[start..]);
    check_beginning(text)?;
    match ending {
        Ending::LineBreak => {}
        Ending::Pending => return pending(window),
        Ending::Fault(error) => return Err(error),
    }
    let line = RequestLine::parse(text)?;
    check_line(&line)?;
    let fields_start = start + text.len() + LINE_BREAK.len();
    let Some(fields_bytes) = measure_fields(&window[fields_start..])? else { return pending(window) };
    let bytes = fields_start + fields_bytes;
    Ok(Some(Head { line, fields: &window[fields_start..bytes], bytes }))
}

/// The parts of a head in which something may be wrong.
pub(super) struct Cut<'b> {
    /// The request line, as far as it came.
    pub(super) line: &'b [u8],
    pub(super) is_line_whole: bool,
    /// The field lines, where all of them have come.
    pub(super) fields: Option<&'b [u8]>,
}

/// Cuts the bytes at the start of the buffer into parts, for a caller that only logs them.
pub(super) fn cut(buffer: &[u8]) -> Cut<'_> {
    let window = &buffer[..buffer.len().min(HEAD_BYTES_MAX)];
    let start = skip_empty_lines(window);
    let (line, ending) = first_line(&window[start..]);
    if !matches!(ending, Ending::LineBreak) {
        return Cut { line, is_line_whole: false, fields: None };
    }
    let rest = &window[start + line.len() + LINE_BREAK.len()..];
    let fields_bytes = measure_fields(rest).ok().flatten();
    Cut { line, is_line_whole: true, fields: fields_bytes.map(|bytes| &rest[..bytes]) }
}

const LINE_BREAK: &[u8] = b"\r\n";

enum Ending {
    LineBreak,
    /// Neither a line break nor a byte that can't stand in a line has come.
    Pending,
    Fault(RequestError),
}

fn skip_empty_lines(window: &[u8]) -> usize {
    let mut start = 0;
    for _ in 0..EMPTY_LINES_MAX {
        if window[start..].starts_with(LINE_BREAK) {
            start += LINE_BREAK.len();
        }
    }
    start
}

/// Refuses a full window, which can't become a head any more.
fn pending(window: &[u8]) -> Result<Option<Head<'_>>, RequestError> {
    if window.len() == HEAD_BYTES_MAX { Err(RequestError::HeadTooLong) } else { Ok(None) }
}

/// Returns the first line, up to its end or its first fault, and which of them ends it.
fn first_line(bytes: &[u8]) -> (&[u8], Ending) {
    let Some(at) = memchr3(b'\r', b'\n', 0, bytes) else { return (bytes, Ending::Pending) };
    let (text, rest) = bytes.split_at(at);
    let ending = match rest {
        [b'\r', b'\n', ..] => Ending::LineBreak,
        [b'\r'] => Ending::Pending,
        [b'\r', ..] => Ending::Fault(RequestError::BareCarriageReturn),
        [b'\n', ..] => Ending::Fault(RequestError::BareLineFeed),
        _ => Ending::Fault(RequestError::Nul),
    };
    (text, ending)
}

/// Returns the bytes of the field lines and the empty line after them; `None` while that line has not come.
fn measure_fields(bytes: &[u8]) -> Result<Option<usize>, RequestError> {
    let mut at = 0;
    // The range has one more than the fields, for the empty line.
    for _ in 0..=FIELDS_MAX {
        let (text, ending) = first_line(&bytes[at..]);
        // httparse takes neither of these bytes, but it would call them bad names, and only once the head is
        // whole.
        if let [b' ' | b'\t', ..] = text {
            return Err(RequestError::FoldedLine);
        }
        match ending {
            Ending::LineBreak => at += text.len() + LINE_BREAK.len(),
            Ending::Pending => return Ok(None),
            Ending::Fault(error) => return Err(error),
        }
        if text.is_empty() {
            return Ok(Some(at));
        }
    }
    Err(RequestError::TooManyFields)
}
