//! Where a request head ends, and what is certainly wrong before it does.
//!
//! Each call looks at the head from its start, so a sender of single bytes costs one `memchr` over at most
//! [`HEAD_BYTES_MAX`] bytes per byte; fields are parsed once, when the head is whole.

use memchr::memchr3;

use crate::protocol::http1::error::RequestError;
use crate::protocol::http1::line::{RequestLine, check_beginning};
use crate::protocol::http1::request::{FIELDS_MAX, HEAD_BYTES_MAX};

/// How many empty lines before a request line are skipped. RFC 9112 2.2 asks for one, for clients that end a
/// body with a CR LF of their own.
const EMPTY_LINES_MAX: usize = 2;

/// A whole head, cut but not read.
pub(super) struct Head<'b> {
    pub(super) line: RequestLine<'b>,
    /// All field lines and the empty line after them.
    pub(super) fields: &'b [u8],
    /// From the buffer's start, skipped empty lines included.
    pub(super) bytes: usize,
}

/// The head at the start of the buffer; `None` while its end has not come and nothing is wrong with what has.
pub(super) fn locate(buffer: &[u8]) -> Result<Option<Head<'_>>, RequestError> {
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
    let fields_start = start + text.len() + LINE_BREAK.len();
    let Some(fields_bytes) = measure_fields(&window[fields_start..])? else { return pending(window) };
    let bytes = fields_start + fields_bytes;
    Ok(Some(Head { line, fields: &window[fields_start..bytes], bytes }))
}

const LINE_BREAK: &[u8] = b"\r\n";

enum Ending {
    LineBreak,
    /// Neither a line break nor anything that can't stand in a line has come.
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

/// A full window without a head's end can't become a head.
fn pending(window: &[u8]) -> Result<Option<Head<'_>>, RequestError> {
    if window.len() == HEAD_BYTES_MAX { Err(RequestError::HeadTooLong) } else { Ok(None) }
}

/// The first line, up to what ends it, be that an end or a fault.
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

/// How many bytes the field lines and the empty line after them have; `None` while that line has not come.
fn measure_fields(bytes: &[u8]) -> Result<Option<usize>, RequestError> {
    let mut at = 0;
    // One more than the fields: the empty line.
    for _ in 0..=FIELDS_MAX {
        let (text, ending) = first_line(&bytes[at..]);
        // httparse takes neither, but it would call them bad names, and only once the head is whole.
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
